"""Redelivery on fakes: which records it makes due, and which it must not touch."""

import datetime as dt
from typing import Any

import pytest
import trio

from tests.support.fakes.stream import FakeStream
from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, NOW, RETRYING, SILENCED, WAITING, Desk, sending
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import Delivery
from trio_alerts.errors import Unavailable
from trio_alerts.held_back import silenced, unconfigured
from trio_alerts.operations import redeliver
from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.redeliver import Redelivery
from trio_alerts.outcome import Accepted, Refused, Retry
from trio_alerts.ports.store import RecordFilter
from trio_alerts.settings.settings import Settings
from trio_alerts.transitions import first_attempt, next_attempt, quarantined, settled, suppressed

UNKNOWN = unconfigured(next_attempt(RETRYING, "them/2", NOW + dt.timedelta(days=1), 60.0), ["webhook"], NOW)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def redelivery(desk: Desk, *, dry_run: bool = False) -> Redelivery:
    return Redelivery(operator=desk.operator, policy=RetryPolicy((5, 30)), dry_run=dry_run)


async def silenced_by(desk: Desk, *suppressed_by: str, **wanted: Any) -> list[Change | Skip]:
    return [result async for result in redelivery(desk).by_silence(RecordFilter(suppressed_by=suppressed_by, **wanted))]


async def named(desk: Desk, *record_ids: str, dry_run: bool = False) -> list[Change | Skip]:
    return [result async for result in redelivery(desk, dry_run=dry_run).by_id(record_ids)]


async def found(desk: Desk, *, in_doubt: bool = False, **wanted: Any) -> list[Change | Skip]:
    return [result async for result in redelivery(desk).by_filter(RecordFilter(**wanted), in_doubt=in_doubt)]


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (DELIVERED, "it is delivered"),
        (suppressed("night"), "the rule 'night' suppressed it"),
        (SILENCED, "silence:1a2b suppressed it; --suppressed-by silence:1a2b sends it"),
        (quarantined(sending(60), "max_deliveries"), "its entry is a dead letter; `dead replay` puts it back"),
        (sending(60), "it is being sent now"),
        (WAITING, "it waits for slack to take it, and is sent by itself"),
        (UNKNOWN, "it waits for a process that knows webhook, and is sent by itself"),
    ],
)
async def test_what_is_not_to_be_sent_again_is_left_alone(desk: Desk, delivery: Delivery, reason: str) -> None:
    """Named by its ID: the reason, and no write."""
    record_id = desk.put(1, delivery)

    assert [Skip(record_id, reason)] == await named(desk, record_id)
    assert [] == desk.store.called("replace")


@pytest.mark.parametrize("delivery", [FAILED, RETRYING, IN_DOUBT, sending(-1)])
async def test_what_is_not_delivered_is_due_now(desk: Desk, delivery: Delivery) -> None:
    """Also an attempt whose lease has lapsed; the redriver finds it, and its owner is nobody who sends."""
    record_id = desk.put(1, delivery)

    (result,) = await named(desk, record_id, record_id)

    now = desk.store[record_id]
    assert Change(record_id, now) == result
    assert ("retrying", NOW) == (now.state, now.next_attempt_at)
    assert now.owner.startswith("ann@desk/")


@pytest.mark.parametrize("delivery", [FAILED, RETRYING, sending(-1)])
async def test_an_entry_that_is_pending_belongs_to_the_stream(desk: Desk, delivery: Delivery) -> None:
    """A worker has it, or will take it over: two owners would send it twice."""
    record_id = desk.put(1, delivery)
    stream = FakeStream(desk.server, Settings(consumer="worker"))
    await stream.prepare()
    desk.server.add("AlertStream", {b"event": b"{}"}, "1-0")
    await stream.read(1)

    pending = Skip(record_id, "its entry is still pending: a worker has it, or will take it over")
    assert [pending] == await named(desk, record_id)
    assert delivery == desk.store[record_id]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"view": ["a"]}, "retrying retrying delivered in_doubt failed"),
        ({"state": ["failed"]}, "retrying retrying delivered in_doubt retrying"),
        ({"state": ["retrying"]}, "failed retrying delivered in_doubt failed"),
        ({"in_doubt": True}, "failed retrying delivered retrying failed"),
        ({"in_doubt": True, "view": ["b"]}, "failed retrying delivered in_doubt failed"),
        ({"in_doubt": True, "state": ["failed"]}, "retrying retrying delivered retrying retrying"),
        ({"state": ["in_doubt"]}, "failed retrying delivered retrying failed"),
        ({"state": ["delivered"]}, "failed retrying delivered in_doubt failed"),
        ({"since": NOW - dt.timedelta(hours=1)}, "retrying retrying delivered in_doubt retrying"),
    ],
)
async def test_filters_choose_what_is_sent_again(desk: Desk, wanted: dict[str, Any], expected: str) -> None:
    """What failed or is retried, unless states are named; what is in doubt only when it is meant."""
    when = NOW.isoformat()
    for number, delivery in enumerate([FAILED, RETRYING, DELIVERED, IN_DOUBT], 1):
        desk.put(number, delivery, view="a", occurred_at=when)
    desk.put(5, FAILED, view="b", occurred_at=when)

    results = await found(desk, **wanted)

    assert expected.split() == desk.states
    due = [stored.record.delivery.next_attempt_at == NOW for stored in desk.store.records.values()]
    assert sum(due) == sum(isinstance(result, Change) for result in results)


async def test_a_channel_in_doubt_is_held_also_beside_others(desk: Desk) -> None:
    """Chosen by a filter, the channels that failed are sent to, and the one in doubt is not."""
    both = settled(
        first_attempt(["a", "b"], "them/1", NOW, 60),
        {"a": (Retry("busy", 503), 0.1), "b": (Retry("lost", unseen=True), 0.1)},
        NOW,
        RetryPolicy((5, 30), frozenset({"b"})),
    )
    record_id = desk.put(1, both)

    await found(desk, state=["retrying"])

    assert [("retrying", NOW), ("in_doubt", None)] == [
        (channel.state, channel.next_attempt_at) for channel in desk.store[record_id].channels
    ]


async def test_a_dry_run_writes_nothing(desk: Desk) -> None:
    """It says what would be done."""
    record_id = desk.put(1, FAILED)

    (result,) = await named(desk, record_id, dry_run=True)

    assert isinstance(result, Change)
    assert ("retrying", FAILED) == (result.delivery.state, desk.store[record_id])


async def test_many_records_are_taken_page_by_page(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each once, although what was written is found by the same filter."""
    monkeypatch.setattr(redeliver, "PAGE", 7)
    ids = [desk.put(number, FAILED if number % 2 else RETRYING) for number in range(100, 150)]

    assert sorted(ids) == sorted(result.record_id for result in await found(desk, state=["failed", "retrying"]))
    assert 50 == len(desk.store.called("replace"))
    assert ids == [result.record_id for result in await named(desk, *ids)]


async def test_a_search_that_is_behind_chooses_nothing_wrong(desk: Desk) -> None:
    """What a human has settled since is not sent again by a filter that still finds it in doubt."""
    desk.store.lagging = desk.store.forbids_refresh = True
    record_id = desk.put(1, IN_DOUBT)
    desk.store.refresh()
    desk.put(1, FAILED)

    assert [Skip(record_id, "it is failed by now")] == await found(desk, in_doubt=True)
    assert FAILED == desk.store[record_id]


async def test_what_is_done_is_reported_before_what_went_wrong(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that goes away in the middle: the records that were changed are known, then the error comes."""
    first, second = desk.put(1, FAILED), desk.put(2, FAILED)
    plain = desk.store.get

    async def away_for_the_second(record_id: str) -> object:
        if record_id == second:
            await trio.testing.wait_all_tasks_blocked()
            raise Unavailable("away")
        return await plain(record_id)

    monkeypatch.setattr(desk.store, "get", away_for_the_second)
    results = redelivery(desk).by_id([first, second])
    assert await anext(results) == Change(first, desk.store[first])
    with pytest.raises(Unavailable, match="away"):
        await anext(results)


async def test_what_a_silence_kept_back_is_sent(desk: Desk) -> None:
    """Through the channels that it suppressed, now, with the whole schedule ahead; the record names it no more."""
    record_id, other = desk.put(1, SILENCED), desk.put(2, silenced(sending(60), "3c4d", "why", NOW))

    (result,) = await silenced_by(desk, "silence:1a2b")

    now = desk.store[record_id]
    assert Change(record_id, now) == result
    assert ("retrying", NOW, None, None) == (now.state, now.next_attempt_at, now.suppressed_by, now.reason)
    assert [("retrying", 0)] == [(channel.state, channel.attempts) for channel in now.channels]
    assert now.owner.startswith("ann@desk/")
    assert "suppressed" == desk.store[other].state
    assert [] == await silenced_by(desk, "silence:1a2b")


async def test_a_silence_is_lifted_for_its_channels_only(desk: Desk) -> None:
    """What others failed at is somebody else's matter; what another one delivered is delivered, and never goes back."""
    begun = first_attempt(["a", "b"], "them/1", NOW, 60.0)
    busy = settled(begun, {"a": (Accepted(200), 0.1), "b": (Retry("busy"), 0.1)}, NOW, RetryPolicy((0.0, 30.0)))
    quiet = silenced(next_attempt(busy, "them/2", NOW, 60.0), "1a2b", "why", NOW)
    delivered = desk.put(1, quiet)
    failed = settled(begun, {"a": (Refused("no"), 0.1), "b": (Retry("busy"), 0.1)}, NOW, RetryPolicy((0.0, 30.0)))
    other = desk.put(2, silenced(next_attempt(failed, "them/2", NOW, 60.0), "1a2b", "why", NOW))
    assert ["delivered", "failed"] == desk.states

    results = await silenced_by(desk, "silence:1a2b")
    assert Skip(delivered, "it is delivered, through a") in results
    assert [["delivered", "suppressed"], ["failed", "retrying"]] == [
        [channel.state for channel in stored.record.delivery.channels] for stored in desk.store.records.values()
    ]
    assert 1 == desk.store[other].channels[1].attempts_before


async def test_what_a_silence_kept_back_and_a_worker_has_is_left_alone(desk: Desk) -> None:
    """Its entry is still pending: whoever holds it acknowledges it first."""
    record_id = desk.put(1, SILENCED)
    stream = FakeStream(desk.server, Settings(consumer="worker"))
    await stream.prepare()
    desk.server.add("AlertStream", {b"event": b"{}"}, record_id)
    await stream.read(1)

    (result,) = await silenced_by(desk, "silence:1a2b")
    assert Skip(record_id, "its entry is still pending: a worker has it, or will take it over") == result
    assert SILENCED == desk.store[record_id]


async def test_a_search_that_lags_sends_nothing_twice(desk: Desk) -> None:
    """What another operator sent again in the meantime is not touched."""
    desk.store.lagging = desk.store.forbids_refresh = True
    record_id = desk.put(1, SILENCED)
    desk.store.refresh()
    await silenced_by(desk, "silence:1a2b")
    before = desk.store[record_id]

    assert [Skip(record_id, "it was sent again by now")] == await silenced_by(desk, "silence:1a2b")
    assert before == desk.store[record_id]
