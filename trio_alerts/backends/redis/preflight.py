"""What the server must allow and hold before anything is read: found out without changing anything there."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.crc import key_slot
from redis.typing import EncodableT

from trio_alerts.backends.redis.answers import Refusal
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.groups import find_group
from trio_alerts.backends.redis.keys import (
    canaries_key,
    canary_key,
    dead_letter_key,
    deployment_key,
    due_key,
    gate_key,
    ledger_key,
    lock_key,
    lost_key,
    probe_key,
    queue_key,
    silences_key,
    sweep_key,
)
from trio_alerts.errors import SettingsError, StartError, Unavailable
from trio_alerts.settings.settings import Settings

MANY_WAITING = 1_000  # more than that were not meant for a group that starts today, until somebody says so
OLDEST_SERVER = (6, 2)  # the first with XPENDING … IDLE
_NEVER_AN_ID = "not-an-id"
_NOBODY = secrets.token_hex(16)


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


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found: the groups that have to be created, and what somebody should know, a line each."""

    missing: list[MissingGroup] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


async def survey(client: RedisClient, settings: Settings) -> Survey:
    """Look at the server, its permissions and the streams.

    Raises:
        StartError: The server refuses a command that will be needed, would lose alerts, or holds no streams there.
        SettingsError: A group would start over too many waiting entries, and `start_from` does not say where.
    """
    found = Survey()
    try:
        await _look_at_the_server(client, settings.stream_names, found)
        for stream in settings.stream_names:
            await _try_permissions(client, settings, stream, found)
            await _look_for_expiry(client, settings, stream, found)
            waiting = client.expect(int, await client.xlen(stream), "XLEN")
            if await find_group(client, stream, settings.group) is None:
                was_here = bool(
                    client.expect(dict, await client.hgetall(ledger_key(stream, settings.group)), "HGETALL")
                )
                found.missing.append(_missing(settings, stream, waiting, was_here=was_here))
    except Unavailable as error:
        raise StartError(f"Redis: {error}") from error
    return found


async def _look_at_the_server(client: RedisClient, streams: Sequence[str], found: Survey) -> None:
    """Managed servers forbid CONFIG; INFO says the same."""
    try:
        about = client.expect(dict[str, Any], await client.info(), "INFO")
    except Refusal as refused:
        raise _refused(refused, "to see the server's settings") from refused
    version = str(about.get("redis_version", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers and numbers < OLDEST_SERVER:
        raise StartError(f"{client.address} is Redis {version}: it must be 6.2 or newer, or Valkey")
    policy = str(about.get("maxmemory_policy", ""))
    if policy.startswith("allkeys"):
        raise StartError(
            f"{client.address} has the maxmemory-policy {policy}: when its memory is full, it deletes whole streams "
            "with all their alerts. Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf), "
            "or use another server"
        )
    slots = {key_slot(stream.encode()) for stream in streams}
    if about.get("cluster_enabled") == 1 and len(slots) > 1:
        raise StartError(
            f"{client.address} belongs to a Redis Cluster, and the streams are in {len(slots)} of its slots: one "
            "XREADGROUP, and so one process, serves one slot. Give them one tag in braces ({a}:0 and {a}:1 share a "
            "slot), or run a deployment for each slot"
        )
    if about.get("aof_enabled") == 0:
        found.warnings.append(
            f"{client.address} keeps no append-only file (appendonly no): a crash of the server loses the latest "
            "entries and acknowledgements"
        )


@dataclass(frozen=True, slots=True)
class _Need:
    """A command that will be needed, written so that it does nothing, and what for."""

    purpose: str
    command: tuple[EncodableT, ...]


async def _try_permissions(client: RedisClient, settings: Settings, stream: str, found: Survey) -> None:
    """Send each command that will be needed, so that it does nothing.

    A server looks at permissions before it looks at arguments. So what comes back is "not permitted", or a complaint
    about an ID that no server takes, or about something missing; and nothing has happened in any case. What scripts
    call is asked for outside of them: the same names and permissions decide there.
    """
    for need in needs(settings, stream):
        try:
            await client.execute_command(*need.command)
        except Refusal as refused:
            _judge(refused, need)
    for need in comforts(settings, stream):
        try:
            await client.execute_command(*need.command)
        except Refusal as refused:
            if refused.forbidden:
                found.warnings.append(f"{refused}; it is used {need.purpose}; `run` works without it")


def needs(settings: Settings, stream: str) -> list[_Need]:
    """Return every command that `run` cannot do without, for each key, in scripts too, in a form that changes nothing.

    Permissions may differ from key to key, and those of a script must hold for all of its keys at once.
    """
    group, consumer, first = settings.group, settings.consumer, min(settings.stream_names)
    channels = [channel.name for channel in settings.channels]
    queues = [key_of(stream, group, name) for name in channels for key_of in (queue_key, probe_key)]
    gates = [gate_key(first, group, name) for name in channels]
    dead, lost, ledger = dead_letter_key(stream), lost_key(stream, group), ledger_key(stream, group)
    due, sweep = due_key(stream, group), sweep_key(first, group)
    canaries = () if settings.canary_every_s is None else (canary_key(stream, group),)
    scripted = (stream, dead, lost, ledger, due, sweep, canaries_key(stream), *canaries, *queues, *gates)
    in_scripts = "to do in one step what must not be left half done"
    trims = ("XTRIM",) if settings.trim == "acked" else ()
    prunes = () if settings.keep_records_s is None else ("XRANGE",)
    return [
        _Need("to read new entries", ("XREADGROUP", "GROUP", group, consumer, "STREAMS", stream, _NEVER_AN_ID)),
        _Need("to acknowledge", ("XACK", stream, group, _NEVER_AN_ID)),
        _Need("to see what is pending", ("XPENDING", stream, group)),
        _Need(
            "to renew entries and to take over those of dead workers",
            ("XCLAIM", stream, group, consumer, 0, _NEVER_AN_ID),
        ),
        _Need("to create the group", ("XGROUP CREATE", stream, group, _NEVER_AN_ID)),
        _Need("to count what was lost", ("XGROUP SETID", stream, group, _NEVER_AN_ID)),
        _Need("to leave the group", ("XGROUP DELCONSUMER", stream, group, _NOBODY)),
        _Need("to remove consumers that are gone", ("XINFO CONSUMERS", stream, group)),
        *_on(stream, "to find the group, and count", "XINFO GROUPS", "XINFO STREAM", "EXISTS", "XLEN", "XRANGE"),
        *_on(stream, "to trim the stream (`trim`)", *trims),
        *(_Need(in_scripts, ("EVAL", "return 1", 1, key)) for key in scripted),
        _Need(in_scripts, ("EVAL", "return 1", len(scripted), *scripted)),
        _Need("to note deleted entries", ("EVAL", _LOOK_AT_TYPE, 1, lost)),
        *_on(dead, "to quarantine entries, and count them", "XADD", "XLEN"),
        *_on(lost, "to note deleted entries", "XADD"),
        *_on(lost, "to know whose record must stay (`keep_records_s`)", *prunes),
        *_on(ledger, "to remember where the group stands", "HGETALL", "HGET", "HSET", "HSETNX", "HDEL", "HINCRBY"),
        *_on(lock_key(stream, group, "redrive"), "to let one process do what all need", "SET"),
        *_on(deployment_key(stream, group), "to know and say whose the stream is", "GET", "SET"),
        *_on(due, "to note when a retry is due, and find it", "ZADD", "ZREM", "ZSCORE", "ZRANGE", *_BY_SCORE),
        *_on(sweep, "to let one process do what all need", "HMGET", "HSET"),
        *(need for key in queues for need in _on(key, "to keep the queue of a channel", *_QUEUE)),
        *(need for key in gates for need in _on(key, "to know whether a channel may be sent to", *_GATE)),
        _Need("to know the server's time, which all processes share", ("TIME",)),
        *_canary_needs(settings, stream),
    ]


def _on(key: str, purpose: str, *names: str) -> Iterator[_Need]:
    """Yield commands on one key."""
    for name in names:
        yield _Need(purpose, (name, key, *_HARMLESS.get(name, ())))
        if name == "HSETNX":
            yield _Need(purpose, ("EVAL", _MAY_HSETNX, 1, key))


_BY_SCORE = ("ZRANGEBYSCORE", "ZREVRANGEBYSCORE")
_QUEUE = ("ZADD", "ZREM", "ZRANGE", "ZCARD", "ZPOPMIN")
_GATE = ("HMGET", "HGET", "HSET", "HSETNX", "HDEL", "HINCRBY", "HKEYS")
# What follows the key so that nothing happens. A wrong number of arguments is noticed before permissions are looked at.
_HARMLESS: Mapping[str, tuple[EncodableT, ...]] = {
    "XINFO STREAM": ("without its payloads",),
    "XRANGE": (_NEVER_AN_ID, _NEVER_AN_ID),
    "XTRIM": ("MINID", _NEVER_AN_ID),
    "XADD": (_NEVER_AN_ID, "field", "value"),
    "XDEL": (_NEVER_AN_ID,),
    "HGET": ("field",),
    "HMGET": ("field",),
    "HSET": ("field", "value", "a field without a value"),
    "HSETNX": ("field", "value", "one too many"),  # shows only whether there is such a command
    "HDEL": (_NOBODY,),
    "HEXISTS": (_NOBODY,),
    "HINCRBY": ("field", _NEVER_AN_ID),
    "SET": ("1", "NX", _NEVER_AN_ID),
    "ZADD": (_NEVER_AN_ID, _NOBODY),
    "ZREM": (_NOBODY,),
    "ZSCORE": (_NOBODY,),
    "ZRANGE": (0, 0),
    "ZRANGEBYSCORE": (_NEVER_AN_ID, _NEVER_AN_ID),
    "ZREVRANGEBYSCORE": (_NEVER_AN_ID, _NEVER_AN_ID),
    "ZPOPMIN": (_NEVER_AN_ID,),
}
# HSETNX has no form that changes nothing; from Redis 7 on a script can ask whether it is permitted.
_MAY_HSETNX = """
if redis.acl_check_cmd and not redis.acl_check_cmd('HSETNX', KEYS[1], 'field', 'value') then
  return redis.error_reply("NOPERM this user has no permissions to run the 'hsetnx' command there")
end
return 1
"""
# XADD complains about its ID before it looks at the key. XRANGE does look; a user may have no right to it there (from
# Redis 7 on), and is not refused anything for that: then nothing can tell. No entry has the ID that "-" stands for.
_LOOK_AT_TYPE = """
if redis.acl_check_cmd and not redis.acl_check_cmd('XRANGE', KEYS[1], '-', '-') then return 1 end
return redis.pcall('XRANGE', KEYS[1], '-', '-')
"""


def _canary_needs(settings: Settings, stream: str) -> Iterator[_Need]:
    """Yield what tells canaries from alerts, and what writes them if there are any."""
    noted, own = canaries_key(stream), canary_key(stream, settings.group)
    yield from _on(noted, "to tell canaries from alerts", "HMGET", "HEXISTS")
    if settings.canary_every_s is not None:
        purpose = "for canaries (`canary_every_s`)"
        yield from _on(stream, purpose, "XADD", "XDEL")
        yield from _on(noted, purpose, "HSET", "HDEL", "HGETALL", "HLEN")
        yield from _on(own, purpose, "HSET", "HDEL", "HGETALL", "HMGET")


def comforts(settings: Settings, stream: str) -> list[_Need]:
    """Return the commands that make things better, and that `run` works without."""
    silences = silences_key(min(settings.stream_names), settings.group)
    return [
        _Need("to know what operators have silenced", ("HGET", silences, "version")),
        _Need("to know what operators have silenced", ("HGETALL", silences)),
        _Need("to wake a waiting read, so that a stop need not wait for `block_s`", ("CLIENT ID",)),
        _Need("to wake a waiting read, so that a stop need not wait for `block_s`", ("CLIENT UNBLOCK", _NEVER_AN_ID)),
        *(_Need("to see whether a key expires", ("PTTL", key)) for key in _lasting(settings, stream)),
    ]


def _lasting(settings: Settings, stream: str) -> tuple[str, ...]:
    """Return the keys that must never expire."""
    return stream, dead_letter_key(stream), ledger_key(stream, settings.group)


def _judge(refused: Refusal, need: _Need) -> None:
    """Raise if a command is not permitted, or its key holds something else; any other complaint is expected."""
    if refused.forbidden:
        raise _refused(refused, need.purpose) from refused
    if "WRONGTYPE" in refused.reply:
        raise StartError(
            f"{refused}: the key holds a value of another type; use another name of stream or group, "
            "or move that key away (RENAME)"
        ) from refused


def _refused(refused: Refusal, purpose: str) -> StartError:
    return StartError(f"{refused}; it is needed {purpose}")


async def _look_for_expiry(client: RedisClient, settings: Settings, stream: str, found: Survey) -> None:
    """A key that expires takes with it what nobody has read: somebody may have set that, meaning a cache."""
    for key in _lasting(settings, stream):
        try:
            left_ms = client.expect(int, await client.pttl(key), "PTTL")
        except Refusal as refused:
            if not refused.forbidden:
                raise
            return
        if left_ms >= 0:
            found.warnings.append(
                f"the key {key!r} expires in {left_ms / 1000:,.0f} s, with everything in it: PERSIST it"
            )


def _missing(settings: Settings, stream: str, waiting: int, *, was_here: bool) -> MissingGroup:
    """Decide where a group begins; one that was here before at the start: nothing is left, nothing sent twice."""
    if was_here:
        return MissingGroup(stream, settings.group, "0", waiting)
    if settings.start_from == "refuse" and waiting > MANY_WAITING:
        raise SettingsError(
            f"stream {stream!r} holds {waiting:,} entries, and it has no group {settings.group!r} yet: is the name "
            'right? If it is, set start_from = "0" to notify about all of them, or start_from = "now" to leave them '
            "and begin with what comes from now on"
        )
    return MissingGroup(stream, settings.group, "$" if settings.start_from == "now" else "0", waiting)
