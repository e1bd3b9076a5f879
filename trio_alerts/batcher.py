"""Natural batching: what gathers while the last request is under way goes out together in the next.

There is no timer. An idle system sends a lone item at once; a busy one sends large batches, because much gathers
while a request runs. Whoever submits an item waits for that item's own result, and never for long: a batch is bounded
by who sends it, and when one is not answered, those who wait behind it are told as well.
"""

import itertools
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

import trio

from trio_alerts.errors import Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batcher(Generic[Item, Result]):
    """Gathers items of many tasks into batches.

    Args:
        flush: Sends one batch and returns one result an item, in order; an exception in place of a result is
            that item's alone. What it raises reaches every item of the batch, and `Unavailable` also those that wait
            for the next one: each would wait as long for the same news. It must bound its own waiting.
        max_items: The largest batch, in items.
        max_bytes: The largest batch, in bytes; one item alone may exceed it.
        size_of: An item's bytes.
        patience_s: An item that has waited for longer when its turn comes is not sent any more: `Unavailable`. So
            nobody waits for more than this and two flushes, however many wait and however slowly they are served.

    Attributes:
        on_batch: Each is called with the size of each batch, in items, before it is sent; for whoever counts them.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_items: int,
        max_bytes: int,
        size_of: Callable[[Item], int],
        patience_s: float,
    ) -> None:
        self._flush = flush
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._size_of = size_of
        self._patience_s = patience_s
        self.on_batch: list[Callable[[int], None]] = []
        self._gathered: dict[_Waiter[Item, Result], None] = {}  # a dict is a queue from which any item can leave
        self._idle = trio.lowlevel.ParkingLot()
        self._runs = 0
        self._closed = False

    def __repr__(self) -> str:
        """Tell the live state."""
        state = "closed" if self._closed else f"{self._runs - len(self._idle)}/{self._runs} sending"
        return f"<Batcher: {state}, {len(self._gathered)} gathered>"

    async def submit(self, item: Item, *, held: bool = False) -> Result:
        """Send an item with the next batch and return its own result.

        Raises:
            Exception: What `flush` gave for this item, or raised for its batch.
            Unavailable: Also: `run` has ended; if the item was under way, whether it was done is unknown.

        Cancellation: an item that still waits for a batch is withdrawn, and nothing happened; one that is under way
        is sent all the same, and only its result is lost. No other item is affected. With `held`, a cancellation is
        held off until the result is there: the shield of a write whose fate must be known, without a scope of its own.
        """
        if self._closed:
            raise Unavailable("it is being closed")
        waiter: _Waiter[Item, Result] = _Waiter(
            item, self._size_of(item), trio.current_time(), trio.lowlevel.current_task()
        )
        self._gathered[waiter] = None
        if self._idle:
            self._idle.unpark()

        def withdraw(_: object) -> trio.lowlevel.Abort:
            if held:
                return trio.lowlevel.Abort.FAILED
            self._gathered.pop(waiter, None)
            waiter.task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(withdraw)
        return waiter.result()

    async def run(self) -> None:
        """Send batches until cancelled; each task that runs this sends one batch at a time.

        Cancellation: when the last such task ends, everybody who still waits gets `Unavailable`.
        """
        self._runs += 1
        try:
            while True:
                while not self._gathered:
                    await self._idle.park()
                self._refuse_late()
                if batch := self._take():
                    await self._send(batch)
        finally:
            self._runs -= 1
            if not self._runs:
                self._close()

    async def _send(self, batch: Sequence["_Waiter[Item, Result]"]) -> None:
        for count in self.on_batch:
            count(len(batch))
        results: list[Result | Exception] = [Unavailable("it was closed before the result was known")] * len(batch)
        try:
            results = await self._results(batch)
        finally:
            for waiter, result in zip(batch, results, strict=True):
                waiter.settle(result)
        if all(isinstance(result, Unavailable) for result in results):
            self._refuse_gathered(results[0])

    async def _results(self, batch: Sequence["_Waiter[Item, Result]"]) -> list[Result | Exception]:
        try:
            results = await self._flush([waiter.item for waiter in batch])
            return [result for _, result in zip(batch, results, strict=True)]
        except Exception as fault:  # noqa: BLE001 (it is raised in every task that waits for it)
            return [fault] * len(batch)

    def _refuse_late(self) -> None:
        earliest_s = trio.current_time() - self._patience_s
        late = list(itertools.takewhile(lambda waiter: waiter.since_s < earliest_s, self._gathered))
        for waiter in late:
            del self._gathered[waiter]
            waiter.settle(Unavailable(f"it could not be sent within {self._patience_s:g} s: too much is waiting"))

    def _take(self) -> list["_Waiter[Item, Result]"]:
        batch: list[_Waiter[Item, Result]] = []
        size = 0
        for waiter in self._gathered:
            size += waiter.size
            if len(batch) == self._max_items or (batch and size > self._max_bytes):
                break
            batch.append(waiter)
        for waiter in batch:
            del self._gathered[waiter]
        return batch

    def _close(self) -> None:
        self._closed = True
        self._refuse_gathered(Unavailable("it was closed before this was sent"))

    def _refuse_gathered(self, fault: Result | Exception) -> None:
        for waiter in self._gathered:
            waiter.settle(fault)
        self._gathered.clear()


@dataclass(slots=True, eq=False)
class _Waiter(Generic[Item, Result]):
    """One item and the task that waits for its result; `task` is None once that task waits no more."""

    item: Item
    size: int
    since_s: float  # monotonic
    task: trio.lowlevel.Task | None
    outcome: Result | Exception | None = None
    traceback: TracebackType | None = None

    def settle(self, outcome: Result | Exception) -> None:
        if self.task is None:
            return
        self.outcome = outcome
        if isinstance(outcome, Exception):
            self.traceback = outcome.__traceback__
        trio.lowlevel.reschedule(self.task)
        self.task = None

    def result(self) -> Result:
        if isinstance(self.outcome, Exception):
            # One fault is raised in many tasks: each starts from the flush's own traceback, or they would pile up.
            raise self.outcome.with_traceback(self.traceback)
        return self.outcome  # type: ignore[return-value]  # a result that may be None is one of the caller's kind
