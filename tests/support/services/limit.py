"""A service's own rate limit."""

import trio


class Limit:
    """Lets `burst` messages through at once, and one each `every_s` seconds."""

    def __init__(self, every_s: float, burst: int) -> None:
        self.every_s = every_s
        self.burst = burst
        self.refused = 0
        self._free_at_s = -1e9  # when the whole burst is there again

    def wait_s(self) -> float:
        """Return 0 for a message that may pass, or how long one has to wait."""
        now = trio.current_time()
        start = max(self._free_at_s, now)
        wait_s = start + self.every_s - now - self.burst * self.every_s
        if wait_s > 0:
            self.refused += 1
            return wait_s
        self._free_at_s = start + self.every_s
        return 0.0
