"""Reloads: what is taken up, what waits for a restart, and that a mistake changes nothing."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_alerts.channels.webhook import WebhookSettings
from trio_alerts.errors import SettingsError
from trio_alerts.pipeline.outage import Signal
from trio_alerts.reloads import ReloadOutcome, Reloads
from trio_alerts.secret import Secret
from trio_alerts.service_manager import ServiceManager
from trio_alerts.settings.addresses import parse_receiver_url
from trio_alerts.settings.changes import TAKEN_UP, differences, need_restart, taken_up
from trio_alerts.settings.settings import RouteSettings, Settings, make_up_consumer
from trio_alerts.settings.tables import describe

URL = parse_receiver_url("https://pager.example/hunter2")
PAGER = WebhookSettings(name="pager", url=URL, secret=Secret("aHVudGVyMg=="))
DESK = replace(PAGER, name="desk")
RUNNING = Settings(channels=(PAGER,), workers=4)


class Process(ServiceManager):
    """One that runs: what is read next, and what it uses; it hears itself that a reload has ended."""

    def __init__(self) -> None:
        super().__init__({})
        self.ended = Signal()
        self.next: Settings | Exception = RUNNING
        self.used: list[Settings] = []
        self.refuses: Exception | None = None
        self.reads = 0
        self.reading = trio.Event()
        self.go_on = trio.Event()
        self.go_on.set()
        self.reloads = Reloads(self.read, RUNNING)

    def read(self) -> Settings:
        self.reads += 1
        if isinstance(self.next, Exception):
            raise self.next
        return self.next

    def reloaded(self, status: str) -> None:
        self.ended.set()

    async def use(self, settings: Settings) -> None:
        self.reading.set()
        await self.go_on.wait()
        if self.refuses is not None:
            raise self.refuses
        self.used.append(settings)

    async def reload(self) -> tuple[dict[ReloadOutcome, int], bool]:
        """Reload once, and wait for its end."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.reloads.keep_reloading, self.use, self)
            self.reloads.ask()
            await self.ended.changed()
            nursery.cancel_scope.cancel()
        return {**self.reloads.counts}, self.reloads.last_was_ok


async def test_what_may_change_is_taken_up_and_the_rest_waits_for_a_restart(lines: list[str]) -> None:
    """Channels and routes at once; what else is new is named, and stays as it was, with one warning."""
    process, routes = Process(), (RouteSettings(name="all", channels=("desk",)),)
    process.next = replace(RUNNING, channels=(DESK,), routes=routes, workers=5, group="other")

    assert ({"ok": 1, "refused": 0}, True) == await process.reload()
    assert [replace(RUNNING, channels=(DESK,), routes=routes)] == process.used == [process.reloads.settings]
    assert [
        "WARNING the configuration has changes that need a restart, and wait for it: group, workers",
    ] == [line for line in lines if "restart" in line]


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (SettingsError("one\ntwo"), "one; two"),
        (replace(RUNNING, channels=()), "no channel is configured, so nobody would be notified"),
    ],
)
async def test_a_mistake_changes_nothing(lines: list[str], mistake: Settings | Exception, said: str) -> None:
    """One line says all that is wrong; the next good one is taken up as if nothing had been."""
    process = Process()
    process.next = mistake
    assert ({"ok": 0, "refused": 1}, False) == await process.reload()
    assert ([], RUNNING) == (process.used, process.reloads.settings)
    (line,) = lines
    assert f"ERROR the configuration is refused, and everything stays as it was: {said}" in line
    assert "refused" in process.reloads.status

    process.next = RUNNING
    assert ({"ok": 1, "refused": 1}, True) == await process.reload()
    assert "reads AlertStream as group alert-processor" == process.reloads.status


async def test_what_cannot_be_used_changes_nothing(lines: list[str]) -> None:
    """A route that leads nowhere, and a bug: the process goes on, and so do its reloads."""
    process = Process()
    for refuses, said in ((SettingsError("it leads nowhere"), "it leads nowhere"), (KeyError("x"), "report this bug")):
        process.refuses = refuses
        await process.reload()
        assert said in lines[-1] or said in "".join(lines)
    assert ({"ok": 0, "refused": 2}, RUNNING) == (process.reloads.counts, process.reloads.settings)


async def test_many_requests_are_one_reload_and_one_that_comes_meanwhile_another(nursery: trio.Nursery) -> None:
    """The file may have changed since it was read."""
    process = Process()
    process.go_on = trio.Event()
    for _ in range(3):
        process.reloads.ask()
    nursery.start_soon(process.reloads.keep_reloading, process.use, process)
    await process.reading.wait()
    assert 1 == process.reads
    for _ in range(3):
        process.reloads.ask()
    await wait_all_tasks_blocked(0.05)
    process.go_on.set()
    await process.ended.changed()
    await process.ended.changed()
    await wait_all_tasks_blocked(0.05)
    assert 2 == process.reads


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"channels": (PAGER, DESK)}, ["channel desk added"]),
        ({"channels": (DESK, replace(DESK, name="chat"))}, ["channels desk, chat added", "channel pager removed"]),
        ({"channels": (replace(PAGER, secret=None),)}, ["channel pager changed"]),
        ({"routes": (RouteSettings(name="all", channels=("pager",)),)}, ["routes changed"]),
        ({"networks": (ip_network("10.0.0.0/8"),)}, ["networks changed"]),
        ({"retry_schedule_s": (1.0,)}, ["retry_schedule_s changed"]),
    ],
)
def test_what_has_changed_is_said_by_names_alone(change: dict[str, Any], said: list[str]) -> None:
    """All else may be a secret."""
    after = replace(RUNNING, **change)
    assert said == list(differences(RUNNING, after))
    assert "hunter" not in "".join(said)
    assert after == taken_up(RUNNING, after)
    assert [] == need_restart(RUNNING, after)


@pytest.mark.parametrize("name", [name for name in describe(Settings) if name not in (*TAKEN_UP, "consumer")])
def test_everything_else_needs_a_restart(name: str) -> None:
    """But for what only the console uses, which is a process of its own."""
    change: Any = {name: object()}
    other = replace(RUNNING, **change)
    assert ([] if name.startswith("console_") else [name]) == need_restart(RUNNING, other)
    assert RUNNING == taken_up(RUNNING, other)


def test_a_consumer_is_new_only_if_somebody_says_so() -> None:
    """One that was made up is another one at each look."""
    made_up, given = replace(RUNNING, consumer=make_up_consumer()), replace(RUNNING, consumer="pod-7")
    assert ([], ["consumer"]) == (need_restart(RUNNING, made_up), need_restart(RUNNING, given))
    assert ["consumer"] == need_restart(given, made_up)
