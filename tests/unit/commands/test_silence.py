"""`silence`: its arguments, what it prints, and its exit codes."""

import datetime as dt
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec
import pytest
import trio

from tests.support.calling import call
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream_server import FakeServer
from tests.unit.operations.desk import DELIVERED, record
from trio_alerts.commands import silence as command
from trio_alerts.commands.backends import operator_name
from trio_alerts.ports.silences import Silence, Silences
from trio_alerts.settings.settings import Settings

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
ADD = ("silence", "add", "view = Lending", "severity < high")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Give the server and the store that the command works on."""
    server, store = FakeServer(), FakeStore()
    monkeypatch.setattr(server, "time", NOW.timestamp)

    @asynccontextmanager
    async def silences(settings: Settings) -> AsyncIterator[Silences]:
        await trio.lowlevel.checkpoint()
        yield FakeSilences(server, settings)

    @asynccontextmanager
    async def records(_: Settings) -> AsyncIterator[FakeStore]:
        await trio.lowlevel.checkpoint()
        yield store

    monkeypatch.setattr(command, "open_silences", silences)
    monkeypatch.setattr(command, "open_records", records)
    return SimpleNamespace(server=server, store=store)


def kept(world: SimpleNamespace) -> list[Silence]:
    return [one for kept in world.server.silences.values() for one in kept.by_id.values()]


def test_a_silence_is_set(world: SimpleNamespace) -> None:
    """The line says which alerts, until when, and how to end it; who is the user, if nobody is named."""
    called = call(*ADD, "--for", "2h", "--why", "oracle moves")

    (silence,) = kept(world)
    assert (0, "") == (called.exit_code, called.err)
    assert (
        f"{silence.id}: view = Lending and severity < high until 2026-11-23T14:00:00Z (2 h); "
        f"`silence end {silence.id}` ends it\n"
    ) == called.out
    assert re.fullmatch("[0-9a-f]{8}", silence.id)
    assert ("oracle moves", operator_name()) == (silence.why, silence.by)


def test_programs_are_told_which_silence_it_is(world: SimpleNamespace) -> None:
    """When it is set, and when it is ended; a preview is one object."""
    added = msgspec.json.decode(call(*ADD, "--for", "2h", "--why", "x", "--json").out)
    (silence,) = kept(world)
    expected = {"id": silence.id, "until": "2026-11-23T14:00:00Z", "matchers": list(silence.matchers), "why": "x"}
    assert expected == added
    assert silence.id == msgspec.json.decode(call("silence", "end", silence.id, "--json").out)["id"]

    world.store.put(record(1, DELIVERED, severity="low", occurred_at=f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"))
    found = msgspec.json.decode(call("silence", "preview", "--json", "severity = low").out)
    assert (1, 1, {"low": 1}) == (found["seen"], found["matching"], found["by_severity"])


def test_every_alert_can_be_silenced_if_it_is_meant(world: SimpleNamespace) -> None:
    """Until a time, in the name of somebody."""
    until = "2026-11-24T12:00:00+01:00"
    called = call("silence", "add", "--all-alerts", "--until", until, "--why", "migration", "--by", "ann")

    (silence,) = kept(world)
    assert (0, (), "ann") == (called.exit_code, silence.matchers, silence.by)
    assert dt.datetime(2026, 11, 24, 11, 0, tzinfo=dt.UTC) == silence.until
    assert ": all alerts until 2026-11-24T11:00:00Z (23 h); " in called.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["add", "--for", "2h", "--why", "x"], "say which alerts, as in `silence add 'view = Lending'`"),
        (["add", "view = a", "--all-alerts", "--for", "2h", "--why", "x"], "--all-alerts matches every alert"),
        (["add", "view = a", "--why", "x"], "say when it ends: --until TIME or --for DURATION, one of them"),
        (["add", "view = a", "--for", "2h", "--until", "2027-01-01T00:00:00Z", "--why", "x"], "say when it ends"),
        (["add", "view = a", "--until", "2026-11-23T11:59:59Z", "--why", "x"], "would be over already"),
        (["add", "view = a", "--until", "tomorrow", "--why", "x"], "'tomorrow' is not a date or time"),
        (["add", "view = a", "--until", "2h", "--why", "x"], "'2h' is not a date or time"),
        (["add", "view = a", "--until", "2026-11-24T12:00:00", "--why", "x"], "is not a date or time"),
        (["add", "view = a", "--for", "0h", "--why", "x"], "'0h' is not a duration; use a number and a unit"),
        (["add", "view = a", "--for", "soon", "--why", "x"], "'soon' is not a duration"),
        (["add", "view = a", "--for", "999999999w", "--why", "x"], "is not a duration"),
        (["add", "view = a", "--for", "2h"], "say why"),
        (["add", "view = a", "--for", "2h", "--why", "  "], "say why"),
        (["add", "mood = bad", "--for", "2h", "--why", "x"], "mood"),
        (["add", "severity = low", "severity = high", "--for", "2h", "--why", "x"], "no alert can match all of these"),
        (["preview", 'view = "a*"', "view != a", 'view != "a?*"'], "write FIELD in [VALUE, VALUE]"),
        (["list", "view = a"], "`silence list` does not take MATCHER"),
        (["end"], "name one silence"),
        (["end", "1", "2"], "name one silence"),
        (["end", "1", "--all"], "`silence end` does not take --all"),
        (["preview"], "say which alerts"),
        (["preview", "view = a", "--for", "2h"], "`silence preview` does not take --for"),
        (["pause"], "invalid choice: 'pause'"),
    ],
)
def test_what_makes_no_sense_is_refused(world: SimpleNamespace, argv: list[str], message: str) -> None:
    """Exit code 2, one line, and nothing is written."""
    called = call("silence", *argv)

    assert (2, "", 1) == (called.exit_code, called.out, called.err.count("\n"))
    assert message in called.err
    assert [] == kept(world)


def test_silences_are_listed(world: SimpleNamespace) -> None:
    """Those that end first at the top; the ones that are over only with --all, and what others wrote on one line."""
    for hours, why in ((3, "later"), (1, "sooner\n\x1b[31m"), (2, "ended")):
        call(*ADD, "--for", f"{hours}h", "--why", why, "--by", "ann")
    ended = next(one for one in kept(world) if one.why == "ended")
    assert 0 == call("silence", "end", ended.id).exit_code

    header, *lines = call("silence", "list").out.splitlines()
    assert "id\tstate\tuntil\tby\twhy\tmatchers" == header
    assert [["60 min left", "sooner\\n\\x1b[31m"], ["3 h left", "later"]] == [line.split("\t")[1:5:3] for line in lines]
    assert ["ended", "60 min left", "3 h left"] == [
        line.split("\t")[1] for line in call("silence", "list", "--all").out.splitlines()[1:]
    ]
    documents = [json.loads(line) for line in call("silence", "list", "--all", "--json").out.splitlines()]
    assert {
        "id": ended.id,
        "state": "ended",
        "matchers": ["view = Lending", "severity < high"],
        "since": "2026-11-23T12:00:00Z",
        "until": "2026-11-23T12:00:00Z",
        "why": "ended",
        "by": "ann",
        "ended_by": operator_name(),
    } == documents[0]


def test_an_end_says_what_to_do_about_a_mistake(world: SimpleNamespace) -> None:
    """A second one, or one of a silence that never was, has exit code 1."""
    call(*ADD, "--for", "2h", "--why", "x")
    (silence,) = kept(world)

    assert (
        f"{silence.id}: ended; `redeliver --suppressed-by silence:{silence.id}` sends what it kept back\n"
        == call("silence", "end", silence.id).out
    )
    assert 1 == call("silence", "end", silence.id).exit_code
    assert 1 == call("silence", "end", "ff").exit_code


def test_a_preview_counts_what_a_silence_would_have_matched(world: SimpleNamespace) -> None:
    """The gravest first, then the newest alerts, each on one line; nothing is set."""
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    for number, severity in enumerate(["low", "critical", "low", "high"], 1):
        fields = {"view": "Lending", "scope": "aave", "title": "T\n", "severity": severity, "occurred_at": now}
        world.store.put(record(number, DELIVERED, **fields))

    called = call("silence", "preview", "severity != high")
    assert [
        "3 of 4 alerts that occurred in the last 24 h match: 1 critical, 2 low",
        "id\toccurred\tseverity\tview\tscope\ttitle",
        f"3-0\t{now}\tlow\tLending\taave\tT\\n",
        f"2-0\t{now}\tcritical\tLending\taave\tT\\n",
        f"1-0\t{now}\tlow\tLending\taave\tT\\n",
    ] == called.out.splitlines()
    assert "0 of 4 alerts that occurred in the last 24 h match\n" == call("silence", "preview", "view = X").out
    assert [] == kept(world)
