"""Opens the store that the settings name."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from trio_alerts.backends.sqlite.store import open_sqlite_store
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.addresses import SqliteAddress
from trio_alerts.settings.settings import Settings


@asynccontextmanager
async def open_store(settings: Settings, on_batch: Callable[[int], None] | None = None) -> AsyncIterator[AlertStore]:
    """Open the store that `store_url` names.

    Args:
        settings: Those that begin with `store_`, and what the store is for.
        on_batch: Told the size of each batch of writes.

    Raises:
        StartError: It cannot be reached or refuses us.
    """
    address = settings.store_url
    if isinstance(address, SqliteAddress):
        async with open_sqlite_store(address.path, settings.store_timeout_s, on_batch) as store:
            yield store
    else:
        # Imported here: OpenSearch's client needs a third of a second, which whoever uses SQLite would wait for.
        from trio_alerts.backends.opensearch.store import open_opensearch_store  # noqa: PLC0415

        async with open_opensearch_store(address, settings, on_batch) as store:
            yield store
