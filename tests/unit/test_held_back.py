"""What is held back: queues, fallbacks and silences, step by step, with exact times."""

import datetime as dt

from tests.support.waiting import waiting
from tests.unit.test_record_state import combinations, record_of
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import UNCONFIGURED, ChannelDelivery, Delivery, read_delivery
from trio_alerts.exact_json import decode_value, encode
from trio_alerts.held_back import (
    configured,
    drained,
    first_state,
    looked_at,
    sent_through,
    silence_lifted,
    silenced,
    standby,
    turned_away,
    unconfigured,
    wait_expired,
)
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.transitions import first_attempt, moved_back, next_attempt, redelivery_requested, settled, taken_over

NOW = dt.datetime(2026, 11, 26, 2, 0, tzinfo=dt.UTC)
POLICY = RetryPolicy((5.0, 30.0))
WAIT_S = 3600.0


def at(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def states(delivery: Delivery) -> list[str]:
    return [channel.state for channel in delivery.channels]


def after(delivery: Delivery, seconds: float = 0.0, **outcomes: Outcome | Later) -> Delivery:
    return settled(delivery, {name: (outcome, 0.1) for name, outcome in outcomes.items()}, at(seconds), POLICY)


def test_what_waits_from_the_start_was_never_tried() -> None:
    """No attempt is counted, nobody owns a lease; queue, beginning and end of the wait are in the record."""
    record = first_state((waiting("slack", NOW, at(WAIT_S)),), "me/1", NOW, 60.0)
    assert ("waiting", 0, NOW, None, None) == (
        *(record.state, record.attempts, record.first_at),
        *(record.last_at, record.lease_until),
    )
    assert (("slack",), at(WAIT_S)) == (record.queues, record.next_attempt_at)
    (channel,) = record.channels
    assert (0, NOW) == (channel.attempts, channel.since)


def test_one_channel_waits_and_the_other_is_sent() -> None:
    """It is one record and one attempt; what waits goes on waiting when the other has accepted."""
    channels = (waiting("slack", NOW, at(WAIT_S)), ChannelDelivery("pager", "sending"))
    record = first_state(channels, "me/1", NOW, 60.0)
    assert ("sending", 1, at(60), ("slack",)) == (record.state, record.attempts, record.lease_until, record.queues)

    record = after(record, pager=Accepted(200))
    assert ("waiting", ["waiting", "delivered"], at(WAIT_S)) == (record.state, states(record), record.next_attempt_at)
    record = drained(record, "me/2", at(9), 60.0, ["slack"])
    assert ("sending", ["sending", "delivered"], 2, ()) == (
        *(record.state, states(record), record.attempts),
        record.queues,
    )
    assert "delivered" == after(record, slack=Accepted(200)).state


def test_a_retry_that_is_turned_away_keeps_its_step_and_its_since() -> None:
    """The wait begins once; a failed attempt uses a step of the schedule and ends it."""
    record = after(first_attempt(["slack"], "me/1", NOW, 60.0), slack=Retry("busy", 503))
    record = turned_away(next_attempt(record, "me/2", at(5), 60.0), ["slack"], at(5), WAIT_S)
    assert ("waiting", at(5), at(5 + WAIT_S), 1, 1, None) == (
        *(record.state, record.channels[0].since, record.next_attempt_at),
        *(record.channels[0].attempts, record.attempts, record.lease_until),
    )
    again = turned_away(drained(record, "me/3", at(60), 60.0, ["slack"]), ["slack"], at(60), WAIT_S)
    assert (at(5), at(5 + WAIT_S), 1) == (again.channels[0].since, again.next_attempt_at, again.attempts)
    record = drained(again, "me/3", at(100), 60.0, ["slack"])
    assert (at(5), 2) == (record.channels[0].since, record.channels[0].attempts)
    record = after(record, 100, slack=Retry("busy", 503))
    assert (None, at(130)) == (record.channels[0].since, record.next_attempt_at)


def test_a_first_attempt_that_is_turned_away_was_none() -> None:
    """It is what a record that begins in the queue is; another channel is sent all the same."""
    begun = first_attempt(["slack", "pager"], "me/1", NOW, 60.0)
    both = turned_away(begun, ["slack", "pager"], NOW, WAIT_S)
    channels = (waiting("slack", NOW, at(WAIT_S)), waiting("pager", NOW, at(WAIT_S)))
    assert first_state(channels, "me/1", NOW, 60.0) == both

    one = turned_away(begun, ["slack"], NOW, WAIT_S)
    assert ("sending", ["waiting", "sending"], 1, at(60), ("slack",)) == (
        *(one.state, states(one), one.attempts),
        *(one.lease_until, one.queues),
    )


def test_a_takeover_that_is_turned_away_keeps_its_doubt() -> None:
    """The receiver may have what the dead owner sent; only the repeat waits."""
    begun = taken_over(first_attempt(["slack"], "dead/1", NOW, 60.0), "me/1", at(60), 60.0, POLICY)
    record = turned_away(begun, ["slack"], at(60), WAIT_S)
    assert ("waiting", 1, 1, 1) == (record.state, record.attempts, record.in_doubt, record.channels[0].in_doubt)


def test_a_limit_is_no_attempt() -> None:
    """The service took nothing and blames no alert: however often it says so, no step is used, and the wait goes on."""
    record = first_attempt(["slack"], "me/1", NOW, 60.0)
    for number in range(11):
        record = after(record, 30 * number, slack=Later("limited: answered 429", 30.0, 429))
        assert ("waiting", 0, NOW, at(sum(POLICY.schedule_s)), ()) == (
            *(record.state, record.channels[0].attempts, record.channels[0].since),
            *(record.next_attempt_at, record.channels[0].log),
        )
        assert ("limited: answered 429", 429) == (record.channels[0].last_error, record.channels[0].last_status)
        record = drained(record, "me/2", at(30 * number + 30), 60.0, ["slack"])
    assert "delivered" == after(record, slack=Accepted(200)).state


def test_what_waits_for_too_long_has_failed_and_its_fallback_is_sent() -> None:
    """At the end of the wait and not before; a redelivery begins a new one."""
    channels = (waiting("slack", NOW, at(WAIT_S)), standby("email", ["slack"], at(2 * WAIT_S)))
    record = first_state(channels, "me/1", NOW, 60.0)
    assert states(record) == states(wait_expired(record, "me/2", at(WAIT_S - 1)))
    record = wait_expired(record, "me/2", at(WAIT_S))
    assert ("retrying", ["failed", "retrying"], at(WAIT_S)) == (record.state, states(record), record.next_attempt_at)
    assert (("slack",), ()) == (record.failed_channels, record.queues)

    again = redelivery_requested(record, "eve/1", at(WAIT_S + 9), in_doubt=False)
    assert again is not None
    assert (["retrying", "retrying"], None) == (states(again), again.channels[0].since)


def test_a_channel_that_a_process_does_not_know_waits_for_one_that_does() -> None:
    """Only that channel, for an hour by a clock of its own, and no step of the schedule is used; then it has failed."""
    both = (ChannelDelivery("slack", "sending"), ChannelDelivery("pager", "sending"))
    busy = after(
        first_state((*both, standby("email", ["slack"], at(2 * WAIT_S))), "me/1", NOW, 60.0),
        slack=Retry("busy", 503),
        pager=Retry("busy", 503),
    )
    begun = next_attempt(busy, "me/2", at(5), 60.0)
    record = unconfigured(begun, ["slack"], at(5))
    assert ("sending", ["waiting", "sending", "standby"], 2) == (record.state, states(record), record.attempts)
    assert ((UNCONFIGURED,), 1, None) == (record.queues, record.channels[0].attempts, record.channels[0].since)
    assert ("waiting", 1) == (
        unconfigured(record, ["pager"], at(5)).state,
        unconfigured(record, ["pager"], at(5)).attempts,
    )

    record = after(record, 6, pager=Accepted(200))
    assert ("waiting", at(5 + 3600)) == (record.state, record.next_attempt_at)
    assert states(record) == states(wait_expired(record, "me/3", at(3604)))
    given_up = wait_expired(record, "me/3", at(3605))
    assert (["failed", "delivered", "retrying"], ()) == (states(given_up), given_up.queues)
    assert "given up: no process has known this channel for an hour" == given_up.channels[0].last_error


def test_who_knows_the_channel_moves_it_back_or_sends_it() -> None:
    """In its own queue it has its own time again, which has begun with its first wait."""
    busy = after(first_attempt(["slack"], "me/1", NOW, 60.0), slack=Retry("busy", 503))
    long = RetryPolicy((9 * WAIT_S,))
    waited = turned_away(next_attempt(busy, "me/2", at(5), 60.0), ["slack"], at(5), 9 * WAIT_S)
    lost = unconfigured(drained(waited, "me/3", at(100), 60.0, ["slack"]), ["slack"], at(100))
    assert ((UNCONFIGURED,), at(5), at(100)) == (
        lost.queues,
        lost.channels[0].since,
        lost.channels[0].unconfigured_since,
    )
    assert lost.channels == configured(lost, ["pager"], "me/4", at(200), long).channels
    back = configured(lost, ["slack"], "me/4", at(200), long)
    assert (("slack",), at(5), at(5 + 9 * WAIT_S)) == (back.queues, back.channels[0].since, back.next_attempt_at)
    sent = drained(lost, "me/4", at(200), 60.0, ["slack"])
    assert ("sending", None, ()) == (sent.state, sent.channels[0].unconfigured_since, sent.queues)


def test_a_doubt_of_who_does_not_know_the_channel_is_settled_as_the_channel_says() -> None:
    """Whoever takes over a cut attempt cannot know that the channel holds such alerts; a human's request stands."""
    hold = RetryPolicy((5.0,), frozenset({"slack"}))
    cut = taken_over(first_attempt(["slack"], "me/1", NOW, 60.0), "old/1", at(60), 60.0, POLICY)
    lost = unconfigured(cut, ["slack"], at(60))
    assert ("waiting", 1, 1) == (lost.state, lost.channels[0].attempts, lost.channels[0].in_doubt)
    assert "waiting" == configured(lost, ["slack"], "me/2", at(61), POLICY).state
    held = configured(lost, ["slack"], "me/2", at(61), hold)
    assert ("in_doubt", ("slack",), None) == (held.state, held.in_doubt_channels, held.next_attempt_at)

    asked = redelivery_requested(held, "eve/1", at(62), in_doubt=True)
    assert asked is not None
    lost = unconfigured(next_attempt(asked, "old/2", at(62), 60.0), ["slack"], at(62))
    assert "waiting" == configured(lost, ["slack"], "me/2", at(63), hold).state


def test_a_fallback_is_sent_at_its_time_and_spared_when_a_primary_accepts() -> None:
    """Its time is the record's, whatever the state; the claim at that time engages it in the same write."""
    first = first_state((ChannelDelivery("pager", "sending"), standby("email", ["pager"], at(300))), "me/1", NOW, 60.0)
    assert None is first.next_attempt_at  # its lease says when others look
    held = settled(first, {}, at(15), RetryPolicy((5.0,), frozenset({"pager"})))
    assert ("in_doubt", ["in_doubt", "standby"], at(300)) == (held.state, states(held), held.next_attempt_at)
    assert ["in_doubt", "standby"] == states(looked_at(held, "me/2", at(299)))
    assert ["in_doubt", "retrying"] == states(looked_at(held, "me/2", at(300)))
    claimed = next_attempt(held, "me/2", at(300), 60.0, ["email"])
    assert ("sending", ["in_doubt", "sending"]) == (claimed.state, states(claimed))
    reached = after(claimed, 301, email=Accepted(200))
    assert ("delivered", ("pager",), at(301)) == (reached.state, reached.in_doubt_channels, reached.delivered_at)

    assert ["delivered", "spared"] == states(after(first, 5, pager=Accepted(200)))
    assert ["failed", "retrying"] == states(after(first, 5, pager=Refused("no", 410)))
    late = next_attempt(after(first, 5, pager=Retry("busy", 503)), "me/2", at(400), 60.0, ["pager"])
    assert ["sending", "retrying"] == states(late)  # engaged, and waits for a slot of its own


def test_a_silence_suppresses_what_is_about_to_be_sent() -> None:
    """No attempt is counted; what was accepted stays, and what was never sent can be sent by a human."""
    begun = first_attempt(["pager", "slack"], "me/1", NOW, 60.0)
    record = after(begun, pager=Accepted(200), slack=Retry("busy", 503))
    record = silenced(next_attempt(record, "me/2", at(5), 60.0), "7", "a drill", at(5))
    assert ("delivered", ["delivered", "suppressed"], 1) == (record.state, states(record), record.attempts)
    assert ("silence:7", "a drill") == (record.suppressed_by, record.reason)
    assert None is silence_lifted(record, "eve/1", at(9))  # what is delivered never goes back

    quiet = silenced(begun, "7", "a drill", NOW)
    assert (["suppressed"] * 2, [0, 0]) == (states(quiet), [channel.attempts for channel in quiet.channels])
    assert None is redelivery_requested(quiet, "eve/1", NOW, in_doubt=True)
    lifted = silence_lifted(quiet, "eve/1", at(9))
    assert lifted is not None
    assert ("retrying", ["retrying"] * 2, None) == (lifted.state, states(lifted), lifted.suppressed_by)


def test_a_silence_stops_the_clock_of_a_fallback() -> None:
    """With its primary it is suppressed; sent after all, the primary has the time that was left before it is needed."""
    first = first_state((ChannelDelivery("pager", "sending"), standby("email", ["pager"], at(300))), "me/1", NOW, 60.0)
    busy = after(first, pager=Retry("busy", 503))
    quiet = silenced(next_attempt(busy, "me/2", at(5), 60.0), "7", "a drill", at(5))
    assert ("suppressed", ["suppressed", "suppressed"], None) == (quiet.state, states(quiet), quiet.next_attempt_at)

    lifted = silence_lifted(quiet, "eve/1", at(7200))
    assert lifted is not None
    assert ("retrying", ["retrying", "standby"]) == (lifted.state, states(lifted))
    assert (at(7200 + 295), None) == (lifted.channels[1].next_attempt_at, lifted.channels[1].since)


def test_whoever_is_asked_for_by_hand_is_due_and_nobody_else_moves() -> None:
    """Whatever three channels are in, fallbacks or not: none is spared, engaged or sent to by it but the one."""
    asked = 0
    for channels in combinations():
        before = record_of(*channels)
        for name in ("a", "b", "c", "another") if before.state not in ("sending", "delivered") else ():
            given = {channel.name: channel for channel in before.channels}
            record = sent_through(before, [name], "eve/1", NOW)
            if record is None:
                assert given[name].state in ("delivered", "waiting"), channels
                continue
            asked += 1
            now = {channel.name: channel for channel in record.channels}
            assert ("retrying", NOW) == (now[name].state, now[name].next_attempt_at), channels
            assert before.in_doubt == record.in_doubt, channels
            assert {one: given[one] for one in given if one != name} == {one: now[one] for one in now if one != name}
    assert asked > 5000


def test_an_older_version_can_read_what_holds_nothing_back() -> None:
    """A record without a queue, a fallback or a silence has no field that is new; one with them is read back whole."""
    plain = after(first_attempt(["pager"], "me/1", NOW, 60.0), pager=Retry("busy", 503))
    assert not any(field in encode(plain) for field in (b"since", b"fallback_of", b"queues"))
    held = first_state((waiting("slack", NOW, at(9)), standby("email", ["slack"], at(99))), "me/1", NOW, 60.0)
    assert held == read_delivery(decode_value(encode(held)))


def test_a_wait_is_as_long_when_the_server_s_clock_is_set_back() -> None:
    """Its beginning and its end move together."""
    record = after(first_attempt(["slack"], "me/1", NOW, 60.0), slack=Retry("busy", 503))
    record = turned_away(next_attempt(record, "me/2", at(5), 60.0), ["slack"], at(5), WAIT_S)
    record = moved_back(record, at(-60), dt.timedelta(seconds=100))
    assert (at(-95), at(-95 + WAIT_S)) == (record.channels[0].since, record.next_attempt_at)
    begun = next_attempt(after(first_attempt(["a"], "me/1", NOW, 60.0), a=Retry("busy", 503)), "me/2", at(5), 60.0)
    record = moved_back(unconfigured(begun, ["a"], at(5)), at(-60), dt.timedelta(seconds=100))
    assert (at(-95), at(-95 + 3600)) == (record.channels[0].unconfigured_since, record.next_attempt_at)
