"""What one process counts. Called for every alert: each call is a few additions, and neither waits nor fails."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from typing import Self

from trio_alerts.delivery import SINK, Delivery
from trio_alerts.event import SEVERITIES
from trio_alerts.meter.cells import Cells, inherited_cells, own_cells
from trio_alerts.meter.layout import (
    BACKENDS,
    BATCHES,
    DURATIONS,
    LATENCIES,
    OTHER,
    REASONS,
    RESULTS,
    STATES,
    Layout,
    width,
)
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.record import Record
from trio_alerts.record_ids import is_canary
from trio_alerts.settings.settings import Settings

LONGEST_S = 7 * 86_400.0  # that a delivery counts for in the sum of all

_RESULTS = {Accepted: 0, Retry: 1, Refused: 3, Later: 4}  # places in `RESULTS`
_UNSEEN = 2


class Meter:
    """Counts into cells.

    Args:
        layout: Which cell means what.
        cells: Where; this process's own if not given.
        aliases: Channels by other names that records know them by.
    """

    def __init__(
        self, layout: Layout | None = None, cells: Cells | None = None, aliases: Mapping[str, str] | None = None
    ) -> None:
        self.layout = Layout() if layout is None else layout
        self.cells = own_cells(self.layout) if cells is None else cells
        self._place_channels(aliases or {})
        self._latencies = self.layout.latencies
        self._states: Mapping[str, int] = {state: self.layout.states + place for place, state in enumerate(STATES)}
        self._reasons = {reason: self.layout.quarantined + place for place, reason in enumerate(REASONS)}

    @classmethod
    def of(cls, settings: Settings, layout: Layout) -> Self:
        """Return the meter of this process, which counts where its parent reads if it has one."""
        return cls(layout, inherited_cells(layout), _aliases(settings))

    def configure(self, settings: Settings) -> None:
        """Count for the channels of other settings."""
        self.layout.add(channel.name for channel in settings.channels)
        self._place_channels(_aliases(settings))

    def attempted(self, channel: str, outcome: Outcome | Later, took_s: float) -> None:
        """Count an attempt through a channel that was made."""
        cells, places = self.cells, self._attempts.get(channel)
        if places is None:
            if channel == SINK:
                return
            places = self._attempts[OTHER]
        attempts, durations = places
        cells[attempts + (_UNSEEN if outcome.unseen else _RESULTS[type(outcome)])] += 1
        cells[durations + bisect_left(DURATIONS, took_s)] += 1
        cells[durations + _DURATION_SUM] += int(took_s * 1_000_000)

    def wrote(self, before: Delivery | None, record: Record, rank: int | None = None) -> None:
        """Count what a record says now that we have written it, if it did not say so `before`; None: it is new.

        `rank` is its severity's, where that is known: else the record is read for it, which costs more than the rest.
        """
        if is_canary(record.id):
            return
        after, cells = record.delivery, self.cells
        if before is None or after.state != before.state:
            place = self._states.get(after.state)
            if place is not None:
                cells[place] += 1
            if after.state == "delivered" and after.delivered_at is not None:
                self._delivered(
                    record.id, after.delivered_at.timestamp(), record.severity_rank if rank is None else rank
                )
        if before is not None and after.in_doubt != before.in_doubt:
            known = {channel.name: channel.in_doubt for channel in before.channels}
            for channel in after.channels:
                place = self._doubts.get(channel.name, self._doubts[OTHER])
                cells[place] += max(channel.in_doubt - known.get(channel.name, 0), 0)

    def quarantined(self, reason: str) -> None:
        """Count an entry that was moved to the dead letters."""
        self.cells[self._reasons.get(reason, self._reasons[OTHER])] += 1

    def batches(self, backend: str) -> Callable[[int], None]:
        """Return what counts the batches that are sent to a backend; called with the size of each."""
        cells, begin = self.cells, self.layout.batches + BACKENDS.index(backend) * width(BATCHES)

        def count(items: int) -> None:
            cells[begin + bisect_left(BATCHES, items)] += 1
            cells[begin + len(BATCHES) + 1] += items

        return count

    def _place_channels(self, aliases: Mapping[str, str]) -> None:
        places = {name: place for place, name in enumerate(self.layout.channels)}
        places |= {alias: places.get(name, places[OTHER]) for alias, name in aliases.items()}
        self._doubts = {name: self.layout.doubts + place for name, place in places.items()}
        self._attempts = {
            name: (self.layout.attempts + place * len(RESULTS), self.layout.durations + place * width(DURATIONS))
            for name, place in places.items()
        }

    def _delivered(self, record_id: str, at_s: float, rank: int) -> None:
        # From XADD, which the entry's ID tells, by the server's clock at both ends. A producer may write any ID, and
        # anybody may change a record: neither may fail here, nor fill a sum.
        try:
            added_ms = int(record_id.rpartition("|")[2].partition("-")[0])
        except ValueError:
            return
        took_s = at_s - added_ms / 1000
        if not 0.0 <= took_s <= LONGEST_S:
            took_s = 0.0 if took_s < 0.0 else LONGEST_S
        if not 0 <= rank < len(SEVERITIES):
            rank = 0
        begin = self._latencies + rank * _LATENCY_CELLS
        self.cells[begin + bisect_left(LATENCIES, took_s)] += 1
        self.cells[begin + _LATENCY_SUM] += int(took_s * 1_000_000)


def _aliases(settings: Settings) -> dict[str, str]:
    return {alias: channel.name for channel in settings.channels for alias in channel.aliases}


_DURATION_SUM = len(DURATIONS) + 1
_LATENCY_CELLS, _LATENCY_SUM = width(LATENCIES), len(LATENCIES) + 1
