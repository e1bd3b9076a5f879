"""A right that is taken away while the program runs: what needs it is refused, and done once when it is back."""

import datetime as dt
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.contracts.stream import GROUP, WHY, Fields, ids, read_all
from tests.real.test_redis_stream import RedisWorld, settings, user
from tests.support.servers import RedisServer
from trio_alerts.backends.redis.client import RedisClient, open_client
from trio_alerts.backends.redis.dead_letters import RedisDeadLetters
from trio_alerts.backends.redis.keys import (
    canary_key,
    dead_letter_key,
    due_key,
    gate_key,
    ledger_key,
    lost_key,
    queue_key,
    silences_key,
)
from trio_alerts.backends.redis.losses import look_for_losses
from trio_alerts.backends.redis.silences import RedisSilences
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream
from trio_alerts.errors import Unavailable
from trio_alerts.ports.gates import News
from trio_alerts.ports.hints import Queued
from trio_alerts.ports.silences import Silence

MANY_FIELDS = 4_000  # more than a script can pass on

Step = Callable[[], Awaitable[Any]]


class Site:
    """A stream of its own, with a group."""

    def __init__(self, world: RedisWorld, client: RedisClient, stream: RedisStream, name: str) -> None:
        self.run = world.run
        self.client = client
        self.stream = stream
        self.name = name
        self._world = world

    def add(self, count: int, fields: Fields = ((b"event", b"{}"),)) -> list[str]:
        return [self._world.add(self.name, fields) for _ in range(count)]

    def figures(self) -> dict[str, Any]:
        """Return how much there is of everything: what a repetition would change, and what must not be lost."""
        streams = (self.name, dead_letter_key(self.name), lost_key(self.name, GROUP))
        ledger = self.run("HGETALL", ledger_key(self.name, GROUP))
        return {
            "entries": [self.run("XLEN", key) for key in streams],
            "lost": {name: ledger.get(name) for name in (b"lost", b"taken", b"moved_past")},
            "canary": self.run("HEXISTS", canary_key(self.name, GROUP), "id"),
            "silences": self.run("HLEN", silences_key(self.name, GROUP)),
            "failed attempts": self.run("HGET", gate_key(self.name, GROUP, "hook"), "attempts"),
            "waiting": [self.run("ZCARD", key(self.name, GROUP, *more)) for key, *more in _QUEUES],
        }


_QUEUES: tuple[Any, ...] = ((queue_key, "hook"), (due_key,))


async def quarantine(site: Site) -> Step:
    site.add(1)
    (entry,) = await read_all(site.stream, 1)
    return lambda: site.stream.quarantine(entry, *WHY)


async def replay(site: Site, fields: Fields = ((b"event", b"{"),)) -> Step:
    site.add(1, fields)
    (entry,) = await read_all(site.stream, 1)
    assert await site.stream.quarantine(entry, *WHY)
    desk = RedisDeadLetters(site.client)
    (dead,) = await desk.page(site.name, 1)
    return lambda: desk.replay(site.name, dead.id)


async def replay_of_many_fields(site: Site) -> Step:
    return await replay(site, [(b"%d" % number, b"v") for number in range(MANY_FIELDS)])


async def drop(site: Site) -> Step:
    await replay(site)
    desk = RedisDeadLetters(site.client)
    (dead,) = await desk.page(site.name, 1)
    return lambda: desk.drop(site.name, dead.id, "me")


async def renewal_of_what_is_deleted(site: Site) -> Step:
    site.add(1)
    (entry,) = await read_all(site.stream, 1)
    site.run("XDEL", site.name, entry.id)
    return lambda: site.stream.renew([entry])


async def claim_of_what_is_deleted(site: Site) -> Step:
    site.add(1)
    (entry,) = await read_all(site.stream, 1)
    found = await site.stream.look(0.0, 1)
    assert [entry.id] == ids(found)
    site.run("XDEL", site.name, entry.id)
    return lambda: site.stream.claim(found, 0.0)


async def hand_over_of_what_is_deleted(site: Site) -> Step:
    site.add(1)
    (entry,) = await read_all(site.stream, 1)
    site.run("XDEL", site.name, entry.id)
    return lambda: site.stream.hand_over(set(), set())


async def trimmed(site: Site) -> Step:
    site.add(3)
    await look_for_losses(site.client, site.name, GROUP)
    site.run("XTRIM", site.name, "MAXLEN", 0)
    return lambda: look_for_losses(site.client, site.name, GROUP)


async def taken_away(site: Site) -> Step:
    site.add(3)
    await look_for_losses(site.client, site.name, GROUP)
    site.run("DEL", site.name)
    return lambda: look_for_losses(site.client, site.name, GROUP)


async def moved_past(site: Site) -> Step:
    *_, last = site.add(3)
    await look_for_losses(site.client, site.name, GROUP)
    site.run("XGROUP SETID", site.name, GROUP, last)
    return lambda: look_for_losses(site.client, site.name, GROUP)


async def canary(site: Site) -> Step:
    return lambda: site.stream.canaries.write(site.name, 0.0, b"{}")


async def silence(site: Site) -> Step:
    silences = RedisSilences(site.client, [site.name], GROUP)
    site.run("HSET", silences_key(site.name, GROUP), "over", "{}")
    since = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def added() -> Awaitable[bool]:
        named = Silence(id=secrets.token_hex(4), matchers=(), since=since, until=since, why="", by="")
        return silences.add(named, ["over"])

    return added


async def failure_of_a_channel(site: Site) -> Step:
    failed = News(failed=["1-1"], attempts=1, reason="503")
    return lambda: site.stream.gates.exchange({"hook": failed}, ["hook"])


async def next_of_a_queue(site: Site) -> Step:
    await site.stream.hints.put_queued([Queued("hook", f"{number}-1", 2) for number in range(3)])
    return lambda: site.stream.hints.take_queued("hook", 60.0)


@pytest.mark.parametrize(
    ("prepare", "rights"),
    [
        (quarantine, "XADD XACK"),
        (replay, "XADD XDEL"),
        (replay_of_many_fields, "XADD XDEL"),
        (drop, "XADD XDEL"),
        (canary, "XADD HSET"),
        (silence, "HEXISTS HSET HDEL"),
        (failure_of_a_channel, "HSET HSETNX HINCRBY"),
        (next_of_a_queue, "ZADD ZREM ZPOPMIN"),
        (renewal_of_what_is_deleted, "XADD XCLAIM HEXISTS"),
        (claim_of_what_is_deleted, "XADD XCLAIM XACK HEXISTS"),
        (hand_over_of_what_is_deleted, "XADD XCLAIM HEXISTS"),
        (trimmed, "HSET HDEL XGROUP|SETID"),
        (taken_away, "HSET HDEL"),
        (moved_past, "HSET HDEL"),
    ],
)
async def test_what_was_refused_twice_is_done_once(
    world: RedisWorld, redis_server: RedisServer, prepare: Callable[[Site], Awaitable[Step]], rights: str
) -> None:
    """Whichever right is missing: with it back there is as much of everything as if it had never been missing."""
    figures: dict[str, Any] = {}
    with user(world, redis_server, "allkeys") as url:
        for right in ("", *rights.split()):
            its = settings(redis_server, redis_url=url, stream=f"{world.names[0]}:{right}")
            async with open_redis_stream(its) as stream, open_client(its) as client:
                await stream.prepare()
                site = Site(world, client, stream, its.stream_names[0])
                step = await prepare(site)
                if right:
                    world.run("ACL SETUSER", "limited", f"-{right}")
                    for _ in range(2):
                        with pytest.raises(Unavailable, match="does not let the user 'limited' run"):
                            await step()
                    world.run("ACL SETUSER", "limited", f"+{right}")
                await step()
                figures[right] = site.figures()
    assert dict.fromkeys(figures, figures[""]) == figures
