"""What the demo claims at the end, as pure arithmetic on figures that come from outside the worker processes."""

import statistics
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trio_alerts.delivery import State
from trio_alerts.record import Record

STATES: tuple[State, ...] = ("delivered", "retrying", "waiting", "failed", "in_doubt", "suppressed")
SHOWN_IDS = 3  # of a list that should be empty: enough to go and look
FEWEST_FOR_A_RATE = 50  # three rounds of 16 workers: fewer say nothing


@dataclass(frozen=True, slots=True)
class EntryCounts:
    """How many entries are where, by Redis and the store; nothing is trimmed, so all that were emitted are there.

    `queues` has how many alerts wait for each channel, if any do.
    """

    emitted: int = 0
    unread: int = 0
    pending: int = 0
    consumers: int = 0
    by_state: Mapping[str, int] = field(default_factory=dict)
    dead: int = 0
    queues: Mapping[str, int] = field(default_factory=dict)

    @property
    def stored(self) -> int:
        """Records, in any state."""
        return sum(self.by_state.values())

    @property
    def accounted_for(self) -> int:
        """The right side of: emitted = records in any of the `STATES` + dead letters."""
        return sum(self.by_state.get(state, 0) for state in STATES) + self.dead

    def is_quiet(self) -> bool:
        """Whether nothing that was emitted so far has still to be read, or is in anybody's hands; others may wait."""
        return not (self.unread or self.pending or self.by_state.get("sending", 0))


@dataclass(slots=True)
class ReceiverBook:
    """What one receiver says it was sent.

    Args:
        name: As the channel is called.
        manner: How it behaves, in words.
        requests: All of them; each is accepted, refused, or a repeat.
        refused: Answered with anything but 200.
        repeats: By the ID of each accepted alert: how many more requests came for it afterwards.
        unsigned: Requests that do not prove who sent them; they are among the refused.
        turned_away: By the ID of an alert: how many requests for it were refused as a front may refuse for a receiver
            that accepted (503). Each is marked in doubt for itself, and its mark is no repeat's.
    """

    name: str
    manner: str
    requests: int = 0
    refused: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    unsigned: int = 0
    turned_away: dict[str, int] = field(default_factory=dict)

    @property
    def accepted(self) -> int:
        """Alerts that it accepted."""
        return len(self.repeats)

    @property
    def repeated(self) -> int:
        """Requests for alerts that it had accepted already."""
        return sum(self.repeats.values())


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that the verdict rests on, collected after the workers stopped.

    `emitted` are the IDs of all entries; `dead` has, for each dead letter, the ID it had before and the reason.
    """

    counts: EntryCounts
    emitted: Collection[str]
    records: Mapping[str, Record]
    dead: Sequence[tuple[str, str]]
    books: Sequence[ReceiverBook]


def findings(evidence: Evidence) -> list[str]:
    """Return everything that does not balance, a sentence each; none: the ledger balances."""
    return [*_of_the_sum(evidence.counts), *_of_entries(evidence), *_of_receivers(evidence)]


def marked_repeats(book: ReceiverBook, records: Mapping[str, Record]) -> int:
    """Return how many of a receiver's repeats are marked in doubt in their record, for that very channel."""
    return sum(min(count, _marks(records, book, record_id)) for record_id, count in book.repeats.items())


def rate_per_s(times_s: Sequence[float], begin_s: float, end_s: float) -> float | None:
    """Return the rate of what happened at these times, in order, within a window: the slope of its running count.

    Sixteen workers at a receiver that always takes the same time move in step, so the count is a staircase. Counting
    between two moments would be wrong by up to a whole step; the slope through all points is not. None: too few.
    """
    within = times_s[bisect_left(times_s, begin_s) : bisect_left(times_s, end_s)]
    if len(within) < FEWEST_FOR_A_RATE or within[-1] == within[0]:
        return None
    return statistics.linear_regression(within, range(len(within))).slope


def _of_the_sum(counts: EntryCounts) -> Iterator[str]:
    if counts.emitted != counts.accounted_for:
        yield f"{counts.emitted:,} entries were emitted and {counts.accounted_for:,} are accounted for"
    if counts.unread or counts.pending:
        yield f"{counts.unread:,} entries were not read and {counts.pending:,} are not acknowledged"
    if sending := counts.by_state.get("sending", 0):
        yield f"{sending:,} records still say `sending`"


def _of_entries(evidence: Evidence) -> Iterator[str]:
    emitted, records = set(evidence.emitted), evidence.records
    moved = Counter(entry_id for entry_id, _ in evidence.dead)
    dead = moved.keys()
    living = {record_id for record_id, record in records.items() if record.delivery.state != "quarantined"}
    yield from _named("emitted, and neither recorded nor quarantined", emitted - records.keys() - dead)
    yield from _named("recorded or quarantined, and never emitted", (records.keys() | dead) - emitted)
    yield from _named("recorded, and quarantined too", living & dead)
    yield from _named("quarantined more than once", {one for one, count in moved.items() if count > 1})


def _of_receivers(evidence: Evidence) -> Iterator[str]:
    accepted = (book.repeats for book in evidence.books)
    whole = {one for one, record in evidence.records.items() if record.delivery.state == "delivered"}
    yield from _named("delivered by the record, and accepted by nobody", whole.difference(*accepted))
    for book in evidence.books:
        said = {
            record_id
            for record_id, record in evidence.records.items()
            if any(channel.name == book.name and channel.state == "delivered" for channel in record.delivery.channels)
        }
        lacking = said - book.repeats.keys()
        yield from _named(f"delivered by the record, and never accepted by {book.name}", lacking)
        silent = {
            record_id for record_id, count in book.repeats.items() if count > _marks(evidence.records, book, record_id)
        }
        yield from _named(f"sent to {book.name} again without being marked in doubt", silent)
        if book.unsigned:
            yield f"{book.name} got {book.unsigned:,} requests that do not prove who sent them"


def _marks(records: Mapping[str, Record], book: ReceiverBook, record_id: str) -> int:
    """Return how many marks a record has for a receiver's repeats."""
    channels = records[record_id].delivery.channels if record_id in records else ()
    marks = sum(channel.in_doubt for channel in channels if channel.name == book.name)
    return max(0, marks - book.turned_away.get(record_id, 0))


def _named(what: str, ids: Collection[str]) -> Iterator[str]:
    if ids:
        shown = ", ".join(sorted(ids)[:SHOWN_IDS])
        more = f" and {len(ids) - SHOWN_IDS:,} more" if len(ids) > SHOWN_IDS else ""
        yield f"{what}: {shown}{more}"
