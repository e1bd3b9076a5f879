"""Opens the store that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from trio_alerts.backends.sqlite.store import open_sqlite_store
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
