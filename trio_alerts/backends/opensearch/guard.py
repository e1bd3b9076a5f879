"""The schema guard: which difference ends the process, which one is waited for, and which one is fixed at start."""

from dataclasses import dataclass
from typing import Any

from loguru import logger
from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import error_text
from trio_alerts.backends.opensearch.differences import (
    Difference,
    Remedy,
    deployment_of,
    differences,
    late_searches,
    template_differences,
)
from trio_alerts.backends.opensearch.indices import Indices
from trio_alerts.backends.opensearch.live_index import LiveIndex
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.repairs import addition, ownership, report, takeover
from trio_alerts.backends.opensearch.templates import TemplateEffect
from trio_alerts.errors import SchemaError, StartError, Unavailable


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the indices behind the alias, and how they differ from what is wanted."""

    indices: list[LiveIndex]
    found: list[Difference]


class SchemaGuard:
    """Guards one alias; every request is bounded by `timeout_s`.

    Attributes:
        index: The one index that was found right, by `prepare` or by the first `compare`; empty before that.
        exists: Whether the last look found any.
    """

    def __init__(self, client: AsyncOpenSearch, wanted: IndexSpec, timeout_s: float) -> None:
        self._indices = Indices(client, timeout_s)
        self._wanted = wanted
        self.index = ""
        self.exists = False
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
                await self._create(await self._accepted_templates())
                look = await self._look()  # a template may have added something, or another process was first
            if len(look.indices) == 1 and (body := addition(look.found, look.indices[0], self._wanted)) is not None:
                await self._add(look, body)
                look = await self._look()
            self._refuse(look)
        except Unavailable as cause:
            raise StartError(str(cause)) from None
        if look.found or not look.indices:
            raise StartError(f"index {self._wanted.alias} keeps changing: something else is working on it")
        if warning := late_searches(look.indices[0]):
            logger.warning("{warning}", warning=warning)
        self._remember(look.indices[0])

    async def compare(self) -> None:
        """Compare only, while running; what is missing now was removed by somebody.

        Raises:
            SchemaError: The index cannot be trusted any more.
            Unavailable: There is no answer to trust, or the index is closed or blocked.
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
        if self.index and index.uuid != self._uuid:
            if not index.succeeds(self._uuid):
                raise SchemaError(
                    f"Alias {alias} pointed to index {self.index} ({self._uuid}) before, and points to {index.name} "
                    f"({index.uuid}) now. Restart: what was read from one says nothing about the other."
                )
            logger.info("all records were migrated: {alias} is index {index} now", alias=alias, index=index.name)
        self._remember(index)

    async def deployment(self) -> str | None:
        """Return the identity of the deployment that the index belongs to; see `AlertStore.deployment`.

        Raises:
            Unavailable: There is no answer to trust.
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
            await self._indices.put_mapping(index.name, ownership(index, identity))
        return await self.deployment() or identity

    async def replace_deployment(self, identity: str) -> None:
        """Give the index to another deployment.

        Raises:
            SchemaError: It was never ours, or there is none.
            Unavailable: It may have been given, or not.
        """
        indices = await self._live()
        if not indices or not all(index.is_ours for index in indices):
            self._refuse(await self._look())
        for index in indices:
            await self._indices.put_mapping(index.name, takeover(index, self._wanted, identity))

    async def inspect(self) -> list[str]:
        """Say what `prepare` would create or add, one line each, and change nothing.

        Raises:
            StartError, SchemaError: As `prepare` would.
        """
        try:
            look = await self._look()
            if not look.indices:
                return [self._would_create(await self._accepted_templates())]
            self._refuse(look)
        except Unavailable as cause:
            raise StartError(str(cause)) from None
        index = look.indices[0]
        said = [f"would add {difference.where} to the mapping of index {index.name!r}" for difference in look.found]
        return said + [f"warning: {late}" for late in [late_searches(index)] if late]

    async def _accepted_templates(self) -> TemplateEffect | None:
        """Return what templates would add to a new index; None if our user may not see it.

        Raises:
            SchemaError: The index would not be right.
        """
        effect = await self._indices.template_effect(self._wanted.first_index)
        if effect is None or not (found := template_differences(effect, self._wanted)):
            return effect
        names = ", ".join(effect.names)
        lines = [f"The index {self._wanted.first_index} would not be right, because of index template {names}."]
        lines += [f"  {difference}" for difference in found]
        lines += ["To keep other templates from it:", f"  {effect.override(self._wanted.alias)}"]
        raise SchemaError("\n".join(lines))

    def _would_create(self, effect: TemplateEffect | None) -> str:
        line = f"would create index {self._wanted.first_index!r} with alias {self._wanted.alias!r}"
        if effect is None:
            return f"{line} (our user may not read index templates: what they add is checked afterwards)"
        if not effect.names:
            return line
        added = sorted({*effect.body.settings, *(f"alias {alias}" for alias in effect.body.aliases)})
        return f"{line}; index template {', '.join(effect.names)} adds: {', '.join(added) or 'nothing of importance'}"

    async def _look(self) -> Look:
        indices = await self._live()
        found = differences(indices, self._wanted)
        if len(indices) == 1 and any(difference.remedy is not Remedy.WAIT for difference in found):
            # What may be done about it depends on whether anything is in there.
            name = indices[0].name
            indices = await self._indices.describe(name, empty=await self._indices.is_empty(name))
            found = differences(indices, self._wanted)
        return Look(indices, found)

    async def _live(self) -> list[LiveIndex]:
        # The index that `prepare` would create may exist without the alias: then it has to be looked at, too.
        found = await self._indices.describe(self._wanted.alias)
        found = found or await self._indices.describe(self._wanted.first_index)
        self.exists = bool(found)
        return found

    async def _create(self, effect: TemplateEffect | None) -> None:
        index = self._wanted.first_index
        body = self._wanted.body(templates=effect.body.settings if effect else {})
        try:
            created = await self._indices.create(index, body)
        except TransportError as fault:
            template = f" (index template: {', '.join(effect.names)})" if effect and effect.names else ""
            raise StartError(f"OpenSearch refuses to create index {index}: {error_text(fault)}{template}") from None
        if created:
            logger.info("created index {index} with alias {alias}", index=index, alias=self._wanted.alias)

    async def _add(self, look: Look, body: dict[str, Any]) -> None:
        index = look.indices[0]
        await self._indices.put_mapping(index.name, body)
        added = [difference.where for difference in look.found]
        names = ", ".join(added)
        if index.empty:
            logger.info("added to index {index}: {_added}", index=index.name, added=added, _added=names)
        else:
            logger.warning(
                "added to index {index}: {_added} (older records are not found by new fields)",
                index=index.name,
                added=added,
                _added=names,
            )

    def _refuse(self, look: Look) -> None:
        remedies = {difference.remedy for difference in look.found}
        if Remedy.MANUAL in remedies:
            raise SchemaError(report(look.found, look.indices, self._wanted))
        if Remedy.WAIT in remedies:
            waits = [f"{found}; {found.command}" for found in look.found if found.remedy is Remedy.WAIT]
            raise Unavailable(f"OpenSearch: {', '.join(waits)}")

    def _remember(self, index: LiveIndex) -> None:
        self.index, self._uuid = index.name, index.uuid
