"""The store, opened for a command that reads records."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_alerts.errors import StartError, Unavailable
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.settings import Settings
from trio_alerts.store import open_store


@asynccontextmanager
async def open_records(settings: Settings) -> AsyncIterator[AlertStore]:
    """Open the store for reading; nothing is created.

    Raises:
        SchemaError: It does not exist yet, or cannot be trusted: a filter that finds too little would not show it.
        StartError: It cannot be reached or refuses us, also later.
    """
    try:
        async with open_store(settings) as store:
            await store.guard()
            yield store
    except Unavailable as error:
        raise StartError(str(error)) from error
