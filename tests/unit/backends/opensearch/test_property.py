"""Whatever JSON or bytes come in place of an answer, nothing is read out of them that OpenSearch did not say."""

import httpx
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.store import record
from tests.support.fakes.opensearch import INFO
from tests.unit.backends.opensearch.test_client import Network, opened
from trio_alerts.backends.opensearch.bulk import bulk, write_of
from trio_alerts.backends.opensearch.documents import Target, read_document, search_documents
from trio_alerts.errors import Unavailable

scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
names = st.sampled_from(
    ("_id", "_index", "found", "items", "create", "status", "error", "type", "hits", "_shards", "x")
)
values = st.recursive(
    scalars | st.text(max_size=5) | st.sampled_from(("1-0", "alerts-000001")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
bodies = values.map(msgspec.json.encode) | st.binary(max_size=40)
statuses = st.sampled_from((200, 200, 200, 201, 204, 302, 400, 401, 403, 404, 404, 409, 413, 429, 500, 503))
types = st.sampled_from(("application/json", "application/json; charset=UTF-8", "text/html", ""))


@given(statuses, types, bodies)
def test_no_made_up_answer_says_anything(status: int, content_type: str, body: bytes) -> None:
    """A document, a missing one, a page and the items of a bulk have more to them than can come about by chance."""
    trio.run(_ask, httpx.Response(status, content=body, headers={"content-type": content_type} if content_type else {}))


async def _ask(answer: httpx.Response) -> None:
    network, target = Network(), Target("alerts", "alerts-000001")
    network.answer = lambda request: answer if request.url.path != "/" else httpx.Response(200, json=INFO)
    async with opened(network) as client:
        for ask in (
            lambda: bulk(client, "alerts", [write_of(record(record_id="1-0"), None)], timeout_s=10),
            lambda: read_document(client, target, "1-0"),
            lambda: search_documents(client, target, {"match_all": {}}, size=1),
        ):
            with pytest.raises(Unavailable):
                await ask()
