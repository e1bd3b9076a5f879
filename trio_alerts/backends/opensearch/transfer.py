"""Everything of one index carried to another one, and the alias with it, while every process goes on.

Writes wait only while the alias is moved, which is bounded: what takes longer is undone, and tried again.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import trio
from opensearchpy import AsyncOpenSearch

from trio_alerts.backends.opensearch.answers import AccessDenied
from trio_alerts.backends.opensearch.copying import PAGE, Copier, DoorClosed, TargetClosed, compare, low_terms
from trio_alerts.backends.opensearch.documents import Document, Target, refresh
from trio_alerts.backends.opensearch.indices import Indices
from trio_alerts.backends.opensearch.live_index import LiveIndex
from trio_alerts.backends.opensearch.mapping import IndexSpec
from trio_alerts.backends.opensearch.successor import close_door, door_of, hand_over, meta_of, new_door, open_door
from trio_alerts.errors import LedgerError, StartError, Unavailable
from trio_alerts.ports.migration import Migrated, Progress, Step

PATIENCE_S = 60.0  # a request that OpenSearch does not answer, or not now, is repeated for so long
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
LONGEST_BLOCK_S = 4.0  # with the pauses of who waits, writes are late by a few seconds at most
RELEASE_BOUND_S = 15.0  # to let writes through again, also when the program is stopped
HAND_OVERS = 5  # a server that is busy is less so the next time
SAVED_EVERY_S = 5.0  # a change of the cluster's state each time
REOPENED = 100  # times at most: as often as a primary may have moved

T = TypeVar("T")
Reach = Callable[[str], Awaitable[None]]


class Transfer:
    """One migration under way, from `source` to `target`.

    Args:
        client: The connection.
        wanted: The index that this program trusts.
        timeout_s: The bound of a request.
        source: The index that the alias leads to.
        target: The one that takes over.
        report: Called with each step, and with each page.
        reach: Called with the name of each point at which a test may kill the process.
    """

    def __init__(
        self,
        client: AsyncOpenSearch,
        wanted: IndexSpec,
        timeout_s: float,
        source: LiveIndex,
        target: LiveIndex,
        *,
        report: Callable[[Progress], None],
        reach: Reach,
    ) -> None:
        self._client = client
        self._indices = Indices(client, timeout_s)
        self._wanted = wanted
        self._timeout_s = timeout_s
        self._source = source
        self._target = target
        self._report = report
        self._reach = reach
        copied = target.migration.get("copied", {})
        # Up to which `_seq_no` of each shard everything was copied and compared.
        self._cursors = {shard: int(copied.get(str(shard), -1)) for shard in range(source.shards)}
        self._use(door_of(target, wanted))
        self._records = self._copied = self._checksum = 0
        self._saved_at_s = trio.current_time()

    async def carry_out(self) -> Migrated:
        """Copy, compare, and hand over; see `Migration.run`.

        Cancellation: writes are let through again, as far as OpenSearch answers.
        """
        try:
            for _ in range(HAND_OVERS):
                if not self._door:
                    await self._open_door()
                await self._copy()
                await insist(self._drop_vanished)
                waited_s = await self._hand_over()
                if waited_s is not None:
                    return self._migrated(waited_s)
        except DoorClosed:
            return await self._overtaken()
        raise StartError(
            f"{self._target.name} could not take over: each time it would have taken longer than "
            f"{LONGEST_BLOCK_S:g} s. Writes go on as before; call `migrate` again when OpenSearch is less busy."
        )

    def _use(self, door: str) -> None:
        self._door = door
        self._here = Target(self._source.name, self._source.name)
        self._there = Target(door, self._target.name)
        self._copier = Copier(self._client, self._here, self._there, self._timeout_s)

    def _tell(self, step: Step) -> None:
        copied = min(self._copied, self._records)
        blocked = step == "hand_over"
        self._report(Progress(step, self._source.name, self._target.name, copied, self._records, blocked))

    # -- copy --

    async def _copy(self) -> None:
        """Copy until so little is left that writes can wait for it."""
        source = self._source.name
        while True:
            # What is before the checkpoint is seen by a search after a refresh; a higher number may be seen before a
            # lower one is.
            checkpoints = await insist(partial(self._indices.checkpoints, source, self._source.shards))
            await insist(partial(refresh, self._client, self._here, must=True))
            self._records = await insist(partial(self._indices.count, source))
            self._tell("copy")
            copied = 0
            for shard, checkpoint in checkpoints.items():
                copied += await self._copy_changes(shard, checkpoint)
            if copied <= PAGE:
                return

    async def _copy_changes(self, shard: int, until: int | None = None) -> int:
        """Copy what one shard was told since the last time; return how many documents that were."""
        copied = 0
        while page := await insist(partial(self._copier.changes, shard, self._cursors[shard], until)):
            self._checksum += await insist(partial(self._carry, page))
            await self._reach("migrate_page")
            self._cursors[shard] = page[-1].seq_no
            copied += len(page)
            self._copied += len(page)
            if until is not None:
                self._tell("copy")
                await self._save()
        return copied

    async def _carry(self, page: Sequence[Document]) -> int:
        """Copy a page, read it back and compare it; return the checksum of both."""
        closed = False
        try:
            await self._copier.write(page)
        except TargetClosed:
            closed = True
        if closed:
            await self._indices.open(self._target.name)
            await self._copier.write(page)
        copies = await self._copier.read_back(page)
        if low := low_terms(page, copies):
            for _ in range(min(max(low.values()), REOPENED)):
                await self._indices.reopen(self._target.name)
            again = [one for one in page if one.id in low]
            await self._copier.write(again, again=True)
            copies |= await self._copier.read_back(again)
            if low_terms(page, copies):
                raise Unavailable(f"OpenSearch does not raise the primary terms of {self._target.name}")
        return compare(page, copies)

    async def _save(self) -> None:
        """Note how far it is, so that whoever resumes it need not begin anew."""
        if trio.current_time() - self._saved_at_s > SAVED_EVERY_S:
            self._saved_at_s = trio.current_time()
            await insist(partial(self._seal, whole=False))

    async def _seal(self, *, whole: bool) -> None:
        (source,) = await self._indices.describe(self._source.name)
        meta = meta_of(source, self._wanted, self._cursors, whole=whole)
        await self._through_door(partial(self._indices.put_mapping, self._door, {"_meta": meta}))

    async def _through_door(self, ask: Callable[[], Awaitable[object]]) -> None:
        """Ask for what needs the door; who comes too late finds none.

        Raises:
            DoorClosed: There is none any more.
            Unavailable: It is not done, or may be or not.
        """
        try:
            await ask()
        except Unavailable as cause:
            fault = cause
        else:
            return
        raise fault if await self._indices.describe(self._door) else DoorClosed(str(fault))

    async def _drop_vanished(self) -> None:
        """Delete what was deleted from the source after it was copied, if anything was."""
        await self._through_door(partial(refresh, self._client, self._there, must=True))
        copies = await self._indices.count(self._target.name)
        await refresh(self._client, self._here, must=True)
        if copies > await self._indices.count(self._source.name):
            for shard in range(self._target.shards):
                await self._copier.delete_vanished(shard)

    # -- hand over --

    async def _hand_over(self) -> float | None:
        """Let the new index take over; return how long writes waited, or None if they go on as before."""
        since_s = trio.current_time()
        self._tell("hand_over")
        done = False
        try:
            with trio.move_on_after(LONGEST_BLOCK_S):
                done = await self._block_and_swap()
        finally:
            if not done:
                with trio.move_on_after(RELEASE_BOUND_S, shield=True):
                    done = await self._release()
        return trio.current_time() - since_s if done else None

    async def _block_and_swap(self) -> bool:
        source, target = self._source.name, self._target.name
        await insist(partial(self._indices.block_writes, source))
        await self._reach("migrate_blocked")
        await insist(partial(refresh, self._client, self._here, must=True))
        for shard in self._cursors:
            await self._copy_changes(shard)
        await self._reach("migrate_caught_up")
        await insist(self._drop_vanished)
        await insist(partial(self._through_door, partial(refresh, self._client, self._there, must=True)))
        self._records = await insist(partial(self._indices.count, source))
        copies = await insist(partial(self._indices.count, target))
        if copies != self._records:
            raise LedgerError(f"{target} holds {copies:,} of {self._records:,} records: nothing was handed over.")
        await insist(partial(self._seal, whole=True))
        await self._reach("migrate_verified")
        await insist(self._swap)
        await self._reach("migrate_swapped")
        return True

    async def _swap(self) -> None:
        actions = hand_over(self._source.name, self._target.name, self._door, self._wanted.alias)
        if not await self._indices.change_aliases(*actions) and not await self._has_taken_over():
            raise DoorClosed("somebody else was faster")

    async def _release(self) -> bool:
        """Let writes through, after it is certain that the new index takes over no more; True: it has taken over."""
        door, self._door = self._door, ""
        closing = partial(self._indices.change_aliases, *close_door(self._target.name, door))
        if not await insist(closing) and await insist(self._has_taken_over):
            return True
        await insist(partial(self._indices.unblock_writes, self._source.name))
        return False

    async def _open_door(self) -> None:
        door = new_door(self._wanted, secrets.token_hex(4))
        actions = open_door(self._source.name, self._target.name, door, self._wanted.alias)
        if not await insist(partial(self._indices.change_aliases, *actions)):
            raise DoorClosed("somebody else was faster")
        self._use(door)

    async def _has_taken_over(self) -> bool:
        return [self._target.uuid] == [one.uuid for one in await self._indices.describe(self._wanted.alias)]

    async def _overtaken(self) -> Migrated:
        """Return what another call has done.

        Raises:
            StartError: It was an abort.
        """
        if not await insist(self._has_taken_over):
            raise StartError(f"{self._target.name} was removed meanwhile, by `migrate --abort` or by hand.")
        self._records = await insist(partial(self._indices.count, self._target.name))
        return self._migrated(0.0)

    def _migrated(self, waited_s: float) -> Migrated:
        checksum = f"{self._checksum % 2**64:016x}"
        return Migrated(self._source.name, self._target.name, self._records, checksum, waited_s)


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until OpenSearch answers, for `PATIENCE_S` at most.

    Raises:
        StartError: It refuses our user, or does not answer.
        DoorClosed: Waiting does not help.
    """
    give_up_at_s, pause_s = trio.current_time() + PATIENCE_S, FIRST_PAUSE_S
    while True:
        try:
            return await ask()
        except DoorClosed:
            raise
        except Unavailable as cause:
            if isinstance(cause, AccessDenied) or trio.current_time() > give_up_at_s:
                raise StartError(str(cause)) from None
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
