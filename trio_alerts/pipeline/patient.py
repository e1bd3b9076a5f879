"""The backends as the four steps ask them: an answer that does not come is waited for; see `Outage.outlast`.

Before a send nothing has gone out yet, so a soft stop ends the wait, and a cancellation cuts it anywhere. After a send
the outcome must be stored: only a cancellation ends the wait, and that between two tries.
"""

import datetime as dt
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import trio

from trio_alerts.alert import Entry
from trio_alerts.pipeline.outage import Outage
from trio_alerts.ports.store import AlertStore, Conflict, Due, Stored
from trio_alerts.ports.stream import AlertStream
from trio_alerts.record import Record

T = TypeVar("T")


class StoreBeforeSend:
    """The store before a send. Every method raises `Stopping` if the store did not answer before the soft stop.

    Args:
        store: The store.
        outage: Whether it answers.
        stopping: The soft stop.
    """

    def __init__(self, store: AlertStore, outage: Outage, stopping: trio.Event) -> None:
        self._store = store
        self._outage = outage
        self._stopping = stopping

    def create(self, record: Record) -> Awaitable[Stored | Conflict]:
        """See the port."""
        return self._outage.outlast(partial(self._store.create, record), self._stopping, write=True)

    def replace(self, record: Record, version: tuple[int, int]) -> Awaitable[Stored | Conflict]:
        """See the port."""
        return self._outage.outlast(partial(self._store.replace, record, version), self._stopping, write=True)

    def get(self, record_id: str) -> Awaitable[Stored | None]:
        """See the port."""
        return self._outage.outlast(partial(self._store.get, record_id), self._stopping)

    def due(self, now: dt.datetime, count: int, after: Due | None = None) -> Awaitable[list[Due]]:
        """See the port."""
        return self._outage.outlast(partial(self._store.due, now, count, after), self._stopping)

    def pace(self, failed_rounds: int, record_id: str) -> Awaitable[None]:
        """See `Outage.pace`."""
        return self._outage.pace(failed_rounds, record_id, self._stopping)


class StoreAfterSend:
    """The store after a send. Cancellation: every method holds it off during a try.

    Args:
        store: The store.
        outage: Whether it answers.
    """

    def __init__(self, store: AlertStore, outage: Outage) -> None:
        self._store = store
        self._outage = outage

    def create(self, record: Record) -> Awaitable[Stored | Conflict]:
        """See the port."""
        return self._outage.outlast(partial(_held_off, self._store.create, record), write=True)

    def replace(self, record: Record, version: tuple[int, int]) -> Awaitable[Stored | Conflict]:
        """See the port."""
        return self._outage.outlast(partial(self._store.replace, record, version), write=True)

    def get(self, record_id: str) -> Awaitable[Stored | None]:
        """See the port."""
        return self._outage.outlast(partial(_held_off, self._store.get, record_id))

    def pace(self, failed_rounds: int, record_id: str) -> Awaitable[None]:
        """See `Outage.pace`."""
        return self._outage.pace(failed_rounds, record_id)


class PatientStream:
    """The stream. `ack` and `quarantine` end the work on an entry, so no stop ends the wait for them.

    Args:
        stream: The stream.
        outage: Whether it answers.
        stopping: The soft stop.
    """

    def __init__(self, stream: AlertStream, outage: Outage, stopping: trio.Event) -> None:
        self._stream = stream
        self._outage = outage
        self._stopping = stopping

    def ack(self, entry: Entry) -> Awaitable[None]:
        """See the port."""
        return self._outage.outlast(partial(self._stream.ack, entry))

    def quarantine(self, entry: Entry, reason: str, error: str) -> Awaitable[bool]:
        """See the port. Cancellation: held off during a try."""
        return self._outage.outlast(partial(_held_off, self._stream.quarantine, entry, reason, error))

    def owns(self, entry: Entry) -> Awaitable[bool]:
        """See the port.

        Raises:
            Stopping: The server did not answer before the soft stop.
        """
        return self._outage.outlast(partial(self._stream.owns, entry), self._stopping)


async def _held_off(operation: Callable[..., Awaitable[T]], *arguments: object) -> T:
    """Hold a cancellation off until the backend has answered, at most its own bound: as `replace` and `ack` do."""
    with trio.CancelScope(shield=True):
        answer = await operation(*arguments)
    return answer  # noqa: RET504 - to the type checker, a scope may swallow a return
