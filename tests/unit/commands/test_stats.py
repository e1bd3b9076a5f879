"""`stats` and `audit` while a backend is away, and `stats --fail-over`."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from msgspec.structs import replace

from tests.support.calling import call
from tests.support.fakes.store import FakeStore
from tests.unit.commands.test_list import NOW, record, retrying
from trio_alerts import store
from trio_alerts.backends.redis.standing import Consumer, LostUnread, Position, Standing
from trio_alerts.commands import audit, stats
from trio_alerts.commands.thresholds import FIGURES
from trio_alerts.errors import SchemaError, StartError, Unavailable
from trio_alerts.ports.canaries import Sighting
from trio_alerts.ports.store import Pruned, Vitals
from trio_alerts.settings.settings import Settings

NOW_S = NOW.timestamp()
REDIS_GONE = "redis://10.0.0.1:6379/0 cannot be reached: connection refused"
STORE_GONE = "OpenSearch (http://10.0.0.2:9200) cannot be reached: connection refused"


class Ledger:
    """What Redis knows, by the name of the question; after the first page there is no more."""

    ANSWERS: Mapping[str, Any] = {
        "standing": Standing("AlertStream", 10, 3, 2, (Consumer("pod-1", 2, 1.5),), 4, 5, 6, 0, NOW_S - 75.25),
        "time": NOW_S,
        "deleted": [("1-1", "7-0"), ("1-2", "8-0")],
        "entries": [("7-0", "7-0"), ("9-0", "9-0")],
        "position": Position("9-0", None),
        "lost_unread": LostUnread(0, 0),
        "pending": [],
        "dead_letters": [],
        "dropped": [],
        "canary": Sighting(now_s=NOW_S, written_s=NOW_S - 130, through_s=NOW_S - 130, lost="its record is failed"),
    }

    def __init__(self, backends: "Backends") -> None:
        self._backends = backends

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def answer(_: str = "", after: str = "") -> Any:
            await trio.lowlevel.checkpoint()
            if self._backends.redis_lost:
                raise Unavailable(REDIS_GONE)
            return [] if after else self._backends.owner if name == "deployment" else self.ANSWERS[name]

        return answer


class Backends:
    """Both, and what is wrong with them: when they are opened, or later."""

    def __init__(self) -> None:
        self.store = FakeStore()
        self.redis_fault: Exception | None = None
        self.store_fault: Exception | None = None
        self.redis_lost = False
        self.owner: str | None = None

    @asynccontextmanager
    async def open_ledger(self, _: Settings) -> AsyncIterator[Ledger]:
        await trio.lowlevel.checkpoint()
        if self.redis_fault is not None:
            raise self.redis_fault
        try:
            yield Ledger(self)
        except Unavailable as error:  # as `opener` does
            raise StartError(f"Redis: {error}") from error

    @asynccontextmanager
    async def open_store(self, _: Settings) -> AsyncIterator[FakeStore]:
        await trio.lowlevel.checkpoint()
        if self.store_fault is not None:
            raise self.store_fault
        yield self.store


@pytest.fixture
def backends(monkeypatch: pytest.MonkeyPatch) -> Backends:
    backends = Backends()
    monkeypatch.setattr(stats, "open_ledger", backends.open_ledger)
    monkeypatch.setattr(audit, "open_ledger", backends.open_ledger)
    monkeypatch.setattr(store, "open_store", backends.open_store)
    backends.store.put(record(7, retrying()))
    return backends


def as_json(*argv: str, exit_code: int = 0) -> dict[str, Any]:
    called = call("stats", "--json", *argv)
    assert exit_code == called.exit_code, called.err
    told: dict[str, Any] = msgspec.json.decode(called.out)
    return told


def test_both_there(backends: Backends) -> None:
    """Nothing is missing; what was deleted and has a record is not lost."""
    told = as_json()
    assert ([], 3, 2, 6 + 1, {"retrying": 1}) == tuple(
        told[name] for name in ("missing", "not_read", "pending", "lost_upstream", "states")
    )
    assert "missing" not in call("stats").out


def test_canaries_are_shown_if_asked_for(backends: Backends) -> None:
    """Beside the figures, in which they are not: where the last one is, and how old the last that came through."""
    assert "canary" not in call("stats").out
    assert "canaries" not in as_json()
    assert [
        "canary of stream AlertStream: the last one was lost: its record is failed",
        "  the last one that came through was written 2 min ago",
    ] == call("stats", "--canaries").out.splitlines()[-2:]
    assert NOW_S - 130 == as_json("--canaries")["canaries"]["AlertStream"]["through_s"]


def test_what_was_pruned_is_counted(backends: Backends) -> None:
    """By `stats` and by `audit`, of all streams, and once."""
    backends.store.kept = {"AlertStream": Pruned(40, "5-0"), "another": Pruned(2, "5-0")}
    assert 42 == as_json()["pruned"]
    assert re.search(r"^pruned +42$", call("stats").out, re.MULTILINE)
    told = msgspec.json.decode(call("audit", "--json").out)
    assert (42, 42 + 3) == (told["pruned"], told["seen"])


def test_a_doubt_counts_whatever_the_state_of_its_record(backends: Backends) -> None:
    """One channel is in doubt, another is retried: figure, page and threshold say 1; `states` counts it as retried."""
    doubtful = replace(retrying(), in_doubt_channels=("webhook",))
    backends.store.put(record(8, doubtful))

    told = as_json()
    assert (1, {"retrying": 2}) == (told["in_doubt"], told["states"])
    assert re.search(r"^in_doubt +1$", call("stats").out, re.MULTILINE)
    called = call("stats", "--fail-over", "in_doubt=0")
    assert (5, "trio-alerts: in_doubt is 1: 1 over 0\n") == (called.exit_code, called.err)


def test_states_of_a_newer_version_are_counted_and_named(backends: Backends) -> None:
    """They are `unknown` together, and the log says which they are."""
    for number, state in ((8, "paused"), (9, "paused"), (10, "bogus")):
        backends.store.put(record(number, replace(retrying(), state=state)))
    called = call("stats", "--json")
    assert 0 == called.exit_code
    assert {"retrying": 1, "unknown": 3} == msgspec.json.decode(called.out)["states"]
    assert "only a newer version, or somebody else, writes: 2 'paused', 1 'bogus'" in called.err


def test_what_a_newer_version_recorded_is_neither_lost_nor_missing(backends: Backends) -> None:
    """Entry 7 was deleted while it was pending, and its record holds what nobody here can read: it is not lost."""
    backends.store.put(record(8, replace(retrying(), state="delivered")))
    backends.store.put(record(9, replace(retrying(), state="delivered")))
    backends.store.unknown_in = lambda one: "delivery.since" if one.id == "7-0" else ""

    assert 6 == as_json()["lost_upstream"]
    audited = call("audit", "--json")
    fates = msgspec.json.decode(audited.out)
    assert (0, 1, 2, 0, True) == (
        audited.exit_code,
        *(fates[name] for name in ("unknown", "delivered", "missing", "balanced")),
    )


def test_store_away(backends: Backends) -> None:
    """What Redis knows is told, and what is missing; the store is blamed, in one line, with exit code 4."""
    backends.store_fault = StartError(STORE_GONE)
    called = call("stats")
    assert (4, f"trio-alerts: {STORE_GONE}\n") == (called.exit_code, called.err)
    lines = [" ".join(line.split()) for line in called.out.splitlines()]
    for line in ("not read yet 3", "pending 2", "quarantined 4", "records by state -", "overdue retries -"):
        assert line in lines
    assert "oldest undelivered 75.2 s" in lines
    assert "missing: what the store knows; the error says why" in lines
    told = as_json(exit_code=4)
    assert (["store"], 3, None, None) == tuple(told[name] for name in ("missing", "not_read", "states", "overdue"))


def test_redis_away(backends: Backends) -> None:
    """The other way round; also where it goes away in the middle."""
    for fault, lost in ((StartError(f"Redis: {REDIS_GONE}"), False), (None, True)):
        backends.redis_fault, backends.redis_lost = fault, lost
        called = call("stats")
        assert (4, f"trio-alerts: Redis: {REDIS_GONE}\n") == (called.exit_code, called.err)
        told = as_json(exit_code=4)
        assert (["redis"], None, {"retrying": 1}) == tuple(told[name] for name in ("missing", "not_read", "states"))


def test_a_store_that_cannot_be_trusted(backends: Backends) -> None:
    """Exit code 3, and Redis's part all the same."""
    backends.store_fault = SchemaError("there is no index yet")
    assert (["store"], 3) == (as_json(exit_code=3)["missing"], as_json(exit_code=3)["not_read"])


@pytest.mark.parametrize("owner", [None, "another"])
def test_a_store_of_another_deployment_balances_nothing(backends: Backends, owner: str | None) -> None:
    """Two ledgers that do not belong together: `audit` refuses, `stats` tells what Redis knows and why no more."""
    backends.store.owner, backends.owner = "ours", owner

    for command in ("stats", "audit"):
        called = call(command)
        assert 3 == called.exit_code
        assert "The store belongs to deployment ours" in called.err
    assert ["store"] == as_json(exit_code=3)["missing"]


@pytest.mark.parametrize("command", ["stats", "audit"])
def test_both_away(backends: Backends, command: str) -> None:
    """One line for each, exit code 4, and nothing that looks like a result."""
    backends.redis_fault, backends.store_fault = StartError(f"Redis: {REDIS_GONE}"), StartError(STORE_GONE)
    called = call(command)
    assert (4, "") == (called.exit_code, called.out)
    assert f"trio-alerts: Redis: {REDIS_GONE}\n{STORE_GONE}\n" == called.err


@pytest.mark.parametrize(
    ("command", "method"), [("stats", "counts"), ("stats", "get"), ("audit", "search"), ("audit", "get")]
)
def test_a_store_that_goes_away_in_the_middle(
    backends: Backends, monkeypatch: pytest.MonkeyPatch, command: str, method: str
) -> None:
    """Whichever request fails, Redis is not blamed for it."""

    async def fail(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise Unavailable(STORE_GONE)

    monkeypatch.setattr(backends.store, method, fail)
    called = call(command)
    assert (4, f"trio-alerts: {STORE_GONE}\n") == (called.exit_code, called.err)


def test_audit_blames_redis_for_what_redis_does(backends: Backends) -> None:
    """Also when it goes away after both were opened."""
    backends.redis_lost = True
    called = call("audit")
    assert 4 == called.exit_code
    assert REDIS_GONE in called.err
    assert 1 == len(called.err.splitlines())


def test_thresholds(backends: Backends) -> None:
    """What is over its number is a line with the name and by how much, behind the page, and exit code 5."""
    called = call("stats", "--fail-over", "oldest=60,overdue=0,pending=2,quarantined=1,lost=6.5")
    assert 5 == called.exit_code
    assert "not read yet" in called.out
    assert [
        "trio-alerts: oldest is 75.25: 15.25 over 60",
        "quarantined is 4: 3 over 1",
        "lost is 7: 0.5 over 6.5",
    ] == called.err.splitlines()
    assert 4 == as_json("--fail-over", "quarantined=1", exit_code=5)["quarantined"]
    assert 0 == call("stats", "--fail-over", "oldest=76,failed=0,lag=3").exit_code


def test_every_figure_has_a_threshold(backends: Backends) -> None:
    """Every name is known to the figures; none is over a million. Those of the JSON do as well."""
    assert 0 == call("stats", "--fail-over", ",".join(f"{name}=1e6" for name in FIGURES)).exit_code
    called = call("stats", "--fail-over", "not_read=0,lost_upstream=0,oldest_undelivered_s=0,repeated_alert_ids=0")
    assert ["lag", "lost", "oldest"] == [
        line.removeprefix("trio-alerts: ").split()[0] for line in called.err.splitlines()
    ]


def test_what_is_not_known_is_not_within_its_threshold(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend away, or figures that take too long: exit code 4, not 0."""

    async def vitals() -> Vitals:
        await trio.lowlevel.checkpoint()
        raise Unavailable("too slow")

    monkeypatch.setattr(backends.store, "vitals", vitals)
    called = call("stats", "--fail-over", "repeated=5")
    assert (4, "trio-alerts: repeated is unknown and cannot be compared with 5\n") == (called.exit_code, called.err)
    backends.store_fault = StartError(STORE_GONE)
    called = call("stats", "--fail-over", "overdue=0,oldest=60")
    assert 5 == called.exit_code, "what is over is over, whatever is missing"
    assert "overdue is unknown" in called.err


@pytest.mark.parametrize(
    "text", ["", "oldest", "oldest=", "oldest=x", "oldest=-1", "oldest=nan", "oldest=inf", "olde=1", "oldest=1,", "=1"]
)
def test_a_threshold_that_makes_no_sense_is_refused(backends: Backends, text: str) -> None:
    """Exit code 2, before anything is asked; an unknown name gets the list."""
    called = call("stats", "--fail-over", text)
    assert (2, "") == (called.exit_code, called.out)
    if not text.startswith("oldest") or text == "oldest=1,":
        assert f"there are: {', '.join(FIGURES)}" in called.err
