"""The demo's arithmetic: what balances, and what does not."""

import dataclasses

import pytest

from trio_alerts.delivery import ChannelDelivery, ChannelState, Delivery, State
from trio_alerts.demo.ledger import EntryCounts, Evidence, ReceiverBook, findings, marked_repeats, rate_per_s
from trio_alerts.record import Record

NAMES = ("quick", "slow")


def record(record_id: str, state: State = "delivered", *, in_doubt: int = 0) -> Record:
    channel_state: ChannelState = "delivered" if state == "delivered" else "failed"
    channels = tuple(ChannelDelivery(name, channel_state, in_doubt=in_doubt) for name in NAMES)
    return Record(record_id, b"{}", Delivery(state=state, channels=channels))


def book(name: str = "slow", **repeats: int) -> ReceiverBook:
    return ReceiverBook(name, "", requests=len(repeats) + sum(repeats.values()), refused=0, repeats=repeats)


def balanced() -> Evidence:
    """Three entries: one delivered twice, which is marked; one failed; one quarantined."""
    return Evidence(
        counts=EntryCounts(emitted=3, by_state={"delivered": 1, "failed": 1}, dead=1),
        emitted=["a", "b", "c"],
        records={"a": record("a", in_doubt=1), "b": record("b", "failed")},
        dead=[("c", "bad_json")],
        books=[book("quick", a=1), book("slow", a=0)],
    )


def test_a_balanced_ledger_has_no_findings() -> None:
    """Every entry in one place, every acceptance in its receiver's book, every repeat marked: nothing to say."""
    assert [] == findings(balanced())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (
            {"counts": EntryCounts(emitted=4, by_state={"delivered": 1, "failed": 1}, dead=1)},
            "4 entries were emitted and 3 are accounted for",
        ),
        (
            {"counts": EntryCounts(emitted=3, by_state={"delivered": 1, "failed": 1}, dead=1, unread=2, pending=1)},
            "2 entries were not read and 1 are not acknowledged",
        ),
        (
            {"counts": EntryCounts(emitted=3, by_state={"delivered": 2, "failed": 0, "sending": 1}, dead=1)},
            "1 records still say `sending`",
        ),
        ({"emitted": ["a", "b", "c", "d"]}, "emitted, and neither recorded nor quarantined: d"),
        ({"emitted": ["a", "b"]}, "recorded or quarantined, and never emitted: c"),
        ({"dead": [("c", "bad_json"), ("b", "bad_json")]}, "recorded, and quarantined too: b"),
        ({"dead": [("c", "bad_json"), ("c", "bad_json")]}, "quarantined more than once: c"),
        ({"books": [book("quick", a=1), book("slow")]}, "delivered by the record, and never accepted by slow: a"),
        ({"books": []}, "delivered by the record, and accepted by nobody: a"),
        ({"books": [book("quick", a=2), book("slow", a=0)]}, "sent to quick again without being marked in doubt: a"),
        (
            {"books": [dataclasses.replace(book("quick", a=0), unsigned=2), book("slow", a=0)]},
            "quick got 2 requests that do not prove who sent them",
        ),
    ],
)
def test_everything_that_does_not_balance_is_said(change: dict[str, object], found: str) -> None:
    """Each way of not balancing is found by itself, and named with the IDs that it is about."""
    assert [found] == findings(dataclasses.replace(balanced(), **change))  # type: ignore[arg-type]


def test_an_acceptance_counts_although_another_channel_failed() -> None:
    """What a failed record says of a channel that accepted must be in that receiver's book, too."""
    half = Delivery(state="failed", channels=(ChannelDelivery("quick", "delivered"), ChannelDelivery("slow", "failed")))
    records = {**balanced().records, "b": Record("b", b"{}", half)}
    evidence = dataclasses.replace(balanced(), records=records)

    assert ["delivered by the record, and never accepted by quick: b"] == findings(evidence)


def test_many_ids_are_cut_short() -> None:
    """A long list of what is missing names the first three."""
    evidence = dataclasses.replace(balanced(), emitted=["a", "b", "c", *(f"x{number}" for number in range(1_500))])

    assert ["emitted, and neither recorded nor quarantined: x0, x1, x10 and 1,497 more"] == findings(evidence)


def test_a_record_in_quarantine_is_counted_once() -> None:
    """A record that was marked before its entry moved stands for that entry, not for one more."""
    records = {**balanced().records, "c": record("c", "quarantined")}
    counts = EntryCounts(emitted=3, by_state={"delivered": 1, "failed": 1, "quarantined": 1}, dead=1)

    assert [] == findings(dataclasses.replace(balanced(), records=records, counts=counts))


def test_repeats_are_marked_per_channel() -> None:
    """A mark counts for as many repeats as the record's own channel says, and for no others."""
    records = {"a": record("a", in_doubt=1), "b": record("b")}

    assert 1 == marked_repeats(book("quick", a=3, b=1), records)
    assert 0 == marked_repeats(book("pager", a=3), records)


def test_a_retry_may_wait_while_nothing_else_is_left() -> None:
    """Quiet means: all is read, acknowledged, and in nobody's hands."""
    quiet = EntryCounts(emitted=3, by_state={"delivered": 1, "retrying": 1, "waiting": 1})

    assert quiet.is_quiet()
    for busy in ({"unread": 1}, {"pending": 1}, {"by_state": {"sending": 1}}):
        assert not dataclasses.replace(quiet, **busy).is_quiet()


@pytest.mark.parametrize("begin_s", [10.0, 10.05, 10.0999])
def test_the_rate_of_workers_in_step_is_not_distorted_by_the_steps(begin_s: float) -> None:
    """Sixteen at once every 100 ms are 160/s, wherever the window begins and ends."""
    times_s = [round(10 + step / 10, 3) for step in range(30) for _ in range(16)]

    rate = rate_per_s(times_s, begin_s, 12.0)

    assert rate is not None
    assert 160 == round(rate)


def test_a_rate_needs_enough_to_count() -> None:
    """Fewer than fifty say nothing about a rate, and neither does a single moment."""
    assert rate_per_s([float(number) for number in range(49)], 0, 100) is None
    assert rate_per_s([1.0] * 60, 0, 100) is None


@pytest.mark.parametrize(("in_doubt", "marked"), [(1, 0), (2, 1), (3, 1)])
def test_the_mark_of_a_503_covers_no_repeat(in_doubt: int, marked: int) -> None:
    """A front may answer 503 for a receiver that accepted: it has a mark of its own, and a repeat needs another."""
    evidence = balanced()
    slow = dataclasses.replace(book("slow", a=1), turned_away={"a": 1})
    records = {**evidence.records, "a": record("a", in_doubt=in_doubt)}
    found = findings(dataclasses.replace(evidence, records=records, books=[book("quick", a=0), slow]))

    assert marked == marked_repeats(slow, records)
    assert ([] if marked else ["sent to slow again without being marked in doubt: a"]) == found
