"""The store's contract on OpenSearch, both versions."""

from collections.abc import AsyncIterator

import pytest

from tests.contracts.retention import RetentionContract
from tests.contracts.store import StoreContract, TestedStore
from tests.support.servers import OpenSearch
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.documents import Target, read_document
from trio_alerts.backends.opensearch.store import open_opensearch_store
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.settings.settings import Settings


class TestOpenSearchStore(StoreContract, RetentionContract):
    """The contract on a fresh index of a real server."""

    @pytest.fixture
    async def tested(self, opensearch_server: OpenSearch, fresh_index: str) -> AsyncIterator[TestedStore]:
        address = OpenSearchAddress((opensearch_server.url,))
        settings = Settings(store_url=address, index=fresh_index)
        async with open_opensearch_store(address, settings) as store, open_opensearch(address) as client:
            await store.prepare()

            async def refresh() -> None:
                await client.indices.refresh(index=fresh_index)

            async def document(record_id: str) -> bytes:
                found = await read_document(client, Target(fresh_index), record_id)
                assert found is not None
                return found.source

            async def vanish(record_id: str) -> None:
                await client.delete(index=fresh_index, id=record_id)

            yield TestedStore(store, refresh, document, vanish)
