"""The way from a caller to a server and back, as far as a fake lets others decide about it."""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

FakeT = TypeVar("FakeT")
P = ParamSpec("P")
T = TypeVar("T")


class Wire(Protocol):
    """Carries each call of a fake in place of the fake's own latency and faults: the simulation has one."""

    async def carry(
        self, call: object, effect: Callable[[], T], until: Callable[[], bool] | None = None, within_s: float = 0.0
    ) -> T:
        """Bring a call to its server, let it have its effect there, and bring the answer back.

        Args:
            call: The fake's own note of the call.
            effect: What the server does, at once and as a whole; what it raises is the answer.
            until: The server waits with the effect until this is true; it becomes so only by what others do there.
            within_s: How long the server waits for that, at most.
        """


def served(effect: Callable[Concatenate[FakeT, P], T]) -> Callable[Concatenate[FakeT, P], Coroutine[Any, Any, T]]:
    """Make a method of a port from what the server does: the fake's `serve` brings the call there and back."""

    @wraps(effect)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> T:
        result: T = await self.serve(effect.__name__, partial(effect, self, *args, **kwargs), *args)
        return result

    return call
