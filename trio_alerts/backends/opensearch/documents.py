"""Records as OpenSearch keeps them: read by their ID, searched, counted.

No answer is believed before it was seen to be about what was asked: the same index, the same ID, no more than a page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import Raw, Struct
from opensearchpy import AsyncOpenSearch, NotFoundError, TransportError

from trio_alerts.backends.opensearch.answers import (
    AccessDenied,
    Answer,
    Blocked,
    MissingDocument,
    Name,
    RefreshAnswer,
    SeqNo,
    Shards,
    Term,
    error_type,
)
from trio_alerts.errors import Unavailable
from trio_alerts.text import one_line

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Target:
    """Where records lie: behind the alias, in the one index that was looked at (empty: not looked yet)."""

    alias: str
    index: str = ""

    def check(self, answered: str, *, also_alias: bool = False) -> None:
        """See that an answer is about that index.

        An ID is unique in one index, not behind an alias: what another index says of a record means nothing.

        Raises:
            AliasMoved: It is about another one.
        """
        if self.index and answered != self.index and not (also_alias and answered == self.alias):
            raise AliasMoved(f"alias {self.alias} points to {one_line(answered)} now, no longer to {self.index}")


class AliasMoved(Unavailable):
    """The alias leads to another index than the one that was looked at: by a migration, or by mistake."""


class Document(Struct, frozen=True, kw_only=True):
    """A document as it is kept, with what a conditional update of it needs, and its place in a sorted search.

    `raw` is its JSON as it was written, every digit of every number kept; empty if it was not asked for. `version` is 0
    if it was not asked for.
    """

    id: str = msgspec.field(name="_id")
    index: Name = msgspec.field(name="_index")
    seq_no: SeqNo = msgspec.field(name="_seq_no")
    primary_term: Term = msgspec.field(name="_primary_term")
    version: int = msgspec.field(name="_version", default=0)
    raw: Raw = msgspec.field(name="_source", default=Raw())
    sort: tuple[Any, ...] = ()

    @property
    def source(self) -> bytes:
        """The document itself."""
        return bytes(self.raw)

    def __post_init__(self) -> None:
        if self.source and not self.source.startswith(b"{"):
            raise ValueError("a document is an object")


class FoundDocument(Document, frozen=True, kw_only=True):
    """The answer to `GET /<alias>/_doc/<id>` where there is such a document."""

    found: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.found or not self.source:
            raise ValueError("it says 200 and shows no document")


class Hits(Struct):
    """Of `SearchAnswer`."""

    hits: list[Document]


class _Whole(Struct, kw_only=True):
    timed_out: bool
    shards: Shards = msgspec.field(name="_shards")

    def __post_init__(self) -> None:
        if self.timed_out or not self.shards.complete:
            raise ValueError("a shard is missing from it")


class SearchAnswer(_Whole, kw_only=True):
    """The answer to `POST /<alias>/_search`: complete, or it is none."""

    hits: Hits


class AggregationAnswer(_Whole, Generic[T], kw_only=True):
    """The same, of a request for aggregations only."""

    aggregations: T


async def read_document(client: AsyncOpenSearch, target: Target, document_id: str) -> Document | None:
    """Read one document as it is at this moment, refreshed or not; None if it does not exist.

    Raises:
        Unavailable: There is no answer to trust; also if the index is gone, closed or another one.
    """
    try:
        answer: Answer = await client.get(index=target.alias, id=document_id, realtime=True)
    except NotFoundError as error:
        if error_type(error):  # no document has no error; a missing index has
            raise Unavailable(f"OpenSearch cannot read through {target.alias}: {error_type(error)}") from None
        missing = cast("MissingDocument", error.info)  # see `check_answer`
        _check_id(missing.id, document_id)
        target.check(missing.index)
        return None
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot read through {target.alias}: {error_type(error)}") from None
    found = answer.read(FoundDocument)
    _check_id(found.id, document_id)
    target.check(found.index)
    return found


async def refresh(client: AsyncOpenSearch, target: Target, *, must: bool = False) -> None:
    """Let searches see what was written up to now; unless it `must` be, only as far as role and index allow it.

    A shard that nobody has searched for `index.search.idle.after` is not refreshed by itself: a search of it would wait
    up to a second for the next round of refreshes, and see what was there before.

    Raises:
        AccessDenied: It must be, and is forbidden.
        Unavailable: There is no answer to trust; also if the index is gone or closed.
    """
    try:
        answer: Answer = await client.indices.refresh(index=target.alias)
    except (AccessDenied, Blocked) as fault:
        if fault.status == HTTPStatus.FORBIDDEN and not must:
            return
        raise
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot refresh {target.alias}: {error_type(error)}") from None
    if answer.read(RefreshAnswer).shards.failed:
        raise Unavailable(f"OpenSearch cannot refresh {target.alias}: a shard failed")


async def search_documents(
    client: AsyncOpenSearch,
    target: Target,
    query: Mapping[str, Any],
    *,
    size: int,
    sort: Sequence[Mapping[str, Any]] = (),
    source: Sequence[str] = ("*",),
    shard: int | None = None,
    versions: bool = False,
) -> list[Document]:
    """Return one page of the documents that match, as of the last refresh; never a page with shards missing.

    Args:
        client: The connection.
        target: Where.
        query: Which.
        size: The longest page.
        sort: Their order.
        source: The fields to return.
        shard: The only shard to look into.
        versions: Say what the documents' `version` is.

    Raises:
        Unavailable: There is no answer to trust; also if the index is gone, closed or another one.
    """
    request: dict[str, Any] = {"query": query, "size": size, "seq_no_primary_term": True, "track_total_hits": False}
    if sort:
        request["sort"] = list(sort)
    if "*" not in source:
        request["_source"] = list(source)
    if versions:
        request["version"] = True
    answer = await _search(
        client, target.alias, request, **({} if shard is None else {"preference": f"_shards:{shard}"})
    )
    found = answer.read(SearchAnswer).hits.hits
    if len(found) > size:
        raise answer.foreign(f"{len(found)} documents, more than the {size} requested")
    for document in found:
        target.check(document.index)
        if len(document.sort) != len(sort) or not document.source:
            raise answer.foreign("a document in a form other than requested")
    return found


async def aggregate(client: AsyncOpenSearch, target: Target, aggregations: Mapping[str, Any], kind: type[T]) -> T:
    """Return the named aggregations over all documents, as of the last refresh; never with shards missing.

    Raises:
        Unavailable: There is no answer to trust; also if the index is gone or closed.
    """
    answer = await _search(client, target.alias, {"size": 0, "track_total_hits": False, "aggs": aggregations})
    return answer.read(AggregationAnswer[kind]).aggregations  # type: ignore[valid-type]


async def _search(client: AsyncOpenSearch, alias: str, request: Mapping[str, Any], **options: str) -> Answer:
    try:
        # Without `allow_partial_search_results=false` a page that lacks a whole shard says 200 and "failed: 0".
        answer: Answer = await client.search(index=alias, body=request, allow_partial_search_results=False, **options)
    except TransportError as error:
        raise Unavailable(f"OpenSearch cannot search through {alias}: {error_type(error)}") from None
    return answer


def _check_id(answered: str, wanted: str) -> None:
    if answered != wanted:
        raise Unavailable(f"OpenSearch was asked for record {wanted!r} and answers with {answered!r}")
