"""The schema guard: looks at the live index, creates or adds what may be, and says what a human must mend.

What is right and what differs is decided in `index_schema.py`; here is only what is asked of OpenSearch, and which
difference ends the process, which one is waited for, and which one is put right at start.
"""

from dataclasses import dataclass
from typing import Any

from loguru import logger
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import (
    HTTP_FORBIDDEN,
    AccessDenied,
    Acknowledged,
    Answer,
    CountAnswer,
    IndexDescription,
    RefreshAnswer,
    error_text,
    error_type,
)
from trio_alerts.backends.opensearch.client import server_timeout
from trio_alerts.backends.opensearch.differences import (
    Difference,
    Kind,
    LiveIndex,
    Wanted,
    addition,
    deployment_of,
    differences,
    foreseen_differences,
    is_ours,
    kept_by,
    live_indices,
    report,
    taken_by,
)
from trio_alerts.backends.opensearch.templates import (
    ComposablesAnswer,
    Foreseen,
    Legacy,
    SimulationAnswer,
    from_composable,
    from_legacy,
    winner,
)
from trio_alerts.errors import SchemaError, StartError, Unavailable


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the indices behind the alias, and how they differ from what is wanted."""

    indices: list[LiveIndex]
    found: list[Difference]


class SchemaGuard:
    """Guards one alias.

    Args:
        client: From `open_opensearch`.
        wanted: What must be behind the alias.
        timeout_s: The bound of each request.

    Attributes:
        index: The one index that was found right, by `prepare` or by the first `compare`; empty before that.
    """

    def __init__(self, client: AsyncOpenSearch, wanted: Wanted, timeout_s: float) -> None:
        self._client = client
        self._wanted = wanted
        self._timeout_s = timeout_s
        self.index = ""
        self._uuid = ""

    async def prepare(self) -> None:
        """Create the index if there is none, add what may be added, and compare.

        Raises:
            StartError: OpenSearch does not answer, refuses us, or the index is closed or blocked.
            SchemaError: The index cannot be trusted.
        """
        try:
            look = await self._look()
            if not look.indices:
                foreseen = await self._foresee()
                self._refuse_templates(foreseen)
                await self._create(foreseen)
                look = await self._look()  # a template may have had its say, or another process was first
            if len(look.indices) == 1 and (body := addition(look.found, look.indices[0], self._wanted)) is not None:
                await self._add(look, body)
                look = await self._look()
            self._refuse(look)
        except Unavailable as cause:
            raise StartError(str(cause)) from None
        if look.found or not look.indices:
            raise StartError(f"index {self._wanted.alias} changes while this process starts: something else is at it")
        self._remember(look.indices[0])

    async def compare(self) -> None:
        """Compare only, while running; what is missing by now was taken away by somebody.

        Raises:
            SchemaError: The index cannot be trusted any more.
            Unavailable: It cannot be told, or the index is closed or blocked.
        """
        look = await self._look()
        alias = self._wanted.alias
        if not look.indices:
            raise SchemaError(f"There is no index behind alias {alias}. `run` creates it when it starts.")
        self._refuse(look)
        lacking = [difference.where for difference in look.found if difference.where != "_meta"]
        if lacking:
            names = ", ".join(lacking)
            raise SchemaError(f"Index {look.indices[0].name} lacks fields; `run` adds them when it starts: {names}")
        index = look.indices[0]
        if not self.index:
            self._remember(index)
        elif (index.name, _uuid(index)) != (self.index, self._uuid):
            raise SchemaError(
                f"Alias {alias} led to index {self.index} ({self._uuid}) when this process started, and leads to "
                f"{index.name} ({_uuid(index)}) now. Start again: what was read from the one says nothing of the other."
            )

    async def deployment(self) -> str | None:
        """Return the identity of the deployment that the index belongs to; see `AlertStore.deployment`.

        Raises:
            Unavailable: It cannot be told.
        """
        return next((owner for index in await self._live() if (owner := deployment_of(index, self._wanted))), None)

    async def keep_deployment(self, identity: str) -> str:
        """Keep an identity in `_meta`, unless there is one; return the one that is kept.

        Raises:
            Unavailable: It may be kept, or not.
        """
        if (kept := await self.deployment()) is not None:
            return kept
        for index in await self._live():
            await self._put_mapping(index.name, kept_by(index, identity))
        return await self.deployment() or identity

    async def replace_deployment(self, identity: str) -> None:
        """Give the index to another deployment.

        Raises:
            SchemaError: It was never ours, or there is none.
            Unavailable: It may have been given, or not.
        """
        indices = await self._live()
        if not indices or any(not is_ours(index) for index in indices):
            self._refuse(await self._look())
        for index in indices:
            await self._put_mapping(index.name, taken_by(index, self._wanted, identity))

    async def inspect(self) -> list[str]:
        """Say what `prepare` would create or add, one line each, and change nothing.

        Raises:
            StartError, SchemaError: As `prepare` would.
        """
        try:
            look = await self._look()
            if not look.indices:
                foreseen = await self._foresee()
                self._refuse_templates(foreseen)
                return [self._would_create(foreseen)]
            self._refuse(look)
        except Unavailable as cause:
            raise StartError(str(cause)) from None
        name = look.indices[0].name
        return [f"would add {difference.where} to the mapping of index {name!r}" for difference in look.found]

    async def _foresee(self) -> Foreseen | None:
        """Ask what templates would give to a new index; None if our user may not ask."""
        index = self._wanted.first_index
        try:
            answer: Answer = await self._client.indices.get_index_template()
            template = winner(answer.read(ComposablesAnswer), index)
            if template is None:
                answer = await self._client.indices.get_template(flat_settings=True)
                return from_legacy(answer.read(dict[str, Legacy]), index)
            if template.index_template.data_stream is not None:
                return from_composable(template, None)
            answer = await self._client.indices.simulate_index_template(name=index)
            return from_composable(template, answer.read(SimulationAnswer))
        except AccessDenied as fault:
            if fault.status == HTTP_FORBIDDEN:
                return None
            raise
        except TransportError as fault:
            raise Unavailable(f"OpenSearch does not tell its index templates: {error_text(fault)}") from None

    def _refuse_templates(self, foreseen: Foreseen | None) -> None:
        if foreseen is None or not (found := foreseen_differences(foreseen, self._wanted)):
            return
        names = ", ".join(foreseen.names)
        lines = [f"The index {self._wanted.first_index} would not be right, because of index template {names}."]
        lines += [f"  {difference}" for difference in found]
        lines += ["To keep other templates from it:", f"  {foreseen.remedy(self._wanted.alias)}"]
        raise SchemaError("\n".join(lines))

    def _would_create(self, foreseen: Foreseen | None) -> str:
        line = f"would create index {self._wanted.first_index!r} with alias {self._wanted.alias!r}"
        if foreseen is None:
            return f"{line} (our user may not see index templates: what they add is looked at after that)"
        if not foreseen.names:
            return line
        added = sorted({*foreseen.body.settings, *(f"alias {alias}" for alias in foreseen.body.aliases)})
        return (
            f"{line}; index template {', '.join(foreseen.names)} has its say: {', '.join(added) or 'nothing of note'}"
        )

    async def _look(self) -> Look:
        indices = await self._live()
        found = differences(indices, self._wanted)
        if len(indices) == 1 and any(difference.kind is not Kind.WAIT for difference in found):
            # What may be done about it depends on whether anything is in there.
            indices = await self._describe(indices[0].name, empty=await self._is_empty(indices[0].name))
            found = differences(indices, self._wanted)
        return Look(indices, found)

    async def _live(self) -> list[LiveIndex]:
        # The index that `prepare` would create may exist without the alias: then it has to be looked at, too.
        return await self._describe(self._wanted.alias) or await self._describe(self._wanted.first_index)

    async def _describe(self, name: str, *, empty: bool = False) -> list[LiveIndex]:
        # While a cluster is still finding out what it holds, it says 404 to a plain look at any name. Told to ignore
        # what is missing, it answers with nothing only if it knows that there is nothing, and else waits, then says
        # 503 (2.19.1 and 3.4.0); `cluster_manager_timeout`, 30 s by default, is how long it waits. But `{}` is what
        # anything may answer: that there is nothing is believed only if a plain look then says so, in so many words.
        found = await self._ask_for(name, ignore_unavailable=True)
        if not found:
            found = await self._ask_for(name, ignore_unavailable=False)
        return live_indices(found, found if empty else ())

    async def _ask_for(self, name: str, *, ignore_unavailable: bool) -> dict[str, dict[str, Any]]:
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
            raise Unavailable(f"OpenSearch does not tell what {name} is: {error_text(fault)}") from None
        described = answer.read(dict[str, IndexDescription])
        if not all(name in (index, *info.aliases) for index, info in described.items()):
            raise answer.foreign("an index of another name")
        if not (described or ignore_unavailable):
            raise answer.foreign("neither an index, nor that there is none")
        return answer.read(dict[str, dict[str, Any]])

    async def _is_empty(self, name: str) -> bool:
        try:
            refreshed: Answer = await self._client.indices.refresh(index=name)
            counted: Answer = await self._client.count(index=name)
        except TransportError:
            return False  # closed: nobody knows
        except AccessDenied as fault:
            if fault.status == HTTP_FORBIDDEN:
                return False  # nobody knows
            raise
        found = counted.read(CountAnswer)
        return not found.count and found.shards.complete and not refreshed.read(RefreshAnswer).shards.failed

    async def _create(self, foreseen: Foreseen | None) -> None:
        index = self._wanted.first_index
        try:
            answer: Answer = await self._client.indices.create(
                index=index,
                body=self._wanted.body(templates=foreseen.body.settings if foreseen else {}),
                request_timeout=self._timeout_s,
                timeout=server_timeout(self._timeout_s),
            )
        except TransportError as fault:
            if error_type(fault) == "resource_already_exists_exception":
                return  # another process was first
            template = f" (index template: {', '.join(foreseen.names)})" if foreseen and foreseen.names else ""
            raise StartError(f"OpenSearch refuses to create index {index}: {error_text(fault)}{template}") from None
        _see_done(answer)
        logger.info("created index {} with alias {}", index, self._wanted.alias)

    async def _put_mapping(self, index: str, body: dict[str, Any]) -> None:
        try:
            answer: Answer = await self._client.indices.put_mapping(
                index=index,
                body=body,
                request_timeout=self._timeout_s,
                timeout=server_timeout(self._timeout_s),
            )
        except TransportError as fault:
            raise Unavailable(f"OpenSearch refuses to add to index {index}: {error_text(fault)}") from None
        _see_done(answer)

    async def _add(self, look: Look, body: dict[str, Any]) -> None:
        index = look.indices[0]
        await self._put_mapping(index.name, body)
        names = ", ".join(difference.where for difference in look.found)
        if index.empty:
            logger.info("added to index {}: {}", index.name, names)
        else:
            logger.warning("added to index {}: {} (older records are not found by new fields)", index.name, names)

    def _refuse(self, look: Look) -> None:
        kinds = {difference.kind for difference in look.found}
        if Kind.FATAL in kinds:
            raise SchemaError(report(look.found, look.indices, self._wanted))
        if Kind.WAIT in kinds:
            waits = [f"{found}; {found.command}" for found in look.found if found.kind is Kind.WAIT]
            raise Unavailable(f"OpenSearch: {', '.join(waits)}")

    def _remember(self, index: LiveIndex) -> None:
        self.index, self._uuid = index.name, _uuid(index)


def _see_done(answer: Answer) -> None:
    if not answer.read(Acknowledged).acknowledged:
        raise Unavailable(f"OpenSearch has not finished {answer.request} in time")


def _uuid(index: LiveIndex) -> str:
    return str(index.settings.get("index.uuid", ""))
