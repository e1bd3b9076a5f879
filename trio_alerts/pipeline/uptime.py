"""How long a backend has answered: what another owner of a record needs to write what it knows, it needs of this."""

import math
from collections import deque

import trio

# Enough for half an hour of a backend that fails every other second. Older gaps count as answered: whoever asks about
# a time that long waits less than it should, and no more than that.
KEPT_GAPS = 1000


class Uptime:
    """The time since the start in which a backend has answered. A single failure costs no more than it lasts.

    A backend may refuse writes and answer reads (a full disk, a block): a gap in which a write has failed goes on until
    a write succeeds, or until nobody waits for one any more.

    Attributes:
        in_gap: The backend does not answer just now.
    """

    def __init__(self) -> None:
        self._since_s = trio.current_time()  # what was before is not known, so it does not count
        self._gaps: deque[tuple[float, float]] = deque(maxlen=KEPT_GAPS)  # from, to; monotonic, the oldest first
        self._gap_since_s = -math.inf
        self.in_gap = False
        self._write_failed = False

    def __repr__(self) -> str:
        return f"<Uptime: {len(self._gaps)} gaps{', one now' if self.in_gap else ''}>"

    def failed(self, *, write: bool) -> None:
        """Note that the backend did not answer."""
        if not self.in_gap:
            self.in_gap, self._gap_since_s = True, trio.current_time()
        self._write_failed = self._write_failed or write

    def answered(self, *, write: bool) -> None:
        """Note that it answered. `write`: to a write, or there is none that still waits."""
        if self.in_gap and (write or not self._write_failed):
            self._gaps.append((self._gap_since_s, trio.current_time()))
            self.in_gap = self._write_failed = False

    def since(self, moment_s: float) -> float:
        """Return for how many seconds it has answered since a moment, on trio's clock."""
        now_s = trio.current_time()
        moment_s = max(moment_s, self._since_s)
        gaps = [*self._gaps, (self._gap_since_s if self.in_gap else now_s, now_s)]
        return now_s - moment_s - sum(max(0.0, end_s - max(begin_s, moment_s)) for begin_s, end_s in gaps)
