"""The group on each of its streams: created where it is missing, and watched for what it loses."""

import math

import trio
from loguru import logger
from msgspec import Struct

from trio_alerts.backends.redis.answers import EntryId, Refusal
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.deployment import RedisDeployment
from trio_alerts.backends.redis.losses import NOTHING_KNOWN, Noted, create_group, look_for_losses
from trio_alerts.errors import Unavailable
from trio_alerts.settings.settings import Settings

LOOK_FOR_LOSSES_S = 0.1  # a look takes 0.1 ms; before every read while that could hide what has happened
LOOK_SHARE = 0.05  # of the server's time at most: a look passes over the first and the last payload
WATCH_EVERY_S = 1.0  # how old the server's counters may be that tell what went with a stream


class FoundGroup(Struct, rename="kebab"):
    """A group as XINFO GROUPS tells of it."""

    name: bytes
    pending: int
    last_delivered_id: EntryId
    lag: int | None = None


async def find_group(client: RedisClient, stream: str, group: str) -> FoundGroup | None:
    """Return what the server knows of a group; None: there is none, or no stream."""
    try:
        groups = client.expect(list[FoundGroup], await client.xinfo_groups(stream), "XINFO GROUPS", stream)
    except Refusal as refused:
        if "no such key" in refused.reply:
            return None
        raise
    return next((one for one in groups if one.name == group.encode()), None)


class Groups:
    """Keeps a group on each of its streams, and remembers what was last seen there."""

    def __init__(self, settings: Settings, client: RedisClient, deployment: RedisDeployment) -> None:
        self._client = client
        self._deployment = deployment
        self._names = settings.stream_names
        self._group = settings.group
        self._look_at_s = -math.inf  # monotonic
        self._ledgers: dict[str, Noted] = {}  # what was last seen of them, by stream: they may go away too
        self._unreachable: set[str] = set()  # streams behind whose end the group stands, as was said

    async def create(self, name: str, start: str) -> bool:
        """Create a group, and the stream if need be; False if somebody else was first.

        One that was there before, by the ledger or by what this process knows, is an error in the log.
        """
        created = await create_group(self._client, name, self._group, start, self._ledgers.get(name, NOTHING_KNOWN))
        if created is None:
            return False
        self._ledgers[name] = created.noted
        if created.known_before:
            logger.error(
                "group {group!r} of stream {stream!r} was lost and is created again; it reads the stream from its "
                "start. About {lost} entries were lost unread",
                group=self._group,
                stream=name,
                lost=created.lost,
            )
        return True

    async def create_lost(self, refused: Refusal) -> None:
        """Create the group wherever it is missing, at the start, because of what a command was refused with."""
        await self._deployment.write_back()  # before a process that starts now takes this server for somebody else's
        for name in self._names:
            if await self.create(name, "0"):
                logger.debug("the group was missed because of: {reason}", reason=refused.reply)

    async def look_if_due(self) -> None:
        """Look for losses, if the last look is old enough; reading on makes some servers forget them."""
        if trio.current_time() >= self._look_at_s:
            await self.look_for_losses()

    async def look_for_losses(self) -> None:
        """Count what was trimmed, deleted or taken away before it was read."""
        begun_s = trio.current_time()
        pressing = False
        for name in self._names:
            pressing |= await self._look(name)
        now_s = trio.current_time()
        self._look_at_s = now_s + (0.0 if pressing else max(LOOK_FOR_LOSSES_S, (now_s - begun_s) / LOOK_SHARE))

    async def watch(self) -> None:
        """Look from time to time, whatever the reader does, until cancelled; not before the group was prepared."""
        while True:
            await trio.sleep(WATCH_EVERY_S)
            try:
                if self._look_at_s > -math.inf:
                    await self.look_for_losses()
            except Unavailable as cause:
                logger.debug("nothing is known of losses: {reason}", reason=cause)

    async def _look(self, name: str) -> bool:
        """Look at one stream; True if the next read could hide something.

        The producer's trimming is at our heels, or the group was moved past entries: once it is set back, reading on
        makes it look as if it still were.
        """
        known = self._ledgers.get(name, NOTHING_KNOWN)
        losses = await look_for_losses(self._client, name, self._group, known)
        self._ledgers[name] = losses.noted
        if losses.taken_away:
            logger.error(
                "lost upstream: stream {stream!r} was deleted or replaced, with its group {group!r}: about {lost} "
                "entries were lost unread",
                stream=name,
                group=self._group,
                lost=losses.count,
            )
        if losses.moved_past:
            logger.error(
                "group {group!r} of stream {stream!r} was moved (XGROUP SETID, or DESTROY and CREATE) past about "
                "{moved_past} unread entries; XGROUP SETID sets it back to {moved_from}",
                group=self._group,
                stream=name,
                moved_past=losses.moved_past,
                moved_from=losses.ledger.get(b"moved_from", b"0").decode(errors="replace"),
            )
        if losses.unreachable and name not in self._unreachable:
            logger.error(
                "group {group!r} is past the end of stream {stream!r}: it gets no entry until one has a larger ID; "
                "XGROUP SETID sets it back to where it was",
                group=self._group,
                stream=name,
            )
        (self._unreachable.add if losses.unreachable else self._unreachable.discard)(name)
        return bool(losses.at_the_edge) or b"moved_from" in losses.ledger
