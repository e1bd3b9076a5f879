"""Noticing what arrives on many sockets: each is registered with the system once, not once a wait.

`trio.lowlevel.wait_readable` tells the system about a socket before every wait: a tenth of what an alert costs. Here
all sockets stay in one epoll, edge-triggered, and one task waits for that. It also notices what happens to sockets that
nobody waits for, so the pool knows when an idle connection was closed.

The same task ends waits that are too long. A cancel scope around each attempt would do it too, at 7 % of what an
alert costs.
"""

import math
import select
from collections.abc import Awaitable
from contextlib import suppress

import trio

HAS_EPOLL = hasattr(select, "epoll")  # Linux; elsewhere trio is asked before every wait
LOOK_EVERY_S = 0.05  # for waits that last too long: each look goes over all sockets, so a few may end this much later


class Watched:
    """What is known about one socket.

    Attributes:
        readable: Something arrived that was not read yet; a false alarm is possible.
        trusted_s: An idle socket that is not `readable` is trusted without a look for this long. Arrivals are noticed
            within a turn of trio's loop, and receivers close after seconds (gunicorn 2, Node.js 5); after more than
            this, the whole process may have been stopped meanwhile.
    """

    __slots__ = ("_ended", "_fd", "_task", "_watch", "deadline", "readable")

    trusted_s = 1.0

    def __init__(self, fd: int, watch: "ReadWatch") -> None:
        self.readable = self._ended = False
        self.deadline = math.inf
        self._fd = fd
        self._watch = watch
        self._task: trio.lowlevel.Task | None = None

    def wait(self, deadline: float) -> Awaitable[object]:
        """Return what waits until it is `readable` or, on trio's clock, too late; one task at a time.

        Cancellation: nothing was read.

        Raises:
            trio.TooSlowError: It is too late already.
        """
        if self.readable:
            if trio.current_time() > deadline:  # or who sends a byte now and then would never be too late
                raise trio.TooSlowError
            return trio.lowlevel.checkpoint()  # noqa: ASYNC105 - who asked awaits it, with a frame less in between
        self._task = trio.lowlevel.current_task()
        self.deadline = deadline
        self._watch.look_at(deadline)
        return trio.lowlevel.wait_task_rescheduled(self._leave)  # noqa: ASYNC105

    def was_read(self, *, empty: bool) -> None:
        """Note that it was read; `empty` if nothing is left: edge-triggered, the system reports no arrival twice."""
        self.readable = self._ended or not empty

    def noticed(self, events: int) -> None:
        """Take note of what the system reports, and wake who waits."""
        self.readable = True
        self._ended = self._ended or events != select.EPOLLIN  # closed by the other end, or broken
        self.wake()

    def wake(self) -> None:
        """Let who waits go on."""
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None
            self.deadline = math.inf

    def forget(self) -> None:
        """Watch it no more; it must still be open. Safe to repeat."""
        self._watch.forget(self._fd)

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        self.deadline = math.inf
        return trio.lowlevel.Abort.SUCCEEDED


class Unwatched(Watched):
    """A socket that is not watched: trio is asked before every wait, and nothing is known while it is idle."""

    __slots__ = ()

    trusted_s = 0.0

    async def wait(self, deadline: float) -> None:
        """See `Watched.wait`."""
        with trio.move_on_at(deadline):
            await trio.lowlevel.wait_readable(self._fd)
            self.readable = True

    def was_read(self, *, empty: bool) -> None:  # noqa: ARG002
        """See `Watched.was_read`: trio reports again what is left."""
        self.readable = False


class ReadWatch:
    """The sockets of one transport. Its task is one of trio's own, and lives as long as there are sockets."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Watched] = {}
        self._look_at = math.inf  # when a wait may have to end, on trio's clock
        self._rest = trio.CancelScope()  # of the task, until something arrives or it is time to look

    def __repr__(self) -> str:
        return f"<ReadWatch of {len(self._watched)} sockets>"

    def add(self, fd: int) -> Watched:
        """Watch a socket from now on."""
        if not HAS_EPOLL:
            return Unwatched(fd, self)
        if self._epoll is None:
            self._epoll = select.epoll()
            trio.lowlevel.spawn_system_task(self._notice, self._epoll)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        watched = self._watched[fd] = Watched(fd, self)
        return watched

    def forget(self, fd: int) -> None:
        """Watch a socket no more; it must still be open. Safe to repeat."""
        if self._watched.pop(fd, None) is None or self._epoll is None:
            return
        self._epoll.unregister(fd)
        if not self._watched:
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def look_at(self, deadline: float) -> None:
        """Look for waits that last too long by then at the latest."""
        if deadline < self._look_at:
            self._look_at = self._rest.deadline = deadline

    async def _notice(self, epoll: select.epoll) -> None:
        while not epoll.closed:  # as it may be after every wait, the first included
            for fd, events in epoll.poll(0):
                self._watched[fd].noticed(events)
            if trio.current_time() >= self._look_at:
                self._end_late()
            with trio.CancelScope(deadline=self._look_at) as self._rest, suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(epoll.fileno())

    def _end_late(self) -> None:
        """Wake who has waited for too long, to find that nothing is readable."""
        now = trio.current_time()
        for watched in self._watched.values():
            if watched.deadline <= now:
                watched.wake()
        earliest = min((watched.deadline for watched in self._watched.values()), default=math.inf)
        self._look_at = max(earliest, now + LOOK_EVERY_S)
