"""`migrate`: what a person and a program are told."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from tests.support.calling import call
from trio_alerts.commands import migrate
from trio_alerts.errors import LedgerError, SchemaError, StartError
from trio_alerts.ports.migration import Migrated, Progress
from trio_alerts.settings.settings import Settings

OLD, NEW = "alerts-000001", "alerts-000002"
GOES_ON = "`migrate` goes on with it, `migrate --abort` undoes it."


class FakeMigration:
    """One that does as it is told."""

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.fault: Exception | None = None
        self.waited_s = 1.25
        self.reported = [
            Progress("create", OLD),
            Progress("copy", OLD, NEW, 0, 100_000),
            Progress("copy", OLD, NEW, 500, 100_000),
            Progress("copy", OLD, NEW, 43_210, 100_000),
            Progress("hand_over", OLD, NEW, 100_000, 100_000, blocked=True),
        ]
        self.target = NEW
        self.signals: list[signal.Signals] = []

    async def status(self) -> Progress | None:
        await trio.lowlevel.checkpoint()
        return self.progress

    async def run(self, report: Callable[[Progress], None]) -> Migrated:
        for progress in self.reported:
            await trio.lowlevel.checkpoint()
            report(progress)
        for number in self.signals:
            signal.raise_signal(number)
            await trio.sleep_forever()
        if self.fault:
            raise self.fault
        return Migrated(OLD, NEW, 100_412, "00c0ffee00c0ffee", self.waited_s)

    async def abort(self) -> str:
        await trio.lowlevel.checkpoint()
        return self.target


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> FakeMigration:
    made = FakeMigration()

    @asynccontextmanager
    async def open_migration(_: Settings, __: Callable[[str], Awaitable[None]]) -> AsyncIterator[FakeMigration]:
        await trio.lowlevel.checkpoint()
        yield made

    monkeypatch.setattr(migrate, "open_migration", open_migration)
    return made


def test_a_person_sees_how_far_it_is_and_what_came_of_it(made: FakeMigration) -> None:
    """Each step at once, pages not more often than every two seconds; the last line says it all."""
    called = call("migrate")

    assert 0 == called.exit_code
    assert [
        "creating a new index",
        f"copying to {NEW}: 0 of 100,000 records (0 %)",
        f"handing over to {NEW}: 100,000 records copied",
    ] == called.err.splitlines()
    assert (
        f"Done: 100,412 records are in {NEW} now, behind alias alerts; writes waited for 1.2 s. "
        f"{OLD} is kept and takes no writes: delete it when you need it no more.\n"
    ) == called.out


def test_pages_are_told_every_two_seconds(made: FakeMigration, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the share that is copied."""
    monkeypatch.setattr(migrate, "TOLD_EVERY_S", -1.0)
    assert f"copying to {NEW}: 43,210 of 100,000 records (43 %)" in call("migrate").err.splitlines()


def test_another_call_may_have_done_it(made: FakeMigration) -> None:
    """Then nothing is known of how long writes waited."""
    made.waited_s = 0.0
    assert "behind alias alerts; another `migrate` did the last step." in call("migrate").out


def test_for_programs_it_is_one_object(made: FakeMigration) -> None:
    """Progress is objects on standard error."""
    called = call("migrate", "--json")

    assert {
        "migrated": True,
        "source": OLD,
        "target": NEW,
        "records": 100_412,
        "checksum": "00c0ffee00c0ffee",
        "waited_s": 1.25,
    } == msgspec.json.decode(called.out)
    last = msgspec.json.decode(called.err.splitlines()[-1])
    assert ("hand_over", 100_000, True) == (last["step"], last["copied"], last["blocked"])


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (None, "There was never a migration of alerts."),
        (Progress("create", OLD, NEW), f"creating {NEW}. {GOES_ON}"),
        (
            Progress("copy", OLD, NEW, 500, 1000),
            f"copying to {NEW}: 500 of 1,000 records (50 %). {GOES_ON}",
        ),
        (
            Progress("hand_over", OLD, NEW, 1000, 1000, blocked=True),
            f"handing over to {NEW}: 1,000 records copied; writes WAIT. {GOES_ON}",
        ),
        (
            Progress("done", OLD, NEW, 1000, 1000),
            f"Done: {NEW} has taken over from {OLD}, which is kept and takes no writes.",
        ),
    ],
)
def test_the_status_is_a_sentence(made: FakeMigration, progress: Progress | None, line: str) -> None:
    """What is so, and what may be done about it; for programs the same in fields."""
    made.progress = progress

    assert (0, f"{line}\n") == (call("migrate", "--status").exit_code, call("migrate", "--status").out)
    said = msgspec.json.decode(call("migrate", "--status", "--json").out)
    assert (progress.step if progress else None) == said["step"]


def test_an_abort_says_what_it_did(made: FakeMigration) -> None:
    """Or that there was nothing to do."""
    assert f"Aborted: {NEW} is gone, and writes go on as before.\n" == call("migrate", "--abort").out
    assert {"aborted": True, "target": NEW} == msgspec.json.decode(call("migrate", "--abort", "--json").out)
    made.target = ""
    assert (0, "There is no migration to abort.\n") == (
        call("migrate", "--abort").exit_code,
        call("migrate", "--abort").out,
    )


@pytest.mark.parametrize(
    ("fault", "code"), [(SchemaError("no index"), 3), (StartError("away"), 4), (LedgerError("less"), 5)]
)
def test_faults_have_their_exit_codes(made: FakeMigration, fault: Exception, code: int) -> None:
    """And their message is the last line."""
    made.fault = fault
    called = call("migrate")
    assert (code, f"trio-alerts: {fault}") == (called.exit_code, called.err.splitlines()[-1])


def test_one_thing_at_a_time(made: FakeMigration) -> None:
    """`--status` and `--abort` together mean nothing."""
    assert 2 == call("migrate", "--status", "--abort").exit_code


@pytest.mark.parametrize("option", [(), ("--status",), ("--abort",)])
def test_an_sqlite_file_needs_none(option: tuple[str, ...]) -> None:
    """One line, and exit code 0; the file is not even opened."""
    called = call("migrate", *option, store_url="sqlite:////nowhere/alerts.db")
    assert (0, 1) == (called.exit_code, len(called.out.splitlines()))
    assert "nothing to migrate: `run` brings an SQLite file up to date when it starts" in called.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_softly(made: FakeMigration, number: signal.Signals) -> None:
    """It lets writes through, as whenever it is cancelled, and says how far it is and what may be done."""
    made.signals = [number]
    made.progress = Progress("copy", OLD, NEW, 100_000, 100_000)
    called = call("migrate")

    assert 1 == called.exit_code
    assert f"trio-alerts: Stopped. copying to {NEW}: 100,000 of 100,000 records (100 %). {GOES_ON}\n" in called.err
    assert "" == called.out
