"""What follows for a record from its channels: every combination of three of them."""

import datetime as dt
from collections.abc import Iterator
from itertools import product
from typing import get_args

import pytest
from msgspec.structs import replace

from trio_alerts.delivery import ChannelDelivery, ChannelState, Delivery
from trio_alerts.record import Record
from trio_alerts.record_state import summed_up

NOW = dt.datetime(2026, 11, 26, 2, 0, tzinfo=dt.UTC)
SOON = NOW + dt.timedelta(minutes=5)
STATES: tuple[ChannelState, ...] = get_args(ChannelState)
MOVING = ("retrying", "waiting", "standby")
FALLBACKS: tuple[dict[str, tuple[str, ...]], ...] = ({}, {"c": ("a", "b")}, {"c": ("a",)}, {"b": ("a",), "c": ("a",)})
"""By its name, the primaries of each fallback."""


def part(name: str, state: ChannelState, fallback_of: tuple[str, ...] = (), *, seen: bool = False) -> ChannelDelivery:
    """Return a channel, with a time if it moves by itself; `seen`: if it was tried, its receiver may have seen it."""
    next_attempt_at, doubts = SOON if state in MOVING else None, int(seen and state != "standby")
    return ChannelDelivery(name, state, 1, doubts, next_attempt_at, fallback_of=fallback_of)


def record_of(*channels: ChannelDelivery, now: dt.datetime = NOW) -> Delivery:
    before = Delivery(state="sending", lease_until=SOON, channels=channels)
    return summed_up(before, channels, now)


def combinations() -> Iterator[tuple[ChannelDelivery, ...]]:
    """Yield every combination of one to three channels, fallbacks or not, seen or not."""
    for count in (1, 2, 3):
        for states in product(STATES, repeat=count):
            for fallback_of, seen in product(FALLBACKS if count == 3 else FALLBACKS[:1], (False, True)):
                if all(state != "standby" or name in fallback_of for name, state in zip("abc", states, strict=False)):
                    yield tuple(
                        part(name, state, fallback_of.get(name, ()), seen=seen)
                        for name, state in zip("abc", states, strict=False)
                    )


def accepted(names: tuple[str, ...], channels: tuple[ChannelDelivery, ...]) -> bool:
    return any(one.state == "delivered" for one in channels if one.name in names)


def is_neutral(one: ChannelDelivery, channels: tuple[ChannelDelivery, ...]) -> bool:
    """Tell by the words of the page whether a channel has no say."""
    fallbacks = tuple(other.name for other in channels if one.name in other.fallback_of)
    return (
        one.state in ("suppressed", "spared", "standby")
        or (one.state in ("failed", "in_doubt") and accepted(fallbacks, channels))
        or (one.state == "failed" and accepted(one.fallback_of, channels))
    )


@pytest.mark.parametrize("now", [NOW, SOON])
def test_every_combination_of_three_channels(now: dt.datetime) -> None:
    """The state is the worst that has a say; `delivered` needs an acceptance; nothing that was accepted is undone."""
    order = ("sending", "retrying", "waiting", "in_doubt", "failed", "delivered")
    met = 0
    for channels in combinations():
        met += 1
        after = record_of(*channels, now=now)
        states = {one.state for one in after.channels if not is_neutral(one, after.channels)}
        expected = next((state for state in order if state in states), "suppressed")
        assert expected == after.state, channels
        everybody = all(one.state == "delivered" or is_neutral(one, after.channels) for one in after.channels)
        assert (everybody and accepted(("a", "b", "c"), after.channels)) == (after.state == "delivered")
        assert (after.state == "delivered") == (b'"delivered":true' in Record("1-0", b'{"a":1}', after).to_json())
        assert after == summed_up(after, after.channels, now)
        times = [one.next_attempt_at for one in after.channels if one.next_attempt_at and one.state != "suppressed"]
        assert (None if after.state == "sending" else min(times, default=None)) == after.next_attempt_at
        assert after.next_attempt_at is None or after.state in ("retrying", "waiting", "in_doubt")  # see `MOVING`
        if after.state == "delivered":
            assert "delivered" == record_of(*after.channels, now=SOON + dt.timedelta(days=9)).state
        for named, state in (
            *((after.failed_channels, "failed"), (after.queues, "waiting"), (after.retrying_channels, "retrying")),
            (after.in_doubt_channels, "in_doubt"),
        ):
            assert tuple(one.name for one in after.channels if one.state == state) == named
        for was, one in zip(channels, after.channels, strict=True):
            check_step(was, one, after.channels, now)
    assert met > 3000


def check_step(
    was: ChannelDelivery, one: ChannelDelivery, channels: tuple[ChannelDelivery, ...], now: dt.datetime
) -> None:
    """Check one channel: only fallbacks and what they make good change, and only as the page says."""
    primaries = [other.state for other in channels if other.name in was.fallback_of]
    if was.state == one.state:
        left_over = was.state == "standby" and (now >= SOON or "delivered" in primaries)
        assert not left_over, (was, channels)
        return
    assert was.state not in ("delivered", "suppressed", "spared", "sending", "in_doubt"), (was, one)
    fallbacks = tuple(other.name for other in channels if was.name in other.fallback_of)
    primaries = [
        "spared" if other.state == "in_doubt" and is_neutral(other, channels) else other.state
        for other in channels
        if other.name in was.fallback_of
    ]
    match one.state:
        case "spared":
            not_needed = "delivered" in primaries and not was.in_doubt
            none_tried = was.state == "standby" and not set(primaries) - {"suppressed", "spared"}
            assert not_needed or none_tried or (was.state == "failed" and accepted(fallbacks, channels)), (
                was,
                channels,
            )
        case "retrying":
            given_up = set(primaries) <= {"failed", "suppressed", "spared"}
            assert was.state == "standby", was
            assert now >= SOON or given_up, (was, channels)
        case "suppressed":
            assert ("standby", {"suppressed"}) == (was.state, set(primaries)), (was, channels)
            assert (was.next_attempt_at, now) == (one.next_attempt_at, one.since)  # its time stands still
        case _:
            pytest.fail(f"{was} became {one}")


def test_a_fallback_that_is_due_is_engaged_by_whoever_writes() -> None:
    """At its time, and not a moment before; its primary goes on."""
    before = (part("a", "retrying"), part("b", "standby", ("a",)))
    assert ["retrying", "standby"] == [one.state for one in record_of(*before).channels]
    assert (SOON, SOON) == (record_of(*before).next_attempt_at, before[1].next_attempt_at)

    after = record_of(replace(before[0], next_attempt_at=SOON + dt.timedelta(hours=1)), before[1], now=SOON)
    assert ["retrying", "retrying"] == [one.state for one in after.channels]
    assert SOON == after.next_attempt_at
