"""What is asked of OpenSearch about indices and their templates."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch import templates
from trio_alerts.backends.opensearch.answers import (
    AccessDenied,
    Answer,
    Blocked,
    Count,
    RefreshAnswer,
    Shards,
    error_text,
    error_type,
)
from trio_alerts.backends.opensearch.client import server_timeout
from trio_alerts.backends.opensearch.live_index import IndexDescription, LiveIndex, live_indices
from trio_alerts.errors import Unavailable


class Indices:
    """Reads and changes indices; every request is bounded by `timeout_s`."""

    def __init__(self, client: AsyncOpenSearch, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s

    async def describe(self, name: str, *, empty: bool = False) -> list[LiveIndex]:
        """Return the indices of a name: the index itself, or those behind an alias; `empty`: they hold no document.

        Raises:
            Unavailable: There is no answer to trust.
        """
        # While a cluster is still finding out what it holds, it says 404 to a plain request for any. Told to ignore
        # what is missing, it answers with nothing only if it knows that there is nothing, and else waits, then says
        # 503 (2.19.1 and 3.4.0); `cluster_manager_timeout`, 30 s by default, is how long it waits. But `{}` is what
        # anything may answer: that there is nothing is believed only if a plain request then says so explicitly.
        found = await self._ask_for(name, ignore_unavailable=True)
        if not found:
            found = await self._ask_for(name, ignore_unavailable=False)
        return live_indices(found, found if empty else ())

    async def _ask_for(self, name: str, *, ignore_unavailable: bool) -> dict[str, IndexDescription]:
        try:
            answer: Answer = await self._client.indices.get(
                index=name,
                flat_settings=True,
                ignore_unavailable=ignore_unavailable,
                cluster_manager_timeout=server_timeout(self._timeout_s),
            )
        except TransportError as fault:
            if not ignore_unavailable and error_type(fault) == "index_not_found_exception":
                return {}
            raise Unavailable(f"OpenSearch does not describe {name}: {error_text(fault)}") from None
        described = answer.read(dict[str, IndexDescription])
        if not all(name in (index, *one.aliases) for index, one in described.items()):
            raise answer.foreign("an index of another name")
        if not (described or ignore_unavailable):
            raise answer.foreign("neither an index, nor that there is none")
        return described

    async def is_empty(self, name: str) -> bool:
        """Whether an index certainly holds no document."""
        try:
            refreshed: Answer = await self._client.indices.refresh(index=name)
            counted: Answer = await self._client.count(index=name)
        except TransportError:
            return False  # closed: not known
        except (AccessDenied, Blocked) as fault:
            if fault.status == HTTPStatus.FORBIDDEN:
                return False  # not known
            raise
        found = counted.read(_CountAnswer)
        return not found.count and found.shards.complete and not refreshed.read(RefreshAnswer).shards.failed

    async def template_effect(self, index: str) -> templates.TemplateEffect | None:
        """Ask what templates would give to a new index; None if our user may not ask.

        Raises:
            Unavailable: There is no answer to trust.
        """
        try:
            answer: Answer = await self._client.indices.get_index_template()
            template = templates.winner(answer.read(templates.ComposablesAnswer), index)
            if template is None:
                answer = await self._client.indices.get_template(flat_settings=True)
                return templates.from_legacy(answer.read(dict[str, templates.Legacy]), index)
            if template.index_template.data_stream is not None:
                return templates.from_composable(template, None)
            answer = await self._client.indices.simulate_index_template(name=index)
            return templates.from_composable(template, answer.read(templates.SimulationAnswer))
        except AccessDenied as fault:
            if fault.status == HTTPStatus.FORBIDDEN:
                return None
            raise
        except TransportError as fault:
            raise Unavailable(f"OpenSearch does not list its index templates: {error_text(fault)}") from None

    async def create(self, index: str, body: Mapping[str, Any]) -> bool:
        """Create an index; False: another process was first.

        Raises:
            TransportError: OpenSearch refuses it.
            Unavailable: It may be created, or not.
        """
        try:
            answer: Answer = await self._client.indices.create(
                index=index,
                body=body,
                request_timeout=self._timeout_s,
                timeout=server_timeout(self._timeout_s),
            )
        except TransportError as fault:
            if error_type(fault) == "resource_already_exists_exception":
                return False
            raise
        _check_done(answer)
        return True

    async def put_mapping(self, index: str, body: Mapping[str, Any]) -> None:
        """Add to the mapping of an index, or replace its `_meta`.

        Raises:
            Unavailable: It is not done, or may be or not.
        """
        await self._change(self._client.indices.put_mapping, f"to add to index {index}", index=index, body=body)

    async def change_aliases(self, *actions: Mapping[str, Any]) -> bool:
        """Change aliases in one step; False: nothing was done, since one that must exist does not.

        Raises:
            Unavailable: It is not done, or may be or not.
        """
        body = {"actions": actions}
        try:
            await self._change(self._client.indices.update_aliases, "to change aliases", body=body)
        except Refused as fault:
            if fault.kind in ("aliases_not_found_exception", "index_not_found_exception"):
                return False
            raise
        return True

    async def block_writes(self, index: str) -> None:
        """Let an index take no writes; those that were under way are done.

        Raises:
            Unavailable: It is not done, or may be or not.
        """
        add = partial(self._client.indices.add_block, block="write")
        answer = await self._change(add, f"to block writes to {index}", index=index)
        said = answer.read(_BlockAnswer)
        if said.indices and not said.shards_acknowledged:  # of an index that is blocked already it names none
            raise Unavailable(f"OpenSearch has not stopped all writes to {index}")

    async def unblock_writes(self, index: str) -> None:
        """Let an index take writes again.

        Raises:
            Unavailable: It is not done, or may be or not.
        """
        body = {"index.blocks.write": None}
        await self._change(self._client.indices.put_settings, f"to let writes to {index}", index=index, body=body)

    async def reopen(self, index: str) -> None:
        """Close an index and open it, by which its primary terms rise.

        Raises:
            Unavailable: It is not done, or may be or not: call it again.
        """
        await self._change(self._client.indices.close, f"to close {index}", index=index)
        await self.open(index)

    async def open(self, index: str) -> None:
        """Open an index that is closed.

        Raises:
            Unavailable: It is not done, or may be or not.
        """
        await self._change(self._client.indices.open, f"to open {index}", index=index)

    async def count(self, index: str) -> int:
        """Count the documents of an index, as of its last refresh.

        Raises:
            Unavailable: There is no answer to trust.
        """
        try:
            answer: Answer = await self._client.count(index=index)
        except TransportError as fault:
            raise Unavailable(f"OpenSearch cannot count {index}: {error_text(fault)}") from None
        counted = answer.read(_CountAnswer)
        if not counted.shards.complete:
            raise Unavailable(f"OpenSearch cannot count {index}: a shard is missing")
        return counted.count

    async def checkpoints(self, index: str, shards: int) -> dict[int, int]:
        """Return up to which `_seq_no` each shard of an index has every write; -1: it has none.

        Raises:
            Unavailable: There is no answer to trust; also if a primary shard is missing.
        """
        try:
            answer: Answer = await self._client.indices.stats(index=index, metric="docs", level="shards")
        except TransportError as fault:
            raise Unavailable(f"OpenSearch does not describe the shards of {index}: {error_text(fault)}") from None
        described = answer.read(_StatsAnswer).indices.get(index)
        if described is None:
            raise answer.foreign("not the shards of that index")
        primaries = {
            number: copy.seq_no.global_checkpoint
            for number, copies in described.shards.items()
            for copy in copies
            if copy.routing.primary
        }
        if set(primaries) != {str(number) for number in range(shards)}:
            raise Unavailable(f"a primary shard of {index} is missing")
        return {int(number): checkpoint for number, checkpoint in primaries.items()}

    async def _change(self, request: Callable[..., Awaitable[Answer]], what: str, **arguments: Any) -> Answer:
        try:
            answer = await request(
                request_timeout=self._timeout_s, timeout=server_timeout(self._timeout_s), **arguments
            )
        except TransportError as fault:
            raise Refused(f"OpenSearch refuses {what}: {error_text(fault)}", error_type(fault)) from None
        _check_done(answer)
        return answer


class Refused(Unavailable):
    """OpenSearch does not change an index; `kind` is its own name for the reason."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class _CountAnswer(Struct):
    """The answer to `GET /<index>/_count`."""

    count: Count
    shards: Shards = msgspec.field(name="_shards")


class _Acknowledged(Struct):
    """The answer to a change of an index or of its mapping."""

    acknowledged: bool


class _BlockAnswer(Struct):
    """The answer to `PUT /<index>/_block/write`."""

    shards_acknowledged: bool
    indices: list[dict[str, Any]]


class _Routing(Struct):
    primary: bool


class _SeqNos(Struct):
    global_checkpoint: Annotated[int, Meta(ge=-1)]


class _ShardCopy(Struct):
    routing: _Routing
    seq_no: _SeqNos


class _ShardStats(Struct):
    shards: dict[str, list[_ShardCopy]]


class _StatsAnswer(Struct):
    """The answer to `GET /<index>/_stats/docs?level=shards`."""

    indices: dict[str, _ShardStats]


def _check_done(answer: Answer) -> None:
    if not answer.read(_Acknowledged).acknowledged:
        raise Unavailable(f"OpenSearch has not finished {answer.request} in time")
