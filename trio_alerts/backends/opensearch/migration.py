"""A new index behind the alias, while every process goes on: found, begun, resumed or removed.

State lives where a dead process leaves it: in the `_meta` of both indices, in the aliases, and in the block on writes.
So each step looks first, may be done twice, and by two processes at once:

    create      the source's `_meta` names the target; the target is created, with a door (see `successor.py`)
    copy        in pages, each read back and compared, until little is left
    hand_over   the source takes no writes; what is left is copied; both hold the same; one step moves the alias
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

from opensearchpy import AsyncOpenSearch, TransportError

from trio_alerts.backends.opensearch.answers import error_text
from trio_alerts.backends.opensearch.client import open_opensearch
from trio_alerts.backends.opensearch.differences import Remedy, differences
from trio_alerts.backends.opensearch.documents import Target, refresh
from trio_alerts.backends.opensearch.indices import Indices
from trio_alerts.backends.opensearch.live_index import LiveIndex
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.repairs import next_name
from trio_alerts.backends.opensearch.repairs import report as report_of
from trio_alerts.backends.opensearch.successor import body_of, named_successor, new_door, remove_target
from trio_alerts.backends.opensearch.transfer import Reach, Transfer, insist
from trio_alerts.errors import SchemaError, StartError, Unavailable
from trio_alerts.ports.migration import Migrated, Progress, Step
from trio_alerts.settings.addresses import OpenSearchAddress
from trio_alerts.settings.settings import Settings


@asynccontextmanager
async def open_opensearch_migration(
    address: OpenSearchAddress, settings: Settings, reach: Reach
) -> AsyncIterator["OpenSearchMigration"]:
    """Connect for as long as the block runs.

    Raises:
        StartError: OpenSearch cannot be reached, refuses us, or is none that we can use.
    """
    timeout_s = settings.store_timeout_s
    async with open_opensearch(address, ca_file=settings.store_ca_file, timeout_s=timeout_s) as client:
        wanted = IndexSpec(settings.index, settings.stream_names, settings.group)
        yield OpenSearchMigration(client, wanted, timeout_s, reach)


class OpenSearchMigration:
    """A `Migration`; made by `open_opensearch_migration`. Every request is bounded by `timeout_s`.

    Args:
        client: The connection.
        wanted: The index that this program trusts.
        timeout_s: The bound of a request.
        reach: Called with the name of each point at which a test may kill the process.
    """

    def __init__(self, client: AsyncOpenSearch, wanted: IndexSpec, timeout_s: float, reach: Reach) -> None:
        self._client = client
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._reach = reach
        self._indices = Indices(client, timeout_s)
        self._making = ""  # the index that this call is making, once it is known

    async def status(self) -> Progress | None:
        """See the port."""
        source, target = await self._look()
        notes, records = source.migration, await self._count(source)
        if target is not None:
            step: Step = "hand_over" if source.takes_no_writes else "copy"
            copied = await self._count(target)
            return Progress(step, source.name, target.name, copied, records, source.takes_no_writes)
        if "to" in notes:
            return Progress("create", source.name, str(notes["to"]), 0, records, source.takes_no_writes)
        if "from" in notes:
            return Progress("done", str(notes["from"]), source.name, records, records)
        return None

    async def run(self, report: Callable[[Progress], None]) -> Migrated:
        """See the port."""
        source, target = await self._begin(report)
        await self._reach("migrate_created")
        self._check_target(target)
        transfer = Transfer(
            self._client, self._wanted, self._timeout_s, source, target, report=report, reach=self._reach
        )
        return await transfer.carry_out()

    async def abort(self) -> str:
        """See the port."""
        source, target = await self._look()
        if "to" not in source.migration:
            return ""
        name = str(source.migration["to"])
        removal = remove_target(source.name, name, self._wanted.alias)
        if target is not None and not await self._indices.change_aliases(*removal):
            raise StartError(f"{name} has taken over meanwhile: there is nothing to abort any more.")
        await self._reach("migrate_removed")
        await self._indices.unblock_writes(source.name)
        await self._indices.put_mapping(source.name, named_successor(await self._source(), ""))
        await self._indices.change_aliases(*removal)  # a call that was about to make it may have done so meanwhile
        return name

    async def _source(self) -> LiveIndex:
        """Return the index that the alias leads to; its mapping may be wrong, and it may be blocked.

        Raises:
            SchemaError: There is none of ours.
        """
        alias = self._wanted.alias
        indices = await self._indices.describe(alias)
        if not indices:
            raise SchemaError(f"There is no index behind alias {alias}. `run` creates it when it starts.")
        found = [one for one in differences(indices, self._wanted) if one.remedy is Remedy.MANUAL]
        wrong = [one for one in found if one.where in ("_meta", f"alias {alias}")]
        if wrong or not indices[0].is_ours:
            raise SchemaError(report_of(wrong or found, indices, self._wanted))
        return indices[0]

    async def _look(self) -> tuple[LiveIndex, LiveIndex | None]:
        """Return the source, and the target if there is one."""
        source = await self._source()
        name = source.migration.get("to")
        found = await self._indices.describe(str(name)) if name else []
        if found and source.uuid not in found[0].migration.get("ancestors", ()):
            raise SchemaError(f"Index {name} was not made by `migrate` from {source.name}: move it away.")
        return source, found[0] if found else None

    async def _count(self, index: LiveIndex) -> int:
        if index.is_closed:
            return 0
        await refresh(self._client, Target(index.name, index.name))
        return await self._indices.count(index.name)

    async def _begin(self, report: Callable[[Progress], None]) -> tuple[LiveIndex, LiveIndex]:
        """Return the source and the target, which is created if there is none."""
        source, target = await insist(self._look)
        if target is not None:
            self._making = target.name
        if target is not None and not target.is_closed:
            return source, target
        if target is not None:  # whoever was killed while its terms were raised has left it so
            await insist(partial(self._indices.open, target.name))
            return await self._begin(report)
        if source.takes_no_writes and "to" not in source.migration:
            raise StartError(
                f"Somebody has blocked writes to {source.name} (index.blocks.write): let them through first."
            )
        report(Progress("create", source.name))
        return await insist(self._create)

    async def _create(self) -> tuple[LiveIndex, LiveIndex]:
        source = await self._source()
        self._refuse_undone(source)
        if "to" not in source.migration:
            name = next_name(source.name, self._wanted)
            while await self._indices.describe(name):
                name = next_name(name, self._wanted)
            await self._indices.put_mapping(source.name, named_successor(source, name))
            self._making = name
            await self._reach("migrate_named")
            source = await self._source()  # of two calls, one was later
            self._refuse_undone(source)
        self._making = name = str(source.migration["to"])
        effect = await self._indices.template_effect(name)
        door = new_door(self._wanted, secrets.token_hex(4))
        try:
            body = body_of(source, self._wanted, door, effect.body.settings if effect else {})
            await self._indices.create(name, body)
        except TransportError as fault:
            raise StartError(f"OpenSearch refuses to create index {name}: {error_text(fault)}") from None
        now, target = await self._look()
        if target is None:
            if now.name == source.name:  # an abort came first: it was created too late
                await self._indices.change_aliases(*remove_target(source.name, name, self._wanted.alias))
            raise Unavailable(f"index {name} was created, and is not there")
        return now, target

    def _refuse_undone(self, source: LiveIndex) -> None:
        if self._making and "to" not in source.migration:
            raise StartError(f"{self._making} was removed meanwhile, by `migrate --abort`, or has taken over already.")

    def _check_target(self, target: LiveIndex) -> None:
        aliases = {**target.aliases, self._wanted.alias: {}}
        as_it_will_be = LiveIndex(target.name, aliases, target.mappings, target.settings, empty=False)
        if found := differences([as_it_will_be], self._wanted):
            lines = [f"The new index {target.name} is not right:", *(f"  {one}" for one in found)]
            raise SchemaError("\n".join([*lines, "`migrate --abort` removes it; look at your index templates."]))
