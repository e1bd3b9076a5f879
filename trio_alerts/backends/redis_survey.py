"""What the server must allow and hold before anything is read: found out without changing anything there."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from loguru import logger
from redis.crc import key_slot
from redis.exceptions import NoPermissionError, ResponseError
from redis.typing import EncodableT

from trio_alerts.backends.redis_client import RedisClient
from trio_alerts.backends.redis_keys import dead_letter_key, ledger_key, lock_key, lost_key
from trio_alerts.errors import SettingsError, StartError, Unavailable
from trio_alerts.settings import Settings

MANY_WAITING = 1_000  # more than that were not meant for a group that starts today, until somebody says so
OLDEST_SERVER = (6, 2)  # the first with XPENDING … IDLE
_NEVER_AN_ID = "not-an-id"


@dataclass(frozen=True, slots=True)
class MissingGroup:
    """A group that has to be created: at `start`, "0" or "$", over so many waiting entries."""

    stream: str
    group: str
    start: str
    waiting: int

    def __str__(self) -> str:
        where = f"behind its {self.waiting:,} entries" if self.start == "$" else f"before its {self.waiting:,} entries"
        return f"group {self.group!r} of stream {self.stream!r} would be created, {where}"


async def survey(client: RedisClient, settings: Settings) -> list[MissingGroup]:
    """Look at the server, its permissions and the streams; return what has to be created.

    Args:
        client: Connected.
        settings: Which streams and group, and `start_from`.

    Raises:
        StartError: The server refuses a command that will be needed, would lose alerts, or holds no streams there.
        SettingsError: A group would start over too many waiting entries, and `start_from` does not say where.
    """
    try:
        await _look_at_the_server(client, settings.stream_names)
        missing = []
        for stream in settings.stream_names:
            await _try_permissions(client, settings, stream)
            waiting = await _length(client, stream)
            await _length(client, dead_letter_key(stream))
            if not await _has_group(client, stream, settings.group):
                missing.append(_missing(settings, stream, waiting))
    except Unavailable as error:
        raise StartError(f"Redis: {error}") from error
    return missing


async def _look_at_the_server(client: RedisClient, streams: Sequence[str]) -> None:
    """Managed servers forbid CONFIG; INFO says the same."""
    try:
        about = await client.info()
    except NoPermissionError as error:
        raise _not_permitted(client, "INFO", None, error) from error
    version = str(about.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST_SERVER:
        raise StartError(f"{client.address} is Redis {version}; needed is 6.2 or newer, or Valkey")
    policy = str(about.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        raise StartError(
            f"{client.address} has the maxmemory-policy {policy}: with a full memory it deletes whole streams, with "
            "all their alerts. Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf), "
            "or use another server"
        )
    slots = {key_slot(stream.encode()) for stream in streams}
    if about.get("cluster_enabled") == 1 and len(slots) > 1:
        raise StartError(
            f"{client.address} is a Redis Cluster's, and the streams lie in {len(slots)} of its slots: one XREADGROUP, "
            "and so one process, serves one slot. Give them one tag in braces ({a}:0 and {a}:1 share a slot), or run "
            "a deployment for each slot"
        )
    if about.get("aof_enabled") == 0:
        logger.warning(
            "{} keeps no append-only file (appendonly no): a crash of the server loses the latest entries and "
            "acknowledgements",
            client.address,
        )


async def _try_permissions(client: RedisClient, settings: Settings, stream: str) -> None:
    """Send each command that will be needed, so that it does nothing.

    A server looks at permissions before it looks at arguments. So what comes back is "not permitted", or a complaint
    about an ID that no server takes, or about something missing; and nothing has happened in any case.
    """
    group, consumer, dead = settings.group, settings.consumer, dead_letter_key(stream)
    nobody = secrets.token_hex(16)
    commands: list[tuple[EncodableT, ...]] = [
        ("XINFO STREAM", stream),
        ("XINFO GROUPS", stream),
        ("XINFO CONSUMERS", stream, group),
        ("XLEN", stream),
        ("XREADGROUP", "GROUP", group, consumer, "STREAMS", stream, _NEVER_AN_ID),
        ("XPENDING", stream, group),
        ("XCLAIM", stream, group, consumer, 0, _NEVER_AN_ID),
        ("XACK", stream, group, _NEVER_AN_ID),
        ("XRANGE", stream, _NEVER_AN_ID, _NEVER_AN_ID),
        ("XGROUP CREATE", stream, group, _NEVER_AN_ID),
        ("XGROUP SETID", stream, group, _NEVER_AN_ID),
        ("XGROUP DELCONSUMER", stream, group, nobody),
        ("EVAL", "return 1", 1, stream),
        ("XLEN", dead),
        ("XADD", dead, _NEVER_AN_ID, "field", "value"),
        ("XADD", lost_key(stream, group), _NEVER_AN_ID, "field", "value"),
        ("HGET", ledger_key(stream, group), "lost"),
        ("HINCRBY", ledger_key(stream, group), "lost", _NEVER_AN_ID),
        ("HSET", ledger_key(stream, group), "field", "value", "a field without a value"),
        ("HDEL", ledger_key(stream, group), nobody),
        ("SET", lock_key(stream, group, "redrive"), "1", "NX", _NEVER_AN_ID),
        ("TIME",),
    ]
    if settings.trim == "acked":
        commands.append(("XTRIM", stream, "MINID", _NEVER_AN_ID))
    for command in commands:
        try:
            await client.execute_command(*command)
        except NoPermissionError as error:
            key = command[1] if len(command) > 1 and command[0] != "EVAL" else None
            raise _not_permitted(client, str(command[0]), key, error) from error
        except ResponseError:
            pass  # permitted: see above


async def _length(client: RedisClient, key: str) -> int:
    try:
        return int(await client.xlen(key))
    except ResponseError as error:
        if not str(error).startswith("WRONGTYPE"):
            raise
    raise StartError(f"{client.address}: the key {key!r} is there, but it is not a stream: use another name")


async def _has_group(client: RedisClient, stream: str, group: str) -> bool:
    try:
        groups = await client.xinfo_groups(stream)
    except ResponseError as error:
        if "no such key" in str(error):
            return False
        raise
    return any(one["name"] == group.encode() for one in groups)


def _missing(settings: Settings, stream: str, waiting: int) -> MissingGroup:
    if settings.start_from == "refuse" and waiting > MANY_WAITING:
        raise SettingsError(
            f"stream {stream!r} holds {waiting:,} entries, and it has no group {settings.group!r} yet: is the name "
            'right? If it is, set start_from = "0" to notify about all of them, or start_from = "now" to leave them '
            "and begin with what comes from now on"
        )
    return MissingGroup(stream, settings.group, "$" if settings.start_from == "now" else "0", waiting)


def _not_permitted(client: RedisClient, command: str, key: EncodableT | None, error: Exception) -> StartError:
    user = client.address.username or "default"
    what = command if key is None else f"{command} on {key!r}"
    return StartError(f"{client.address} does not let the user {user!r} run {what}: {error} (mend it with ACL SETUSER)")
