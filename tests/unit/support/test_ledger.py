import datetime as dt
from typing import Any, Literal

import pytest
from msgspec.structs import replace

from tests.support.ledger import balance
from tests.support.receiver import Request
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt

pytestmark = pytest.mark.support

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
EMITTED = {"1-1": ("hook",), "1-2": ("hook", "steady")}


Outcome = Literal["delivered", "retrying", "failed", "in_doubt", "sending"]  # of a channel and so of the record


def request(entry_id: str, path: str = "/hook", *, accepted: bool = True, status: int = 200) -> Request:
    return Request(0.0, "POST", path, {}, b"", entry_id, status, None, accepted, duplicate=False)


def record(entry_id: str, state: Outcome = "delivered", in_doubt: int = 0, **fields: Any) -> Record:
    channels = tuple(
        ChannelDelivery(name, state, in_doubt=in_doubt, last_error="refused" if state == "failed" else None)
        for name in EMITTED[entry_id]
    )
    return Record(entry_id, b"{}", replace(Delivery(state=state, channels=channels), **fields))


ALL_SENT = [request("1-1"), request("1-2"), request("1-2", "/steady")]
ALL_DELIVERED = {entry_id: record(entry_id) for entry_id in EMITTED}


def test_what_every_receiver_accepted_is_delivered() -> None:
    """Record and ledger agree: nothing is wrong."""
    found = balance(EMITTED, ALL_DELIVERED, (), ALL_SENT)
    assert (2, 2, [], {}, []) == (found.emitted, found.delivered, found.lost, found.unmarked, found.stray)
    assert found.emitted == found.sum


def test_no_record_is_a_loss() -> None:
    """What was accepted but not recorded cannot be found by anybody."""
    assert ["1-1"] == balance(EMITTED, {"1-2": record("1-2")}, (), ALL_SENT).lost


def test_an_acceptance_that_the_receiver_knows_nothing_of_is_a_loss() -> None:
    """A record that says `delivered` is not believed."""
    assert ["1-2"] == balance(EMITTED, ALL_DELIVERED, (), ALL_SENT[:2]).lost


def test_a_record_that_is_not_final_is_a_loss() -> None:
    """What is still `sending` when nobody works on it any more is not dealt with."""
    stuck = Record("1-1", b"{}", first_attempt(["hook"], "gone/1", NOW, 60.0))
    assert ["1-1"] == balance(EMITTED, ALL_DELIVERED | {"1-1": stuck}, (), ALL_SENT).lost


def test_a_failure_needs_a_reason() -> None:
    """`failed` alone does not say who must act."""
    found = balance(EMITTED, ALL_DELIVERED | {"1-1": record("1-1", "failed")}, (), ALL_SENT)
    assert (1, 1, []) == (found.delivered, found.failed, found.lost)
    silent = Record("1-1", b"{}", Delivery(state="failed", channels=(ChannelDelivery("hook", "failed"),)))
    assert ["1-1"] == balance(EMITTED, ALL_DELIVERED | {"1-1": silent}, (), ALL_SENT).lost


def test_a_channel_that_was_left_out_is_a_loss() -> None:
    """The record must name all channels that the routes name."""
    short = Record("1-2", b"{}", Delivery(state="delivered", channels=(ChannelDelivery("hook", "delivered"),)))
    assert ["1-2"] == balance(EMITTED, ALL_DELIVERED | {"1-2": short}, (), ALL_SENT).lost


def test_a_fallback_that_was_spared_has_nothing() -> None:
    """A receiver that has the alert was not spared; without it, all is as it must be."""
    delivered = ChannelDelivery("hook", "delivered")
    spared = ChannelDelivery("steady", "spared", fallback_of=("hook",))
    records = ALL_DELIVERED | {"1-2": Record("1-2", b"{}", Delivery(state="delivered", channels=(delivered, spared)))}
    assert ["1-2"] == balance(EMITTED, records, (), ALL_SENT).lost
    assert [] == balance(EMITTED, records, (), ALL_SENT[:2]).lost


@pytest.mark.parametrize(("in_doubt", "unmarked", "marked"), [(0, 2, 0), (1, 1, 1), (2, 0, 2), (3, 0, 2)])
def test_repeats_are_marked_up_to_the_number_that_the_record_says(in_doubt: int, unmarked: int, marked: int) -> None:
    """A duplicate is a request after an accepted one; each needs its own mark, on its own channel."""
    sent = [request("1-1", accepted=False), *ALL_SENT, request("1-1"), request("1-1", accepted=False)]
    found = balance(EMITTED, ALL_DELIVERED | {"1-1": record("1-1", in_doubt=in_doubt)}, (), sent)
    assert (unmarked, marked) == (found.duplicates_unmarked, found.marked)


def test_quarantined_and_deleted_entries_are_no_losses() -> None:
    """They are counted where they belong; a deleted record excuses only what all receivers have accepted."""
    dead = balance(EMITTED, {"1-2": record("1-2")}, {"1-1"}, ALL_SENT[1:])
    assert (1, 1, []) == (dead.delivered, dead.quarantined, dead.lost)
    unread = balance(EMITTED, {"1-2": record("1-2")}, (), ALL_SENT[1:], excused={"1-1"})
    assert (1, []) == (unread.excused, unread.lost)
    twice = [*ALL_SENT[:2], request("1-1")]
    forgotten = balance(EMITTED, {}, (), twice, forgotten=EMITTED.keys())
    assert (1, ["1-2"]) == (forgotten.excused, forgotten.lost)
    assert (0, 1) == (forgotten.duplicates_unmarked, forgotten.unmarkable)


def test_what_was_never_emitted_is_named() -> None:
    """A request or a record out of nowhere is as wrong as a missing one."""
    assert ["1-3"] == balance(EMITTED, ALL_DELIVERED, (), [*ALL_SENT, request("1-3")]).stray


@pytest.mark.parametrize(
    ("status", "in_doubt", "unmarked", "marked"), [(503, 1, 1, 0), (503, 2, 0, 1), (503, 0, 1, 0), (429, 1, 0, 1)]
)
def test_the_mark_of_a_503_covers_no_repeat(status: int, in_doubt: int, unmarked: int, marked: int) -> None:
    """A front may answer 503 for a receiver that accepted: it has a mark of its own, and a repeat needs another."""
    sent = [request("1-1", accepted=False, status=status), *ALL_SENT, request("1-1")]
    found = balance(EMITTED, ALL_DELIVERED | {"1-1": record("1-1", in_doubt=in_doubt)}, (), sent)

    assert (unmarked, marked) == (found.duplicates_unmarked, found.marked)
