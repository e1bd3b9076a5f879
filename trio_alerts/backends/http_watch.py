"""Noticing what arrives on many sockets: each is registered with the system once, not once a wait.

`trio.lowlevel.wait_readable` tells the system about a socket before every wait: a tenth of what an alert costs. Here
all sockets stay in one epoll, edge-triggered, and one task waits for that. It also notices what happens to sockets that
nobody waits for: an idle connection that was closed is known to be.
"""

import select
from contextlib import suppress

import trio

HAS_EPOLL = hasattr(select, "epoll")  # Linux; elsewhere trio is asked before every wait


class Watched:
    """What is known about one socket.

    Attributes:
        readable: something arrived that was not read yet; a false alarm is possible.
        trusted_s: an idle socket that is not `readable` needs no look of its own for so long. What arrives is noticed
            within a turn of trio's loop, and receivers close after seconds (gunicorn 2, Node.js 5); after more than
            this, the whole process may have been stopped meanwhile.
    """

    __slots__ = ("_ended", "_task", "readable")

    trusted_s = 1.0

    def __init__(self) -> None:
        self.readable = self._ended = False
        self._task: trio.lowlevel.Task | None = None

    async def wait(self) -> None:
        """Wait until it is readable; one task at a time. Cancellation: nothing was read."""
        if self.readable:
            await trio.lowlevel.checkpoint()
            return
        self._task = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._leave)

    def was_read(self, *, empty: bool) -> None:
        """Note that it was read; `empty` if that took all there was: the system tells of what is left only once."""
        self.readable = self._ended or not empty

    def noticed(self, events: int) -> None:
        """Take note of what the system reports, and wake who waits."""
        self.readable = True
        self._ended = self._ended or events != select.EPOLLIN  # closed by the other end, or broken
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    def _leave(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class Unwatched(Watched):
    """A socket that is not watched: trio is asked before every wait, and nothing is known while it is idle."""

    __slots__ = ("_fd",)

    trusted_s = 0.0

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    async def wait(self) -> None:
        """See `Watched.wait`."""
        await trio.lowlevel.wait_readable(self._fd)

    def was_read(self, *, empty: bool) -> None:
        """See `Watched.was_read`."""


class ReadWatch:
    """The sockets of one transport. Its task is one of trio's own, and lives as long as there are sockets."""

    def __init__(self) -> None:
        self._epoll: select.epoll | None = None
        self._watched: dict[int, Watched] = {}

    def __repr__(self) -> str:
        return f"<ReadWatch of {len(self._watched)} sockets>"

    def add(self, fd: int) -> Watched:
        """Watch a socket from now on."""
        if not HAS_EPOLL:
            return Unwatched(fd)
        if self._epoll is None:
            self._epoll = select.epoll()
            trio.lowlevel.spawn_system_task(self._notice, self._epoll)
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        watched = self._watched[fd] = Watched()
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

    async def _notice(self, epoll: select.epoll) -> None:
        while not epoll.closed:  # as it may be after every wait, the first included
            for fd, events in epoll.poll(0):
                self._watched[fd].noticed(events)
            with suppress(trio.ClosedResourceError):
                await trio.lowlevel.wait_readable(epoll.fileno())
