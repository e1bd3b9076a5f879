"""`redeliver --through`: a channel that a human chose, whether the record has it or not."""

import datetime as dt

import pytest
from msgspec.structs import replace

from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, NOW, RETRYING, SILENCED, WAITING, Desk
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.held_back import first_state, standby
from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.redeliver import Redelivery
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.ports.store import RecordFilter
from trio_alerts.transitions import first_attempt, next_attempt, settled, suppressed

POLICY = RetryPolicy((5, 30))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def redelivery(desk: Desk, *through: str) -> Redelivery:
    return Redelivery(operator=desk.operator, policy=POLICY, through=through or ("email",))


async def asked(desk: Desk, delivery: Delivery, *through: str) -> Delivery | str:
    """Ask for one record by its ID; return its new state, or why it was left alone."""
    record_id = desk.put(1, delivery)
    (result,) = [one async for one in redelivery(desk, *through).by_id([record_id])]
    if isinstance(result, Skip):
        assert delivery == desk.store[record_id]
        return result.reason
    assert desk.store[record_id] == result.delivery
    return result.delivery


def sent(delivery: Delivery, **outcomes: Outcome) -> Delivery:
    """Return the state after the attempt that is due."""
    begun = next_attempt(delivery, "them/9", NOW, 60.0)
    assert set(outcomes) == {channel.name for channel in begun.sending()}
    return settled(begun, {name: (outcome, 0.1) for name, outcome in outcomes.items()}, NOW, POLICY)


def channels(delivery: Delivery) -> dict[str, str]:
    return {channel.name: channel.state for channel in delivery.channels}


async def test_a_channel_is_added_and_makes_the_failure_good(desk: Desk) -> None:
    """Only it is due, now, with the whole schedule ahead; once it has accepted, the record is delivered."""
    after = await asked(desk, FAILED)
    assert isinstance(after, Delivery)
    assert ("retrying", {"webhook": "failed", "email": "retrying"}, NOW) == (
        *(after.state, channels(after)),
        after.next_attempt_at,
    )
    assert (0, ("webhook",)) == (after.channels[1].attempts, after.channels[1].fallback_of)
    assert after.owner.startswith("ann@desk/")

    reached = sent(after, email=Accepted(200))
    assert ("delivered", {"webhook": "spared", "email": "delivered"}) == (reached.state, channels(reached))
    assert "failed" == sent(after, email=Refused("no")).state


async def test_the_others_go_on_with_what_they_do(desk: Desk) -> None:
    """A retry keeps its time, a wait its queue, a doubt its human; none of them is sent to now."""
    later = NOW + dt.timedelta(seconds=5)
    retried = await asked(desk, RETRYING)
    assert isinstance(retried, Delivery)
    assert [later, NOW] == [channel.next_attempt_at for channel in retried.channels]
    waiting = await asked(desk, WAITING)
    assert isinstance(waiting, Delivery)
    assert ("retrying", ("slack",)) == (waiting.state, waiting.queues)
    doubtful = await asked(desk, IN_DOUBT)
    assert isinstance(doubtful, Delivery)
    assert ("delivered", ("webhook",)) == (
        sent(doubtful, email=Accepted()).state,
        sent(doubtful, email=Accepted()).in_doubt_channels,
    )


@pytest.mark.parametrize("through", [("webhook",), ("oncall", "webhook")])
async def test_a_channel_that_the_record_has_is_due_itself(desk: Desk, through: tuple[str, ...]) -> None:
    """Also by its old name: it is not sent to twice under two names."""
    after = await asked(desk, FAILED, *through)
    assert isinstance(after, Delivery)
    assert ({"webhook": "retrying"}, 1, ()) == (
        channels(after),
        after.channels[0].attempts_before,
        after.channels[0].fallback_of,
    )


@pytest.mark.parametrize("state", ["standby", "spared"])
async def test_a_fallback_is_engaged_by_hand(desk: Desk, state: str) -> None:
    """One that stands by, or was spared: it is due now, for what has not accepted."""
    begun = first_attempt(["pager", "chat"], "them/1", NOW, 60.0)
    stands_by = standby("email", ["pager", "chat"], NOW + dt.timedelta(hours=1))
    begun = replace(begun, channels=(*begun.channels, stands_by))
    chat: Outcome = Accepted() if state == "spared" else Retry("busy", 503)
    before = settled(begun, {"pager": (Retry("busy"), 0.1), "chat": (chat, 0.1)}, NOW, POLICY)
    assert state == channels(before)["email"]

    after = await asked(desk, before)
    assert isinstance(after, Delivery)
    assert ("retrying", NOW) == (after.channels[2].state, after.channels[2].next_attempt_at)
    assert (("pager",) if state == "spared" else ("pager", "chat")) == after.channels[2].fallback_of


async def test_what_a_route_suppressed_by_mistake_can_be_sent(desk: Desk) -> None:
    """It had no channel at all; the rule has no part in it any more. What a silence keeps back is lifted instead."""
    after = await asked(desk, suppressed("night"))
    assert isinstance(after, Delivery)
    assert ("retrying", {"email": "retrying"}, None, NOW) == (
        *(after.state, channels(after), after.suppressed_by),
        after.first_at,
    )
    assert "delivered" == sent(after, email=Accepted()).state
    assert "silence:1a2b suppressed it; --suppressed-by silence:1a2b sends it" == await asked(desk, SILENCED)

    desk.put(2, suppressed("night"))
    desk.put(3, suppressed("other"))
    results = redelivery(desk).by_filter(RecordFilter(suppressed_by=["night"]))
    assert ["2-0"] == [one.record_id async for one in results if isinstance(one, Change)]


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (DELIVERED, "it is delivered"),
        (replace(FAILED, channels=(*FAILED.channels, ChannelDelivery("email", "delivered"))), "email has accepted it"),
        (
            first_state((*WAITING.channels, replace(WAITING.channels[0], name="email")), "them/1", NOW, 60.0),
            "email takes it by itself, once it can",
        ),
        (first_attempt(["webhook"], "them/1", NOW, 60.0), "it is being sent now"),
    ],
)
async def test_what_needs_nobody_to_ask_is_left_alone(desk: Desk, delivery: Delivery, reason: str) -> None:
    """What is delivered, to the channel or at all, is never sent to it again; a running attempt ends first."""
    assert reason == await asked(desk, delivery)


async def test_a_doubt_of_that_very_channel_is_sent_again_only_if_it_is_meant(desk: Desk) -> None:
    """By filters only with --in-doubt: its receiver may get it twice."""
    both = settled(
        first_attempt(["email", "chat"], "them/1", NOW, 60.0),
        {"email": (Retry("lost", unseen=True), 0.1), "chat": (Refused("no"), 0.1)},
        NOW,
        RetryPolicy((5, 30), frozenset({"email"})),
    )
    retried = replace(both, channels=(both.channels[0], replace(both.channels[1], state="retrying")), state="retrying")
    desk.put(1, retried)

    results = [one async for one in redelivery(desk).by_filter(RecordFilter(state=["retrying"]))]
    assert [Skip("1-0", "email may have it already; --in-doubt sends it once more")] == results
    (result,) = [one async for one in redelivery(desk).by_filter(RecordFilter(), in_doubt=True)]
    assert isinstance(result, Change)
    assert "retrying" == channels(result.delivery)["email"]
