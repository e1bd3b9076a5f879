"""The backends as the four steps ask them: an answer that does not come is waited for; see `Outage.outlast`."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import trio

from trio_alerts.alert import Entry
from trio_alerts.pipeline.outage import Outage
from trio_alerts.ports.store import AlertStore, Conflict, Stored
from trio_alerts.ports.stream import AlertStream
from trio_alerts.record import Record

T = TypeVar("T")


class PatientStore:
    """The store before a send, or after it.

    Before it nothing has gone out: a soft stop ends the wait, and every method raises `Stopping` then. After it the
    outcome must be stored: no stop ends the wait, and a cancellation is held off during each try.

    Args:
        store, outage: The store, and whether it answers.
        stopping: The soft stop; None: after a send.
    """

    def __init__(self, store: AlertStore, outage: Outage, stopping: trio.Event | None = None) -> None:
        self._store = store
        self._outage = outage
        self._stopping = stopping
        held_off = partial(partial, _held_off)
        self._try: Callable[..., Callable[[], Awaitable[Any]]] = held_off if stopping is None else partial

    def create(self, record: Record) -> Awaitable[Stored | Conflict]:
        return self._outage.outlast(self._try(self._store.create, record), self._stopping, write=True)

    def replace(self, record: Record, version: tuple[int, int]) -> Awaitable[Stored | Conflict]:
        """See the port, which holds a cancellation off by itself."""
        return self._outage.outlast(partial(self._store.replace, record, version), self._stopping, write=True)

    def get(self, record_id: str) -> Awaitable[Stored | None]:
        return self._outage.outlast(self._try(self._store.get, record_id), self._stopping)


class PatientStream:
    """The stream at the end of the work on an entry: no stop ends the wait, a cancellation is held off during a try."""

    def __init__(self, stream: AlertStream, outage: Outage) -> None:
        self._stream = stream
        self._outage = outage

    def ack(self, entries: Sequence[Entry]) -> Awaitable[None]:
        return self._outage.outlast(partial(_held_off, self._stream.ack, entries))

    def refund(self, entry: Entry) -> Awaitable[set[str]]:
        """Take back the delivery of an entry to us: nothing was done with it."""
        return self._outage.outlast(partial(_held_off, partial(self._stream.renew, [entry], counted=False)))

    def quarantine(self, entry: Entry, reason: str, error: str) -> Awaitable[bool]:
        return self._outage.outlast(partial(_held_off, self._stream.quarantine, entry, reason, error))


async def _held_off(operation: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Hold a cancellation off until the backend has answered, at most its own bound: as `replace` does."""
    with trio.CancelScope(shield=True):
        answer = await operation(*arguments)
    return answer  # noqa: RET504 - to the type checker, a scope may swallow a return
