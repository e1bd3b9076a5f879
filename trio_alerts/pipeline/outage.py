"""Waiting for a backend that does not answer, in one way, and logging it: at once, each minute, and when it is over."""

import math
from collections.abc import Awaitable, Callable, Iterator
from random import Random
from typing import TypeVar

import trio
from loguru import logger

from trio_alerts.errors import AlertError, Stopping, Unavailable
from trio_alerts.pipeline.uptime import Uptime
from trio_alerts.text import in_words

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0  # how much later than the backend an idle worker may be back, and 1 try in 5 s a worker at worst
UNFORESEEN_TRIES = 5  # at least 1.5 s of waits: what fails for so long while others get through is not the backend
FAILED = -math.inf

LOGGED_EVERY_S = 60.0  # an unstable backend is reported once a minute, not each time
ROUNDS_AT_ONCE = 3  # a write that loses a race against another process wins the second or the third time
LONG_S = 30.0  # an outage that has lasted so long is in each report

T = TypeVar("T")


class Signal:
    """Something that changes again and again; whoever waits for it misses no change, and sees many as one."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def set(self) -> None:
        """It has changed."""
        self._event.set()

    async def changed(self) -> None:
        """Wait for a change since the last call. Cancellation: none is missed."""
        await self._event.wait()
        self._event = trio.Event()


class Outage:
    """Whether one backend answers. Everybody who waits for it shares this, so that each change is logged once.

    A backend may refuse some operations and do others (a full Redis, single items of a `_bulk`): the outage lasts until
    nobody waits any more. One that begins within a minute of another that was logged is left to `report`, with its end.

    Args:
        name: The backend, as the log calls it.
        random: Where the jitter of the waits comes from.
        waits: Set when a task begins or ends to wait for this backend.
        finished: How many alerts have been brought to their outcome so far.

    Attributes:
        uptime: How long the backend has answered.
    """

    def __init__(
        self, name: str, random: Random, waits: Signal | None = None, finished: Callable[[], int] = lambda: 0
    ) -> None:
        self.name = name
        self.under_way = False
        self.uptime = Uptime()
        self._random = random
        self._waits = waits or Signal()
        self._waiting = 0  # operations that failed and were not done since
        self._began_at_s = trio.current_time()  # monotonic
        self._cause = ""
        self._logged = False  # of the outage under way, or of the last one
        self._logged_at_s = -math.inf
        self._unlogged = 0  # outages since the last report that were not logged
        self._finished = finished
        self._monotonic = trio.lowlevel.current_clock().current_time  # trio.current_time() looks for it at every call
        self._asking: dict[trio.lowlevel.Task, float] = {}  # since when, or FAILED

    def __repr__(self) -> str:
        return f"<Outage of {self.name}: {'under way' if self.under_way else 'none'}>"

    async def outlast(
        self, operation: Callable[[], Awaitable[T]], give_up: trio.Event | None = None, *, write: bool = False
    ) -> T:
        """Repeat an operation until the backend answers.

        Only for operations that may be repeated: the first try may have happened although it raised `Unavailable`.
        An unexpected exception is what an unexpected answer looks like, so it is an outage as well; but not if it comes
        again and again while other alerts get through: then it is this operation's own.

        Args:
            operation: What to try.
            give_up: When this is set, waiting ends.
            write: It writes what became of a record, or who owns it.

        Raises:
            Stopping: `give_up` was set while the backend did not answer.
        """
        wait_s, tries, finished = FIRST_WAIT_S, 0, 0
        task = trio.lowlevel.current_task()
        self._asking[task] = self._monotonic()
        try:
            while True:
                try:
                    result = await operation()
                    break
                except Unavailable as cause:
                    self.began(cause)
                except AlertError:
                    raise
                except Exception as fault:
                    if tries >= UNFORESEEN_TRIES and self._finished() > finished:
                        raise
                    self.began(f"an unexpected answer ({fault!r})", fault)
                self.uptime.failed(write=write)
                if not tries:
                    finished = self._finished()
                    self._waiting += 1
                    self._asking[task] = FAILED
                    self._waits.set()
                tries += 1
                wait_s = await self.pause(wait_s, give_up)
        finally:
            del self._asking[task]
            if tries:
                self._waiting -= 1
                self._waits.set()
        if self.uptime.in_gap:
            self.uptime.answered(write=write or not self._waiting)
        if self.under_way:
            self.ended()
        return result

    def waiting(self, slow_s: float) -> Iterator[trio.lowlevel.Task]:
        """Yield the tasks that wait: whose try has failed, or is under way for that long."""
        limit = self._monotonic() - slow_s
        return (task for task, since_s in self._asking.items() if since_s < limit)

    async def pause(self, wait_s: float, give_up: trio.Event | None) -> float:
        """Wait once, jittered, and return the next wait: doubled and capped."""
        jittered_s = wait_s * self._random.uniform(0.5, 1.0)
        if give_up is None:
            await trio.sleep(jittered_s)
        else:
            with trio.move_on_after(jittered_s):
                await give_up.wait()
            if give_up.is_set():
                raise Stopping(f"gave up waiting for {self.name}")
        return min(2 * wait_s, LONGEST_WAIT_S)

    async def pace(self, rounds: int, record_id: str, give_up: trio.Event | None = None) -> None:
        """Pace a loop that ends only when the answers of the backend fit together, such as a conflict and a read.

        A few rounds go at once: they are races between processes. After them it is the backend that contradicts itself,
        or is slower than a lease: that is logged once, and each further round waits, as in an outage.

        Args:
            rounds: How often the loop has called this, this time included.
            record_id: What the loop is about, for the log.
            give_up: When this is set, waiting ends.

        Raises:
            Stopping: `give_up` was set during the pause.
        """
        paused = rounds - ROUNDS_AT_ONCE
        if paused < 1:
            return
        if paused == 1:
            logger.error(
                "{record_id}: {backend} refuses each write of it, and does not show why: its answers contradict "
                "each other, or come too late (tried again, with pauses)",
                record_id=record_id,
                backend=self.name,
            )
        await self.pause(min(FIRST_WAIT_S * 2.0 ** min(paused - 1, 16), LONGEST_WAIT_S), give_up)

    def began(self, cause: object, fault: Exception | None = None) -> None:
        """Note that the backend did not answer; the first to notice logs it, with the traceback of `fault`."""
        self._cause = str(cause)
        if self.under_way:
            return
        self.under_way = True
        self._began_at_s = trio.current_time()
        self._logged = self._began_at_s - self._logged_at_s >= LOGGED_EVERY_S
        if self._logged:
            self._logged_at_s = self._began_at_s
            logger.opt(exception=fault).log(
                "ERROR" if fault else "WARNING",  # an answer that nobody foresaw is a bug, here or there
                "{backend} does not answer: {reason} (waiting; entries stay pending)",
                backend=self.name,
                reason=cause,
            )
        else:
            self._unlogged += 1

    def ended(self) -> None:
        """Note that the backend answered; the last who waited for it logs it."""
        if not self.under_way or self._waiting:
            return
        self.under_way = False
        if self._logged:
            lasted_s = trio.current_time() - self._began_at_s
            logger.info(
                "{backend} answers again, after {_lasted}",
                backend=self.name,
                lasted_s=round(lasted_s, 1),
                _lasted=in_words(lasted_s),
            )

    def report(self) -> None:
        """Report once a minute that the outage goes on, or that there were some that were not logged."""
        now_s = trio.current_time()
        lasted_s = now_s - self._began_at_s
        if self.under_way and lasted_s >= LONG_S:
            self._logged, self._logged_at_s = True, now_s
            logger.error(
                "{backend} has not answered for {_lasted}: {reason} (waiting; entries stay pending)",
                backend=self.name,
                reason=self._cause,
                lasted_s=round(lasted_s, 1),
                _lasted=in_words(lasted_s),
            )
        elif self._unlogged:
            self._logged_at_s = now_s
            logger.warning(
                "{backend} is unstable: it did not answer {times} more times in the last minute; the last: {reason}",
                backend=self.name,
                times=self._unlogged,
                reason=self._cause,
            )
        self._unlogged = 0
