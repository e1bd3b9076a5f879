"""What the server must allow and hold before anything is read: found out without changing anything there."""

import secrets
from collections.abc import Iterator, Sequence
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
    """Return every command that `run` cannot do without, in scripts too; each as one that changes nothing."""
    group, consumer, dead = settings.group, settings.consumer, dead_letter_key(stream)
    lost, ledger = lost_key(stream, group), ledger_key(stream, group)
    nobody = secrets.token_hex(16)
    wanted: list[_Need] = [
        _Need("to read new entries", ("XREADGROUP", "GROUP", group, consumer, "STREAMS", stream, _NEVER_AN_ID)),
        _Need("to acknowledge", ("XACK", stream, group, _NEVER_AN_ID)),
        _Need("to see what is pending", ("XPENDING", stream, group)),
        _Need(
            "to renew entries and to take over those of dead workers",
            ("XCLAIM", stream, group, consumer, 0, _NEVER_AN_ID),
        ),
        _Need("to do in one step what must not be left half done", ("EVAL", "return 1", 1, stream)),
        _Need("to look at an entry", ("XRANGE", stream, _NEVER_AN_ID, _NEVER_AN_ID)),
        _Need("to create the group", ("XGROUP CREATE", stream, group, _NEVER_AN_ID)),
        _Need("to count what was lost", ("XGROUP SETID", stream, group, _NEVER_AN_ID)),
        _Need("to leave the group", ("XGROUP DELCONSUMER", stream, group, nobody)),
        _Need("to count what was lost", ("XINFO STREAM", stream, "without its payloads")),
        _Need("to find the group", ("XINFO GROUPS", stream)),
        _Need("to remove consumers that are gone", ("XINFO CONSUMERS", stream, group)),
        _Need("to count what was lost", ("EXISTS", stream)),
        _Need("to count entries", ("XLEN", stream)),
        _Need("to count dead letters", ("XLEN", dead)),
        _Need("to quarantine entries", ("XADD", dead, _NEVER_AN_ID, "field", "value")),
        _Need("to read the log of deleted entries", ("XLEN", lost)),
        _Need("to note deleted entries", ("XADD", lost, _NEVER_AN_ID, "field", "value")),
        _Need("to remember where the group stands", ("HGETALL", ledger)),
        _Need("to remember where the group stands", ("HGET", ledger, "lost")),
        _Need("to remember where the group stands", ("HSET", ledger, "field", "value", "a field without a value")),
        _Need("to remember where the group stands", ("HSETNX", ledger, "field", "value", "one too many")),
        _Need("to remember where the group stands", ("HDEL", ledger, nobody)),
        _Need("to count what was lost", ("HINCRBY", ledger, "lost", _NEVER_AN_ID)),
        _Need(
            "to let one process do what all need", ("SET", lock_key(stream, group, "redrive"), "1", "NX", _NEVER_AN_ID)
        ),
        _Need("to know whose the stream is", ("GET", deployment_key(stream, group))),
        _Need("to say whose the stream is", ("SET", deployment_key(stream, group), "1", "NX", _NEVER_AN_ID)),
        _Need("to know the server's time, which all processes share", ("TIME",)),
        *_hint_needs(settings, stream),
        *_canary_needs(settings, stream),
    ]
    gates = [gate_key(min(settings.stream_names), group, channel.name) for channel in settings.channels]
    wanted += [_Need("to know whether a channel may be sent to", ("HMGET", gate, "open")) for gate in gates]
    wanted += [_Need("to note that a channel is well again", ("HKEYS", gate)) for gate in gates[:1]]
    if settings.trim == "acked":
        wanted.append(_Need("to trim the stream (`trim`)", ("XTRIM", stream, "MINID", _NEVER_AN_ID)))
    return wanted


def _hint_needs(settings: Settings, stream: str) -> Iterator[_Need]:
    """Yield what hints need: when to look at which record, and which comes next in a channel's queue."""
    group = settings.group
    due, sweep, nobody = due_key(stream, group), sweep_key(stream, group), secrets.token_hex(16)
    yield _Need("to note when a retry is due", ("ZADD", due, _NEVER_AN_ID, nobody))
    yield _Need("to note when a retry is due", ("ZREM", due, nobody))
    yield _Need("to note when a retry is due", ("ZSCORE", due, nobody))
    yield _Need("to find what is due", ("ZRANGEBYSCORE", due, _NEVER_AN_ID, _NEVER_AN_ID))
    yield _Need("to find what is due", ("ZREVRANGEBYSCORE", due, _NEVER_AN_ID, _NEVER_AN_ID))
    yield _Need("to find what is due", ("ZRANGE", due, 0, 0))
    yield _Need("to take the next out of a queue", ("ZPOPMIN", due, _NEVER_AN_ID))
    yield _Need("to let one process do what all need", ("HMGET", sweep, "began"))
    yield _Need("to let one process do what all need", ("HSET", sweep, "field", "value", "a field without a value"))
    for channel in settings.channels:
        for key in (queue_key(stream, group, channel.name), probe_key(stream, group, channel.name)):
            yield _Need(f"to keep the queue of channel {channel.name!r}", ("ZCARD", key))


def _canary_needs(settings: Settings, stream: str) -> Iterator[_Need]:
    """Yield what tells canaries from alerts, and what writes them if there are any."""
    noted, own = canaries_key(stream), canary_key(stream, settings.group)
    yield _Need("to tell canaries from alerts", ("HMGET", noted, _NEVER_AN_ID))
    yield _Need("to tell canaries from alerts", ("HEXISTS", noted, _NEVER_AN_ID))
    if settings.canary_every_s is None:
        return
    purpose = "for canaries (`canary_every_s`)"
    yield _Need(purpose, ("XADD", stream, _NEVER_AN_ID, "field", "value"))
    yield _Need(purpose, ("XDEL", stream, _NEVER_AN_ID))
    for key in (noted, own):
        yield _Need(purpose, ("HSET", key, "field", "value", "a field without a value"))
        yield _Need(purpose, ("HDEL", key, _NEVER_AN_ID))
        yield _Need(purpose, ("HGETALL", key))
    yield _Need(purpose, ("HLEN", noted))


def comforts(settings: Settings, stream: str) -> list[_Need]:
    """Return the commands that make things better, and that `run` works without."""
    silences = silences_key(min(settings.stream_names), settings.group)
    return [
        _Need("to know what operators have silenced", ("HGET", silences, "version")),
        _Need("to know what operators have silenced", ("HGETALL", silences)),
        _Need("to wake a waiting read, so that a stop need not wait for `block_s`", ("CLIENT ID",)),
        _Need("to wake a waiting read, so that a stop need not wait for `block_s`", ("CLIENT UNBLOCK", _NEVER_AN_ID)),
        _Need("to see whether a key expires", ("PTTL", stream)),
    ]


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
    for key in (stream, dead_letter_key(stream), ledger_key(stream, settings.group)):
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
