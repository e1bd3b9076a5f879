"""Both backends as those commands use them that change records."""

import getpass
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from msgspec.structs import replace

from trio_alerts.backends.redis.stream import open_redis_stream
from trio_alerts.clock import ServerClock
from trio_alerts.commands.reading import SETTINGS as STORE_SETTINGS
from trio_alerts.commands.reading import enter_both, open_records
from trio_alerts.delivery import Delivery
from trio_alerts.deployment import refuse_foreign
from trio_alerts.errors import RefusedContent, Unavailable
from trio_alerts.ports.store import AlertStore, Stored
from trio_alerts.ports.stream import AlertStream
from trio_alerts.settings.settings import Settings

SETTINGS = ("redis_url", "redis_ca_file", "redis_timeout_s", "stream", "streams", "group", *STORE_SETTINGS)

MOST_ROUNDS = 10  # a write that loses a race against a process wins the second or the third time


@dataclass(frozen=True, slots=True)
class Changed:
    """A record as it was written."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """A record that was not written, and why."""

    reason: str


Decide = Callable[[Delivery, str], Delivery | str]
"""Takes a record's delivery and a fresh owner token; returns the next state, or why the record is left alone."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operator at work: the backends, and the server's time."""

    stream: AlertStream
    store: AlertStore
    clock: ServerClock

    async def change(self, record_id: str, decide: Decide, *, dry_run: bool = False) -> Changed | LeftAlone:
        """Change a record by a conditional write, as long as `decide` wants it; whoever was first has won.

        Raises:
            Unavailable: It may have been written, or not.
        """
        owner = f"{operator()}/{secrets.token_hex(8)}"
        for _ in range(MOST_ROUNDS):
            try:
                stored = await self.store.get(record_id)
            except RefusedContent as fault:
                return LeftAlone(str(fault))
            if stored is None:
                return LeftAlone("there is no such record")
            if stored.record.delivery.owner == owner:
                return Changed(stored.record.delivery)  # our own write, whose answer was a conflict
            after = decide(stored.record.delivery, owner)
            if isinstance(after, str):
                return LeftAlone(after)
            if dry_run:
                return Changed(after)
            written = await self.store.replace(replace(stored.record, delivery=after), stored.version)
            if isinstance(written, Stored):
                return Changed(after)
        raise Unavailable(f"the store took none of {MOST_ROUNDS} writes of record {record_id!r}, and does not show why")


@asynccontextmanager
async def open_operation(settings: Settings) -> AsyncIterator[Operation]:
    """Open both backends; nothing is created.

    Raises:
        SchemaError: The store does not exist yet, cannot be trusted, or belongs to another deployment.
        StartError: A backend cannot be reached or refuses us, also later.
    """
    async with AsyncExitStack() as opened:
        stream, store = await enter_both(opened, open_redis_stream(settings), open_records(settings))
        await refuse_foreign(stream, store)
        clock = ServerClock()
        clock.set(await stream.server_time())
        yield Operation(stream, store, clock)


def operator() -> str:
    """Name whoever runs the command: for the records that say who settled something."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())  # containers often run as a user without a name
    return f"{user}@{socket.gethostname()}"
