"""Opens the store that the settings name, for a process that runs or for a command."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from trio_alerts.backends.sqlite.store import open_sqlite_store
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.ports.migration import Migration
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.addresses import SqliteAddress
from trio_alerts.settings.settings import Settings


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[AlertStore]:
    """Open the store that `store_url` names.

    Raises:
        StartError: It cannot be reached or refuses us.
    """
    address = settings.store_url
    if isinstance(address, SqliteAddress):
        async with open_sqlite_store(address.path, settings.store_timeout_s) as store:
            yield store
    else:
        # Imported here: OpenSearch's client needs a third of a second, which whoever uses SQLite would wait for.
        from trio_alerts.backends.opensearch.store import open_opensearch_store  # noqa: PLC0415

        async with open_opensearch_store(address, settings) as store:
            yield store


@asynccontextmanager
async def open_records(settings: Settings, *, guarded: bool = True) -> AsyncIterator[AlertStore]:
    """Open the store for a command, which does not wait for an outage to end; nothing is created.

    Args:
        settings: Name the store.
        guarded: Refuse a store whose filters may find too little: a command would not show it.

    Raises:
        SchemaError: It does not exist yet, or cannot be trusted.
        StartError: It cannot be reached or refuses us, also later.
    """
    try:
        async with open_store(settings) as store:
            if guarded:
                await store.guard()
            yield store
    except Unavailable as error:
        raise StartError(str(error)) from error


@asynccontextmanager
async def open_migration(
    settings: Settings, reach: Callable[[str], Awaitable[None]]
) -> AsyncIterator[Migration | None]:
    """Open what migrates the store; None: it is an SQLite file, which the first `run` of a version migrates.

    Args:
        settings: Name the store.
        reach: Called with the name of each point at which a test may kill the process.

    Raises:
        StartError: It cannot be reached or refuses us, also later.
    """
    address = settings.store_url
    if isinstance(address, SqliteAddress):
        yield None
        return
    from trio_alerts.backends.opensearch.migration import open_opensearch_migration  # noqa: PLC0415, as above

    try:
        async with open_opensearch_migration(address, settings, reach) as migration:
            yield migration
    except Unavailable as error:
        raise StartError(str(error)) from error
