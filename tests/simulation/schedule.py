"""Trio made deterministic, and processes that can be frozen.

Trio shuffles the tasks that are ready, so that nobody relies on their order. With the two private knobs that its own
Hypothesis support uses, the shuffle comes from a seed. What is left are virtual time and our own chance.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextvars import ContextVar
from typing import TypeVar

import trio
import trio.testing
from trio._core import _run

T = TypeVar("T")

OWNER: ContextVar[Hashable] = ContextVar("OWNER", default=None)
"""Which simulated process a task belongs to: tasks inherit it from whoever starts them."""


def run_repeatably(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    """Run a trio program in virtual time so that the same seed gives the same steps."""
    knobs = vars(_run)
    allowed, state = knobs["_ALLOW_DETERMINISTIC_SCHEDULING"], _run._r.getstate()
    knobs["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    _run._r.seed(seed)
    try:
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.0))
    finally:
        knobs["_ALLOW_DETERMINISTIC_SCHEDULING"] = allowed
        _run._r.setstate(state)


def scheduler_fingerprint() -> float:
    """Return a number that differs if the scheduler has made any other choice so far."""
    return _run._r.random()


class FreezingQueue(deque[trio.lowlevel.Task]):
    """Trio's queue of ready tasks, but that tasks of a frozen process wait in it, as after a SIGSTOP.

    Their timers run on: after the thaw all that has lapsed is noticed at once, as in a real process.
    """

    def __init__(self, ready: Iterable[trio.lowlevel.Task] = ()) -> None:
        super().__init__(ready)
        self._frozen: dict[Hashable, list[trio.lowlevel.Task]] = {}

    @classmethod
    def install(cls) -> "FreezingQueue":
        """Replace the queue of the running scheduler."""
        runner = _run.GLOBAL_RUN_CONTEXT.runner
        queue = cls(runner.runq)
        runner.runq = queue
        return queue

    def append(self, task: trio.lowlevel.Task) -> None:
        """Make a task ready, now or at the thaw."""
        if self._frozen:
            waiting = self._frozen.get(task.context.get(OWNER))
            if waiting is not None:
                waiting.append(task)
                return
        super().append(task)

    def freeze(self, owner: Hashable) -> None:
        """Let no task of this process make a step any more."""
        self._frozen.setdefault(owner, [])

    def thaw(self, owner: Hashable) -> None:
        """Let them go on."""
        for task in self._frozen.pop(owner, ()):
            super().append(task)
