"""Which cell means what: fixed by the names of the channels, so that a process and its replacement agree. Pure."""

import zlib
from collections.abc import Iterable, Sequence
from typing import Final, Self, get_args

from trio_alerts.delivery import StoredState
from trio_alerts.event import SEVERITIES
from trio_alerts.settings.settings import Settings

RESULTS: Final = ("accepted", "retry", "unseen", "refused", "limited")
STATES: Final = tuple(state for state in get_args(StoredState) if state != "sending")
BACKENDS: Final = ("redis", "store")
ROOM: Final = 64  # channels that changes of the configuration may add before the next start, of 184 bytes each
OTHER: Final = "other"  # a channel that records name and the settings do not, and a reason that nobody knows
REASONS: Final = (
    *("missing_event", "bad_json", "bad_event", "too_large", "max_deliveries"),
    *("id_reused", "refused_content", "unreadable_record", "pruned", OTHER),
)

# Upper bounds of buckets, in seconds: of attempts, up to the longest that the settings usually allow; of alerts, from a
# quiet system to an alert that was retried for a day; of batches, in items.
DURATIONS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0)
LATENCIES: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0),
)
BATCHES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Layout:
    """Where each figure begins. A histogram is its buckets, one for what is beyond them, and the sum.

    Args:
        channels: Their names.

    Attributes:
        channels: The names of all that have cells, in their order: `OTHER` first. None that had cells loses them.
        counters: Where counters begin; in the cell before them is the fingerprint.
        gauges: Where gauges begin: they are cleared when a process ends, and counters never.
        fingerprint: Tells this layout from those of other channels or another version; never 0.
    """

    counters = 1

    def __init__(self, channels: Sequence[str] = ()) -> None:
        self.channels = tuple(dict.fromkeys((OTHER, *channels)))
        self.size = self.counters
        self._most = many = len(self.channels) + ROOM
        self.attempts = self._take(many * len(RESULTS))
        self.durations = self._take(many * width(DURATIONS))
        self.doubts = self._take(many)
        self.states = self._take(len(STATES))
        self.latencies = self._take(len(SEVERITIES) * width(LATENCIES))
        self.quarantined = self._take(len(REASONS))
        self.batches = self._take(len(BACKENDS) * width(BATCHES))
        self.gauges = self.size
        self.beat = self._take(1)  # when the loop last turned, all times in ms of the system's monotonic clock; 0: none
        self.started_s = self._take(1)  # when it was started, in seconds since the epoch; 0: it has ended
        self.reading = self._take(1)  # 1 from when it first reads on
        self.reading_since = self._take(1)  # when the read under way began; 0: none is
        self.holding_since = self._take(1)  # when the oldest alert in flight was taken, or could go on; 0: none is
        self.in_flight = self._take(1)
        self.workers = self._take(1)
        self.outages = self._take(len(BACKENDS))
        self.open_breakers = self._take(many)
        self.failing_ms = self._take(many)
        self.fingerprint = zlib.crc32(repr((sorted(vars(self).items()), RESULTS, STATES, REASONS)).encode()) + 1

    def add(self, channels: Iterable[str]) -> None:
        """Give cells to channels that have none, as far as there is room; what is beyond it counts as `OTHER`."""
        self.channels = tuple(dict.fromkeys((*self.channels, *channels)))[: self._most]

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the layout of every process with these settings."""
        return cls([channel.name for channel in settings.channels])

    def _take(self, cells: int) -> int:
        begin, self.size = self.size, self.size + cells
        return begin


def width(buckets: Sequence[float]) -> int:
    """Return how many cells a histogram takes."""
    return len(buckets) + 2
