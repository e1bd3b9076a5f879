import datetime as dt
from random import Random

import msgspec
import pytest

from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import KEPT_ATTEMPTS, ChannelDelivery, Delivery
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.transitions import (
    Resolution,
    first_attempt,
    lease_expired,
    left_to_redriver,
    next_attempt,
    quarantined,
    redelivery_requested,
    resolved,
    settled,
    suppressed,
    taken_over,
    with_acceptances,
)

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
POLICY = RetryPolicy(schedule_s=(5.0, 30.0))
HOLD = RetryPolicy(schedule_s=(5.0, 30.0), hold=frozenset({"a"}))


def later(seconds: float) -> dt.datetime:
    return NOW + dt.timedelta(seconds=seconds)


def sending(*names: str) -> Delivery:
    return first_attempt(names or ("a",), "me/1", NOW, 60.0)


def outcomes(**by_channel: Outcome) -> dict[str, tuple[Outcome, float]]:
    return {name: (outcome, 0.1) for name, outcome in by_channel.items()}


def test_the_first_state_is_an_attempt_under_way() -> None:
    """The record that is stored before the send says who sends, until when, and that it is attempt 1."""
    delivery = sending("a", "b")
    assert ("sending", "me/1", 1, 0) == (delivery.state, delivery.owner, delivery.attempts, delivery.in_doubt)
    assert later(60) == delivery.lease_until
    assert [("a", "sending", 1), ("b", "sending", 1)] == [(c.name, c.state, c.attempts) for c in delivery.channels]


@pytest.mark.parametrize(
    ("outcome", "state", "next_s", "in_doubt"),
    [
        (Accepted(200), "delivered", None, 0),
        (Refused("no", 410), "failed", None, 0),
        (Retry("busy", 503), "retrying", 5.0, 0),
        (Retry("lost", unseen=True), "retrying", 5.0, 1),
    ],
)
def test_an_outcome_decides_the_state(outcome: Outcome, state: str, next_s: float | None, in_doubt: int) -> None:
    """Accepted, refused, retried, and retried in doubt."""
    after = settled(sending(), outcomes(a=outcome), NOW, POLICY)
    assert (state, in_doubt) == (after.state, after.in_doubt)
    assert (None if next_s is None else later(next_s)) == after.next_attempt_at
    assert after.lease_until is None
    assert "me/1" == after.owner  # a writer whose answer was lost recognises its own write by this


def test_what_the_service_calls_the_message_is_kept() -> None:
    """Whoever wants to find it there, or to answer it, needs that; a service that says nothing costs no field."""
    after = settled(
        sending("a", "b"), outcomes(a=Accepted(200, reference="1503435956.1"), b=Accepted(200)), NOW, POLICY
    )

    assert ["1503435956.1", ""] == [channel.log[-1].reference for channel in after.channels]
    assert 1 == msgspec.json.encode(after).count(b"reference")


def test_an_unseen_outcome_is_held_where_the_policy_says_so() -> None:
    """`hold` leaves it to a human; a failure that was seen is retried all the same."""
    assert "in_doubt" == settled(sending(), outcomes(a=Retry("reset", unseen=True)), NOW, HOLD).state
    assert "retrying" == settled(sending(), outcomes(a=Retry("busy", 503)), NOW, HOLD).state


def test_the_schedule_ends_in_failed() -> None:
    """When no wait is left, the record says failed and keeps the last error."""
    delivery = sending()
    for _ in range(2):
        delivery = settled(delivery, outcomes(a=Retry("busy", 503)), NOW, POLICY)
        assert "retrying" == delivery.state
        delivery = next_attempt(delivery, "me/2", later(3600), 60.0)
    delivery = settled(delivery, outcomes(a=Retry("busy", 503)), NOW, POLICY)
    assert ("failed", 3, "busy", 503) == (delivery.state, delivery.attempts, delivery.last_error, delivery.last_status)


def test_a_retry_skips_channels_that_accepted_or_are_not_due() -> None:
    """Only channels that wait and are due are sent to again."""
    after = settled(
        sending("a", "b", "c"),
        outcomes(a=Accepted(200), b=Retry("busy", 503), c=Retry("busy", 503, after_s=500.0)),
        NOW,
        POLICY,
    )
    again = next_attempt(after, "me/2", later(5), 60.0)
    assert ("retrying", later(5)) == (after.state, after.next_attempt_at)
    assert ["b"] == [channel.name for channel in again.sending()]
    assert "retrying" == settled(again, outcomes(b=Accepted(200)), later(6), POLICY).state


def test_delivered_means_every_channel() -> None:
    """One channel that gave up keeps the alert from being delivered."""
    assert "failed" == settled(sending("a", "b"), outcomes(a=Accepted(200), b=Refused("no", 410)), NOW, POLICY).state
    assert "delivered" == settled(sending("a", "b"), outcomes(a=Accepted(200), b=Accepted(204)), NOW, POLICY).state


def test_a_channel_without_an_outcome_was_cut() -> None:
    """What was cut in the middle of a send is unseen, the others' outcomes are kept."""
    after = settled(sending("a", "b"), outcomes(a=Accepted(200)), NOW, POLICY)
    assert [("a", "delivered", 0), ("b", "retrying", 1)] == [(c.name, c.state, c.in_doubt) for c in after.channels]


def test_taking_over_counts_the_doubt_and_sends_again() -> None:
    """The new owner's attempt says that an earlier one was cut and may have been seen."""
    after = taken_over(sending(), "you/1", later(50), 60.0, POLICY)
    assert ("sending", "you/1", 2, 1) == (after.state, after.owner, after.attempts, after.in_doubt)
    assert later(110) == after.lease_until
    assert after.channels[0].log[0].unseen


def test_taking_over_holds_where_the_policy_says_so() -> None:
    """With `hold` nothing is sent: the alert waits for a human."""
    after = taken_over(sending(), "you/1", later(50), 60.0, HOLD)
    assert ("in_doubt", 1, 1) == (after.state, after.attempts, after.in_doubt)
    assert () == after.sending()


def test_a_lapsed_lease_is_a_failed_attempt_on_the_schedule() -> None:
    """A redrive that was cut is not repeated at once."""
    after = lease_expired(sending(), later(60), POLICY)
    assert ("retrying", later(65), 1) == (after.state, after.next_attempt_at, after.in_doubt)


def test_an_acceptance_is_merged_into_whatever_the_record_has_become() -> None:
    """A late answer of a receiver turns the present owner's state to delivered, and changes nothing else."""
    ours = settled(sending(), outcomes(a=Accepted(200)), NOW, POLICY)
    theirs = taken_over(sending(), "you/1", later(50), 60.0, POLICY)
    merged = with_acceptances(theirs, ours, later(51))
    assert merged is not None
    assert ("delivered", "you/1", 1) == (merged.state, merged.owner, merged.in_doubt)


def test_a_failure_is_not_merged() -> None:
    """What failed for us says nothing about the present owner's attempt; a delivered record stays as it is."""
    theirs = taken_over(sending(), "you/1", later(50), 60.0, POLICY)
    ours = settled(sending(), outcomes(a=Retry("busy", 503)), NOW, POLICY)
    delivered = settled(sending(), outcomes(a=Accepted(200)), NOW, POLICY)
    assert with_acceptances(theirs, ours, later(51)) is None
    assert with_acceptances(delivered, delivered, later(51)) is None


def mixed() -> Delivery:
    """One channel of each kind."""
    return settled(
        sending("ok", "gone", "busy", "held"),
        outcomes(ok=Accepted(200), gone=Refused("no", 410), busy=Retry("busy", 503), held=Retry("lost", unseen=True)),
        NOW,
        RetryPolicy(schedule_s=(5.0, 30.0), hold=frozenset({"held"})),
    )


def test_attempts_that_end_with_their_process_are_counted_and_given_up_after_too_many_in_a_row() -> None:
    """The fifth: whoever sends it dies of it, so nobody does any more; that it may have arrived is marked."""
    policy = RetryPolicy(schedule_s=(5.0,) * 20, max_cuts=5)
    delivery = sending("a", "b")
    for number in range(1, 5):
        delivery = lease_expired(delivery, NOW, policy)
        assert ("retrying", number) == (delivery.state, delivery.cuts)
        delivery = next_attempt(delivery, "me/2", later(10), 60.0)
    after = lease_expired(delivery, NOW, policy)
    assert ("failed", "max_deliveries", 5, 5) == (after.state, after.reason, after.cuts, after.in_doubt)
    assert {("failed", None, 5)} == {(c.state, c.next_attempt_at, c.in_doubt) for c in after.channels}
    assert "given up: 5 processes in a row died while sending it" == after.last_error


def test_an_outcome_or_a_human_ends_the_row() -> None:
    """Whoever lives to tell what came of an attempt did not die of it."""
    twice = lease_expired(next_attempt(lease_expired(sending(), NOW, POLICY), "me/2", later(10), 60.0), NOW, POLICY)
    again = next_attempt(twice, "me/3", later(100), 60.0)
    assert (2, 0) == (again.cuts, settled(again, outcomes(a=Retry("busy", 503)), NOW, POLICY).cuts)
    asked = redelivery_requested(twice, "human/1", NOW, in_doubt=False)
    assert asked is not None
    assert 0 == asked.cuts


@pytest.mark.parametrize(("deaths", "next_s"), [(2, 0.0), (3, 5.0)])
def test_what_its_processes_died_with_is_left_to_the_redriver(deaths: int, next_s: float) -> None:
    """After two deaths it is due at once, beside others; from the third on it is a suspect, and on the schedule."""
    after = left_to_redriver(sending("a", "b"), deaths, NOW, POLICY)
    assert ("retrying", deaths, 1) == (after.state, after.cuts, after.in_doubt)
    assert {later(next_s)} == {after.next_attempt_at, *(c.next_attempt_at for c in after.channels)}


def test_two_deaths_do_not_use_up_a_short_schedule() -> None:
    """They are not the receiver's fault; and what a channel holds in doubt stays with a human."""
    after = left_to_redriver(sending("a", "b"), 2, NOW, RetryPolicy(schedule_s=(), hold=frozenset({"a"})))
    assert [("a", "in_doubt"), ("b", "retrying")] == [(c.name, c.state) for c in after.channels]
    assert ("retrying", NOW) == (after.state, after.next_attempt_at)


@pytest.mark.parametrize(
    ("in_doubt", "states", "due"),
    [
        (True, ["delivered", "retrying", "retrying", "retrying"], [None, 60, 60, 60]),
        (False, ["delivered", "retrying", "retrying", "in_doubt"], [None, 60, 60, None]),
    ],
)
def test_what_a_human_asks_for_is_due_at_once(in_doubt: bool, states: list[str], due: list[float | None]) -> None:
    """Every channel that has not accepted, with those in doubt only if they are meant; accepted ones are kept."""
    before = mixed()
    after = redelivery_requested(before, "human/1", later(60), in_doubt=in_doubt)
    assert after is not None
    assert ("retrying", "human/1", later(60), None) == (
        after.state,
        after.owner,
        after.next_attempt_at,
        after.lease_until,
    )
    assert states == [channel.state for channel in after.channels]
    assert [None if seconds is None else later(seconds) for seconds in due] == [
        channel.next_attempt_at for channel in after.channels
    ]
    assert (before.attempts, before.in_doubt) == (after.attempts, after.in_doubt)
    again = next_attempt(after, "me/2", later(60), 60.0)
    assert [
        name for name, state in zip(("ok", "gone", "busy", "held"), states, strict=True) if state == "retrying"
    ] == [channel.name for channel in again.sending()]


def test_nothing_is_sent_again_that_is_sent_or_being_sent() -> None:
    """Delivered, suppressed, in the middle of an attempt, or in doubt without leave: there is nothing to ask for."""
    held = settled(sending(), outcomes(a=Retry("lost", unseen=True)), NOW, HOLD)
    for delivery in (sending(), settled(sending(), outcomes(a=Accepted(200)), NOW, POLICY), suppressed("x")):
        assert redelivery_requested(delivery, "human/1", NOW, in_doubt=True) is None
    assert redelivery_requested(held, "human/1", NOW, in_doubt=False) is None
    half = settled(sending("a", "b"), outcomes(a=Refused("no", 410), b=Retry("busy", 503)), NOW, POLICY)
    assert redelivery_requested(next_attempt(half, "me/2", later(5), 60.0), "human/1", NOW, in_doubt=True) is None


def test_what_a_human_asks_for_has_the_whole_schedule_before_it() -> None:
    """An exhausted alert is not given up again at the first failure; its attempts stay counted."""
    delivery = sending()
    for _ in range(3):
        delivery = next_attempt(
            settled(delivery, outcomes(a=Retry("busy", 503)), NOW, POLICY), "me/2", later(3600), 60.0
        )
    exhausted = settled(delivery, outcomes(a=Retry("busy", 503)), NOW, POLICY)
    assert "failed" == exhausted.state
    after = redelivery_requested(exhausted, "human/1", NOW, in_doubt=False)
    assert after is not None
    waits = []
    for _ in range(3):
        after = settled(next_attempt(after, "me/3", later(10**6), 60.0), outcomes(a=Retry("busy", 503)), NOW, POLICY)
        waits.append(after.next_attempt_at)
    assert ([later(5), later(30), None], "failed") == (waits, after.state)
    assert exhausted.attempts + 3 == after.attempts


def test_an_owner_who_comes_late_does_not_take_what_a_human_wrote_for_its_own() -> None:
    """The owner token changes, so that the late write is merged, and an acceptance is not forgotten."""
    ours = settled(sending(), outcomes(a=Accepted(200)), NOW, POLICY)
    theirs = redelivery_requested(lease_expired(sending(), later(60), POLICY), "human/1", later(60), in_doubt=True)
    assert theirs is not None
    assert theirs.owner != ours.owner
    merged = with_acceptances(theirs, ours, later(61))
    assert merged is not None
    assert "delivered" == merged.state


@pytest.mark.parametrize(("resolution", "state"), [("delivered", "delivered"), ("failed", "failed")])
def test_a_human_settles_what_is_in_doubt(resolution: Resolution, state: str) -> None:
    """The record says who and when; the channel's log too."""
    held = settled(sending("a", "b"), outcomes(a=Retry("lost", unseen=True), b=Accepted(200)), NOW, HOLD)
    after = resolved(held, "human/1", later(60), resolution, "eve@desk")
    assert after is not None
    assert (state, "human/1", 1) == (after.state, after.owner, after.in_doubt)
    assert f"settled as {resolution} by eve@desk at 2026-11-23T12:01:00Z" == after.reason
    assert f"settled as {resolution} by eve@desk" == after.channels[0].log[-1].error
    assert held.channels[1] == after.channels[1]
    assert (later(60) if resolution == "delivered" else None) == after.delivered_at
    assert resolved(after, "human/2", later(61), resolution, "eve@desk") is None


def test_settling_leaves_other_channels_as_they_are() -> None:
    """What is retried goes on; only what is in doubt is settled; nothing is settled in the middle of a send."""
    after = resolved(mixed(), "human/1", NOW, "delivered", "eve@desk")
    assert after is not None
    assert ("retrying", ["delivered", "failed", "retrying", "delivered"]) == (
        after.state,
        [channel.state for channel in after.channels],
    )
    assert resolved(next_attempt(mixed(), "me/2", later(5), 60.0), "human/1", NOW, "failed", "eve@desk") is None
    assert resolved(sending(), "human/1", NOW, "failed", "eve@desk") is None


def test_settling_takes_no_record_out_of_the_quarantine() -> None:
    """Its entry is still there, and nobody sends what a crash left half sent: only `dead replay` does."""
    half = taken_over(sending("a", "b"), "you/1", later(50), 60.0, HOLD)
    after = resolved(quarantined(half, "max_deliveries"), "human/1", later(60), "delivered", "eve@desk")
    assert after is not None
    assert "quarantined" == after.state
    assert ["delivered", "sending"] == [channel.state for channel in after.channels]


def test_the_log_of_attempts_is_bounded() -> None:
    """The last ten attempts of a channel are kept, and 1 KiB of each answer."""
    delivery = sending()
    for n in range(15):
        delivery = settled(
            delivery, outcomes(a=Retry("busy", 503, answer=f"{n}" + "x" * 5000)), NOW, RetryPolicy((1.0,) * 99)
        )
        delivery = next_attempt(delivery, "me/2", later(3600), 60.0)
    log = delivery.channels[0].log
    assert KEPT_ATTEMPTS == len(log)
    assert "14" == log[-1].answer[:2]
    assert 1024 == len(log[-1].answer)


def test_a_suppressed_alert_names_its_rule() -> None:
    """Nobody has to guess why an alert was not sent."""
    assert ("suppressed", "maintenance") == (suppressed("maintenance").state, suppressed("maintenance").suppressed_by)


def test_a_channel_starts_with_nothing_known() -> None:
    """A new channel's part of the record is small: defaults are not stored."""
    assert ChannelDelivery("a", "sending") == sending().channels[0]


@pytest.mark.parametrize("seed", range(200))
def test_the_lists_name_the_channels_in_their_states(seed: int) -> None:
    """Whatever happens in whatever order, each list has the channels of its state, whatever the record's own."""
    random = Random(seed)
    delivery = first_attempt(["a", "b", "c"], "me/1", NOW, 60.0)
    answers = (Accepted(200), Refused("no", 410), Retry("busy", 503), Retry("lost", unseen=True))
    for step in range(12):
        now = later(step * random.choice([1, 100]))
        came = outcomes(**{name: random.choice(answers) for name in random.sample("abc", random.randint(0, 3))})
        after: list[Delivery | None] = [
            settled(delivery, came, now, HOLD),
            next_attempt(delivery, "me/2", now, 60.0),
            taken_over(delivery, "me/3", now, 60.0, HOLD),
            lease_expired(delivery, now, HOLD),
            left_to_redriver(delivery, random.randint(1, 4), now, HOLD),
            quarantined(delivery, "max_deliveries"),
            with_acceptances(delivery, settled(sending("a", "b", "c"), came, now, POLICY), now),
            redelivery_requested(delivery, "me/4", now, in_doubt=random.random() < 0.5),
            resolved(delivery, "me/5", now, random.choice(["delivered", "failed"]), "operator"),
        ]
        delivery = random.choice(after) or delivery
        for state in ("failed", "retrying", "in_doubt"):
            expected = tuple(channel.name for channel in delivery.channels if channel.state == state)
            assert expected == getattr(delivery, f"{state}_channels")
