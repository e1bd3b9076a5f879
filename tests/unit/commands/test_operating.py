"""`redeliver`, `resolve` and the options of `dead`, on fakes: which records they touch, and which they must not."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from tests.support.calling import Called, call
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import FakeServer
from tests.unit.commands.test_alert_file import line
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.clock import ServerClock
from trio_alerts.commands import redeliver, resolve
from trio_alerts.commands.at_once import at_once
from trio_alerts.commands.operating import Changed, LeftAlone, Operation, operator
from trio_alerts.delivery import Delivery
from trio_alerts.errors import Unavailable
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.transitions import first_attempt, quarantined, settled, suppressed

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOOK = "https://hooks.example/T0"


def sending(lease_s: float) -> Delivery:
    return first_attempt(["webhook"], "them/1", NOW, lease_s)


def after(outcome: Outcome, hold: frozenset[str] = frozenset()) -> Delivery:
    return settled(sending(60), {"webhook": (outcome, 0.1)}, NOW, RetryPolicy((5, 30), hold))


FAILED = after(Refused("no", 410))
RETRYING = after(Retry("busy", 503))
IN_DOUBT = after(Retry("lost", unseen=True), frozenset({"webhook"}))
DELIVERED = after(Accepted(200))


class StoppedClock(ServerClock):
    """It is always now."""

    def now(self) -> dt.datetime:
        return NOW


class Desk:
    """The backends that the commands get."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.store = FakeStore()

    def put(self, number: int, delivery: Delivery, **fields: object) -> str:
        entry = Entry("AlertStream", f"{number}-0", {b"event": line(f"alert-{number}", **fields)}, f"{number}-0")
        self.store.put(Record(entry.record_id, parse_entry(entry, NOW).body, delivery))
        return entry.record_id

    @asynccontextmanager
    async def open(self, settings: Settings) -> AsyncIterator[Operation]:
        await trio.lowlevel.checkpoint()
        yield Operation(FakeStream(self.server, settings), self.store, StoppedClock())

    @property
    def states(self) -> list[str]:
        return [stored.record.delivery.state for stored in self.store.records.values()]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()
    monkeypatch.setattr(redeliver, "open_operation", desk.open)
    monkeypatch.setattr(resolve, "open_operation", desk.open)
    return desk


def told(called: Called) -> list[str]:
    """Return the lines without the last one, which counts."""
    return called.out.splitlines()[:-1]


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (DELIVERED, "it is delivered"),
        (suppressed("night"), "the rule 'night' suppressed it"),
        (quarantined(sending(60), "max_deliveries"), "its entry is in quarantine; `dead replay` puts it back"),
        (sending(60), "it is being sent now"),
    ],
)
def test_what_is_not_to_be_sent_again_is_left_alone(desk: Desk, delivery: Delivery, reason: str) -> None:
    """Named by its ID: exit code 1, the reason, and no write."""
    record_id = desk.put(1, delivery)
    called = call("redeliver", record_id)
    assert (1, [f"{record_id}\tleft alone: {reason}"]) == (called.exit_code, told(called))
    assert [] == desk.store.called("replace")


@pytest.mark.parametrize("delivery", [FAILED, RETRYING, IN_DOUBT, sending(-1)])
def test_what_is_not_delivered_is_due_now(desk: Desk, delivery: Delivery) -> None:
    """Also an attempt whose lease has lapsed; the redriver finds it, and its owner is nobody who sends."""
    record_id = desk.put(1, delivery)
    called = call("redeliver", record_id, webhook_url=HOOK)
    assert (0, [f"{record_id}\tis due now through webhook"]) == (called.exit_code, told(called))
    now = desk.store[record_id]
    assert ("retrying", NOW) == (now.state, now.next_attempt_at)
    assert now.owner.startswith(operator())


@pytest.mark.parametrize("delivery", [FAILED, RETRYING, sending(-1)])
def test_an_entry_that_is_pending_belongs_to_the_stream(desk: Desk, delivery: Delivery) -> None:
    """A worker has it, or will take it over: two owners would send it twice."""

    async def leave_pending() -> None:
        stream = FakeStream(desk.server, Settings(consumer="worker"))
        await stream.prepare()
        desk.server.add("AlertStream", {b"event": b"{}"}, "1-0")
        await stream.read(1)

    record_id = desk.put(1, delivery)
    trio.run(leave_pending)
    called = call("redeliver", record_id)
    assert 1 == called.exit_code
    assert "its entry is still pending" in called.out
    assert delivery == desk.store[record_id]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--view a", "retrying retrying delivered in_doubt failed"),
        ("--state failed", "retrying retrying delivered in_doubt retrying"),
        ("--state retrying", "failed retrying delivered in_doubt failed"),
        ("--in-doubt", "failed retrying delivered retrying failed"),
        ("--in-doubt --view b", "failed retrying delivered in_doubt failed"),
        ("--in-doubt --state failed", "retrying retrying delivered retrying retrying"),
        ("--state in_doubt", "failed retrying delivered retrying failed"),
        ("--state delivered", "failed retrying delivered in_doubt failed"),
        ("--since 1h", "retrying retrying delivered in_doubt retrying"),
    ],
)
def test_filters_choose_what_is_sent_again(desk: Desk, argv: str, expected: str) -> None:
    """What failed or is retried, unless states are named; what is in doubt only when it is meant."""
    when = NOW.isoformat()
    for number, delivery in enumerate([FAILED, RETRYING, DELIVERED, IN_DOUBT], 1):
        desk.put(number, delivery, view="a", occurred_at=when)
    desk.put(5, FAILED, view="b", occurred_at=when)
    called = call("redeliver", *argv.split())
    assert 0 == called.exit_code
    assert expected.split() == desk.states
    due = [stored.record.delivery.next_attempt_at == NOW for stored in desk.store.records.values()]
    assert f"{sum(due)} due now" in called.out


def test_a_channel_in_doubt_is_held_also_beside_others(desk: Desk) -> None:
    """Chosen by a filter, the channels that failed are sent to, and the one in doubt is not."""
    both = settled(
        first_attempt(["a", "b"], "them/1", NOW, 60),
        {"a": (Retry("busy", 503), 0.1), "b": (Retry("lost", unseen=True), 0.1)},
        NOW,
        RetryPolicy((5, 30), frozenset({"b"})),
    )
    record_id = desk.put(1, both)
    assert "is due now through a\n" in call("redeliver", "--state", "retrying").out
    assert ["retrying", "in_doubt"] == [channel.state for channel in desk.store[record_id].channels]


def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    """It says what would be done."""
    record_id = desk.put(1, FAILED)
    called = call("redeliver", record_id, "--dry-run")
    assert (0, f"{record_id}\twould be due now through webhook") == (called.exit_code, told(called)[0])
    assert FAILED == desk.store[record_id]


def test_many_records_are_taken_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, although what was written is found by the same filter."""
    monkeypatch.setattr(redeliver, "PAGE", 7)
    for number in range(100, 150):
        desk.put(number, FAILED if number % 2 else RETRYING)
    called = call("redeliver", "--state", "failed", "--state", "retrying")
    assert 50 == len(set(told(called))) == len(told(called))
    assert 50 == len(desk.store.called("replace"))
    assert 0 == call("redeliver", *[f"{number}-0" for number in range(100, 150)], "--dry-run").exit_code


def test_a_search_that_is_behind_chooses_nothing_wrong(desk: Desk) -> None:
    """What a human has settled since is not sent again by a filter that still finds it in doubt."""
    desk.store.lagging = True
    record_id = desk.put(1, IN_DOUBT)
    desk.store.refresh()
    desk.put(1, FAILED)
    called = call("redeliver", "--in-doubt")
    assert (0, [f"{record_id}\tleft alone: it is failed by now"]) == (called.exit_code, told(called))
    assert FAILED == desk.store[record_id]


def test_of_two_writers_one_wins(desk: Desk) -> None:
    """A record that moves on between the look and the write is looked at again: what is delivered by then stays."""
    record_id = desk.put(1, RETRYING)
    plain = desk.store.get

    async def deliver_after_the_look(asked: str) -> object:
        stored = await plain(asked)
        if "delivered" not in desk.states:
            desk.put(1, DELIVERED)
        return stored

    desk.store.get = deliver_after_the_look  # type: ignore[method-assign,assignment]
    called = call("redeliver", record_id)
    assert (1, [f"{record_id}\tleft alone: it is delivered"]) == (called.exit_code, told(called))
    assert DELIVERED == desk.store[record_id]


async def test_a_write_whose_answer_was_a_conflict_is_recognised(desk: Desk) -> None:
    """Our own token in the record means that the first try happened: it is not left alone, nor written twice."""
    record_id = desk.put(1, FAILED)
    plain, writes = desk.store.replace, []

    async def happen_and_conflict(record: Record, version: tuple[int, int]) -> object:
        writes.append(record)
        await plain(record, version)
        return await plain(record, version)

    desk.store.replace = happen_and_conflict  # type: ignore[method-assign,assignment]
    async with desk.open(Settings()) as operation:
        result = await operation.change(record_id, once)
    assert isinstance(result, Changed)
    assert 1 == len(writes)


def once(delivery: Delivery, owner: str) -> Delivery:
    assert "retrying" != delivery.state, "it was decided a second time"
    return Delivery(state="retrying", owner=owner, channels=delivery.channels)


async def test_what_a_human_made_unreadable_is_left_alone(desk: Desk) -> None:
    """One such record ends nothing."""
    async with desk.open(Settings()) as operation:
        result = await operation.change("1-0", lambda delivery, _: delivery)
    assert LeftAlone("there is no such record") == result


@pytest.mark.parametrize("argv", [[], ["1-0", "--view", "a"], ["1-0", "--state", "failed"], ["--dry-run"]])
def test_it_must_be_said_what_is_sent_again(desk: Desk, argv: list[str]) -> None:
    """Nothing, or both ways at once: exit code 2, and no write."""
    desk.put(1, FAILED)
    assert 2 == call("redeliver", *argv).exit_code
    assert [FAILED.state] == desk.states


def test_options_may_stand_between_operands(desk: Desk) -> None:
    """Shell users append and insert options as they think of them."""
    ids = [desk.put(number, FAILED) for number in (1, 2)]
    called = call("redeliver", ids[0], "--dry-run", ids[1])
    assert (0, 2) == (called.exit_code, len(told(called)))


@pytest.mark.parametrize("verdict", ["delivered", "failed"])
def test_resolve_settles(desk: Desk, verdict: str) -> None:
    """The record is as the human says; asked again, nothing is in doubt any more: exit code 1."""
    record_id = desk.put(1, IN_DOUBT)
    called = call("resolve", record_id, verdict)
    assert (0, f"{record_id}: settled as {verdict}; the record is {verdict}\n") == (called.exit_code, called.out)
    assert verdict == desk.store[record_id].state
    assert operator() in str(desk.store[record_id].reason)
    again = call("resolve", record_id, "failed" if verdict == "delivered" else "delivered")
    assert (1, verdict) == (again.exit_code, desk.store[record_id].state)


@pytest.mark.parametrize("delivery", [FAILED, RETRYING, DELIVERED, sending(60), suppressed("night")])
def test_resolve_touches_nothing_else(desk: Desk, delivery: Delivery) -> None:
    """What is not in doubt is nothing to settle: exit code 1, no write."""
    record_id = desk.put(1, delivery)
    assert 1 == call("resolve", record_id, "delivered").exit_code
    assert delivery == desk.store[record_id]
    assert 2 == call("resolve", record_id, "maybe").exit_code


@pytest.mark.parametrize(
    "argv",
    [
        "",
        "look",
        "list 1-0",
        "list --all",
        "list --limit 0",
        "show",
        "show 1-0 2-0",
        "show nonsense",
        "replay",
        "replay 1-0 --all",
        "replay --all --reason x",
        "replay 1-0 --yes",
        "drop",
        "drop --all --reason bad_event --yes",
        "drop 1-0 --as-new",
    ],
)
def test_dead_refuses_what_makes_no_sense(argv: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 before anything is done: an option that is overlooked could drop what was not meant."""

    @asynccontextmanager
    async def open_quarantine(_: Settings) -> AsyncIterator[object]:
        await trio.lowlevel.checkpoint()
        yield object()

    monkeypatch.setattr("trio_alerts.commands.dead.open_quarantine", open_quarantine)
    called = call("dead", *argv.split())
    assert (2, "") == (called.exit_code, called.out)


async def test_what_goes_wrong_at_once_comes_out_as_it_is() -> None:
    """Not in a group: who catches an outage finds it. The others are cancelled."""

    async def work(item: str) -> None:
        if item == "b":
            raise Unavailable("away")
        await trio.sleep_forever()

    with pytest.raises(Unavailable, match="away"), trio.fail_after(10):
        await at_once(3, work, "abc")


async def test_no_more_at_once_than_was_asked_for(autojump_clock: MockClock) -> None:
    """However many there are to do."""
    times: list[float] = []

    async def work(_: str) -> None:
        times.append(trio.current_time())
        await trio.sleep(1)

    await at_once(2, work, "abcde")
    assert [0, 0, 1, 1, 2] == times


def test_somebody_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as users that no file knows."""

    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)
    assert operator().partition("@")[0].isdecimal()
