"""`check`: everything that `run` would refuse, all of it at once, and `run`'s exit code."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tests.support.calling import Called, call
from trio_alerts.channels.http import HttpChannel
from trio_alerts.commands import check
from trio_alerts.errors import AlertError, SchemaError, SettingsError, StartError, Unavailable
from trio_alerts.settings.settings import Settings

HOOK = "https://hooks.example/T0/hunter2"


class Backend:
    """A stream or a store as `check` sees it: refuses to open or to be inspected, or names what would be created."""

    def __init__(self, found: list[str] | AlertError, refuses: AlertError | None = None) -> None:
        self.found = found
        self.refuses = refuses
        self.owner: str | None = None

    async def deployment(self) -> str | None:
        await trio.lowlevel.checkpoint()
        return self.owner

    async def inspect(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        if isinstance(self.found, AlertError):
            raise self.found
        return self.found

    def opener(self) -> Callable[[Settings], AbstractAsyncContextManager["Backend"]]:
        @asynccontextmanager
        async def opened(_: Settings) -> AsyncIterator[Backend]:
            await trio.lowlevel.checkpoint()
            if self.refuses:
                raise self.refuses
            yield self

        return opened


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> tuple[Backend, Backend]:
    """The stream and the store."""
    stream, store = Backend([]), Backend([])
    monkeypatch.setattr(check, "open_redis_stream", stream.opener())
    monkeypatch.setattr(check, "open_store", store.opener())
    monkeypatch.setattr(HttpChannel, "why_unreachable", reachable)
    return stream, store


async def reachable(channel: HttpChannel, deadline: float) -> str | None:
    """Every channel but those whose name says otherwise; no test asks a name server."""
    await trio.lowlevel.checkpoint()
    assert deadline <= trio.current_time() + check.REACH_BOUND_S
    return "cannot resolve 'nowhere.example'" if channel.name == "lost" else None


def checked(*options: str) -> Called:
    return call("check", *options, webhook_url=HOOK)


def test_all_is_well(backends: tuple[Backend, Backend]) -> None:
    """Nothing to mend: exit code 0, what would be created is named, and no secret is."""
    stream, store = backends
    stream.found = ["group 'g' would be created"]
    store.found = ["index 'alerts-000001' would be created", "alias 'alerts' would be created"]

    called = checked("--redis-url", "redis://:hunter3@127.0.0.1:6379/0")

    assert (0, "") == (called.exit_code, called.err)
    assert "redis     group 'g' would be created\n" in called.out
    assert "store     alias 'alerts' would be created\n" in called.out
    assert called.out.endswith("`run` would start\n")
    assert "hunter" not in called.out


def test_every_problem_is_told(backends: tuple[Backend, Backend]) -> None:
    """It goes on after each problem: one run shows all that is to be mended."""
    stream, store = backends
    stream.found = SettingsError("1,500 entries wait")
    store.found = SchemaError("view is text\nscope is text")

    called = call("check", fault="nowhere:kill")

    assert 2 == called.exit_code
    lines = called.err.splitlines()
    assert lines[0].startswith("channels  PROBLEM: no channel is configured")
    assert lines[1].startswith("settings  PROBLEM: TRIO_ALERTS_FAULT='nowhere:kill' is not POINT:ACTION")
    assert [
        "store     PROBLEM: view is text",
        "store     PROBLEM: scope is text",
        "redis     PROBLEM: 1,500 entries wait",
        "`run` would not start: exit code 2",
    ] == lines[2:]


def test_programs_get_all_findings_as_one_object(backends: tuple[Backend, Backend]) -> None:
    """Notes and problems in the order in which they were found, and whether `run` would start."""
    stream, store = backends
    stream.found, store.found = ["group 'g' would be created"], SchemaError("view is text\nscope is text")

    called = checked("--json")

    found = msgspec.json.decode(called.out)
    assert (3, "", 3, False) == (called.exit_code, called.err, found["exit_code"], found["would_start"])
    assert [("store", True, "view is text\nscope is text"), ("redis", False, "group 'g' would be created")] == [
        (one["part"], one["problem"], one["text"]) for one in found["findings"][-2:]
    ]
    store.found = []
    assert msgspec.json.decode(checked("--json").out)["would_start"]


@pytest.mark.parametrize(
    ("stream", "store", "expected"),
    [
        (Backend([], StartError("no Redis")), Backend([]), 4),
        (Backend([]), Backend([], StartError("no store")), 4),
        (Backend([], StartError("no Redis")), Backend(SchemaError("text")), 4),
        (Backend(SettingsError("waiting")), Backend(SchemaError("text")), 3),
        (Backend(SettingsError("waiting")), Backend([]), 2),
        (Backend(StartError("evicts")), Backend([]), 4),
        (Backend(Unavailable("later")), Backend([]), 4),
        (Backend([]), Backend(Unavailable("later")), 4),
    ],
)
def test_exit_code_is_that_of_run(
    backends: tuple[Backend, Backend], stream: Backend, store: Backend, expected: int
) -> None:
    """The first problem that `run` would meet decides: it connects to Redis, then to the store, then looks closer."""
    for mine, theirs in zip(backends, (stream, store), strict=True):
        mine.found, mine.refuses = theirs.found, theirs.refuses

    called = checked()

    assert expected == called.exit_code
    assert called.err.endswith(f"`run` would not start: exit code {expected}\n")
    assert "Traceback" not in called.err


def test_a_channel_that_cannot_be_reached_now_is_a_warning(backends: tuple[Backend, Backend], tmp_path: Path) -> None:
    """A name that does not resolve, a closed port: `run` would start, and try its alerts again."""
    config = tmp_path / "alerts.toml"
    tables = [f'[[channels]]\nname = "{name}"\nurl = "{HOOK}/{name}"\n' for name in ("well", "lost")]
    config.write_text("".join(tables), "utf-8")

    called = checked("--config", str(config))

    assert (0, "") == (called.exit_code, called.err)
    warning = "channels  warning: lost cannot be reached now; its alerts would be retried: cannot resolve 'nowhere"
    assert warning in called.out
    assert 1 == called.out.count("warning")
    assert "hunter" not in called.out


def test_a_store_of_another_deployment_is_a_problem(backends: tuple[Backend, Backend]) -> None:
    """`check` says whose both are, with the exit code of `run`."""
    stream, store = backends
    store.owner = stream.owner = "alert-processor-20261125-0a0a0a0a"
    assert "store     of deployment alert-processor-20261125-0a0a0a0a\n" in checked().out

    stream.owner = None
    called = checked()
    assert 3 == called.exit_code
    assert "store     PROBLEM: The store belongs to deployment alert-processor-20261125-0a0a0a0a" in called.err


def test_a_warning_is_no_problem(backends: tuple[Backend, Backend]) -> None:
    """What is allowed but not wise is told, and the exit code stays 0."""
    called = checked("--webhook-secret", "c2hvcnQ=")

    assert 0 == called.exit_code
    assert "settings  warning: the secret of channel 'webhook' has 5 bytes" in called.out


ROUTES = """
[[channels]]
name = "page"
url = "https://hooks.example/page"
[[channels]]
name = "chat"
url = "https://hooks.example/chat"
[[routes]]
name = "urgent"
matchers = ["severity >= high"]
channels = ["page"]
[[routes]]
name = "calm"
matchers = ["severity <= %s"]
channels = ["chat"]
"""


@pytest.mark.parametrize(("severity", "expected"), [("low", 2), ("medium", 0)])
def test_routes_are_proven(backends: tuple[Backend, Backend], tmp_path: Path, severity: str, expected: int) -> None:
    """An alert that would lead nowhere is shown, exit code 2; who depends on one channel is a warning."""
    config = tmp_path / "alerts.toml"
    config.write_text(ROUTES % severity, "utf-8")

    called = call("check", "--config", str(config))

    assert expected == called.exit_code
    if expected:
        assert (
            "routes    PROBLEM: an alert that no route matches would lead nowhere, such as: severity = med"
            in called.err
        )
    else:
        assert "routes    2; every alert leads somewhere\n" in called.out
        assert "routes    warning: critical alerts reach nobody while channel 'page' fails\n" in called.out


@pytest.mark.parametrize(("after_s", "late"), [(19.9, True), (20, False)])
def test_a_fallback_that_can_be_late_is_a_warning(
    backends: tuple[Backend, Backend], tmp_path: Path, after_s: float, late: bool
) -> None:
    """Shorter than both time-outs together: an attempt that is under way ends first."""
    config = tmp_path / "alerts.toml"
    fallback = f'[[routes]]\nname = "all"\nchannels = ["page"]\nfallback = ["chat"]\nfallback_after_s = {after_s}\n'
    config.write_text(ROUTES.partition("[[routes]]")[0] + fallback, "utf-8")

    called = call("check", "--config", str(config))

    assert (0, "") == (called.exit_code, called.err)
    assert late == ("routes    warning: route 'all': its fallback can be late: fallback_after_s (19.9)" in called.out)
    assert late == ("warning" in called.out)  # nor do critical alerts depend on one channel
