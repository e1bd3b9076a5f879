"""The time that others judge: leases and next attempts are written and compared in the Redis server's time."""

import datetime as dt
import math
import time
from collections.abc import Callable

import trio

JUMP_S = 0.5  # an honest clock is nowhere near that wrong between two measurements


class ServerClock:
    """The server's time, from its last measured offset to the monotonic clock.

    Machines' own clocks differ and jump; the stream's server is one for all workers. Between two measurements the
    monotonic clock carries on. The server's clock may be set, too: that is seen as a jump against the monotonic one.

    Args:
        machine_time: Returns this machine's own time, in seconds since the epoch.
    """

    def __init__(self, machine_time: Callable[[], float] = time.time) -> None:
        self._machine_time = machine_time
        self._monotonic = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it at every call
        self._offset_s = dt.datetime.now(dt.UTC).timestamp() - self._monotonic()
        self._unsure_s = math.inf  # how much larger the offset may be: the time that the measurement took
        self.jumps = 0  # that were seen
        self._set_back = dt.timedelta()
        self._set_back_at_s = self._forward_at_s = -math.inf  # monotonic
        self._straight_since_s = math.inf
        self._now_ms = 0
        self._now = dt.datetime.fromtimestamp(0, dt.UTC)

    def set(self, server_time_s: float, took_s: float = 0.0) -> float:
        """Take over a measurement.

        Args:
            server_time_s: Seconds since the epoch, as the server just said.
            took_s: How long ago it was asked.

        Returns:
            By how much the server's clock was set since the measurement before, in seconds; 0 if it just went on.
        """
        now_s = self._monotonic()
        offset_s = server_time_s - now_s
        jump_s = 0.0
        if self._unsure_s == math.inf:
            pass  # the first measurement: what was there before was this machine's own time
        elif offset_s + took_s < self._offset_s - JUMP_S or offset_s > self._offset_s + self._unsure_s + JUMP_S:
            jump_s = offset_s - self._offset_s
        self._offset_s, self._unsure_s = offset_s, took_s
        self.jumps += jump_s != 0
        if jump_s != 0 or self._straight_since_s == math.inf:
            self._straight_since_s = now_s
        if jump_s < 0:
            self._set_back, self._set_back_at_s = self.set_back + dt.timedelta(seconds=-jump_s), now_s
        elif jump_s > 0:
            self._forward_at_s = now_s
        return jump_s

    def now(self) -> dt.datetime:
        """Return the server's time, in UTC, to the millisecond."""
        now_ms = int((self._monotonic() + self._offset_s) * 1000)
        if now_ms != self._now_ms:  # an alert asks several times within one
            self._now_ms, self._now = now_ms, dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
        return self._now

    def earliest_now(self) -> dt.datetime:
        """Return the server's time, or this machine's own if that is earlier: one clock alone makes nothing old."""
        return min(self.now(), dt.datetime.fromtimestamp(self._machine_time(), dt.UTC))

    @property
    def straight_for_s(self) -> float:
        """For how long the server's clock has not jumped, as far as this process knows; negative: it was not asked."""
        return self._monotonic() - self._straight_since_s

    @property
    def set_back(self) -> dt.timedelta:
        """By how much the clock was set back, as long as times that were written before may lie in the future."""
        over = self._monotonic() - self._set_back_at_s >= self._set_back.total_seconds()
        return dt.timedelta() if over else self._set_back

    def lapsed(self, until: dt.datetime, lease_s: float) -> bool:
        """Tell whether a lease is over: by the clock, and if that was set forward, by a whole lease since then."""
        return until <= self.now() and self._monotonic() - self._forward_at_s >= lease_s
