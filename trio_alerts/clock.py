"""The time that others judge: leases and next attempts are written and compared in the Redis server's time."""

import datetime as dt

import trio


class ServerClock:
    """The server's time, from its last measured offset to the monotonic clock.

    Machines' own clocks differ and jump; the stream's server is one for all workers. Between two measurements the
    monotonic clock carries on.
    """

    def __init__(self) -> None:
        self._monotonic = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it at every call
        self._offset_s = dt.datetime.now(dt.UTC).timestamp() - self._monotonic()
        self._now_ms = 0
        self._now = dt.datetime.fromtimestamp(0, dt.UTC)

    def set(self, server_time_s: float) -> None:
        """Take over a measurement: seconds since the epoch, as the server just said."""
        self._offset_s = server_time_s - self._monotonic()

    def now(self) -> dt.datetime:
        """Return the server's time, in UTC, to the millisecond."""
        now_ms = int((self._monotonic() + self._offset_s) * 1000)
        if now_ms != self._now_ms:  # an alert asks several times within one
            self._now_ms, self._now = now_ms, dt.datetime.fromtimestamp(now_ms / 1000, dt.UTC)
        return self._now
