"""What is asked for at start: every command that is used later, in scripts too."""

from random import Random

import trio

from tests.fuzz.redis import FuzzedClient, FuzzedServer
from trio_alerts.alert import Entry
from trio_alerts.backends.redis import canaries, gates, hints, losses, scripts, upkeep
from trio_alerts.backends.redis.answers import calls_of
from trio_alerts.backends.redis.preflight import comforts, needs
from trio_alerts.backends.redis.stream import RedisStream
from trio_alerts.ports.gates import Rate
from trio_alerts.ports.stream import Pending
from trio_alerts.settings.settings import ChannelSettings, Settings

CHANNELS = (ChannelSettings(name="pager"),)
SETTINGS = Settings(
    stream="s", group="g", consumer="me", trim="acked", canary_every_s=60, keep_records_s=1e6, channels=CHANNELS
)
SCRIPTS = {
    text
    for module in (scripts, losses, upkeep, hints, gates, canaries)
    for text in vars(module).values()
    if isinstance(text, str) and "redis.call(" in text
}


def asked_for() -> set[str]:
    return {str(need.command[0]) for need in [*needs(SETTINGS, "s"), *comforts(SETTINGS, "s")]} | {"INFO"}


def test_what_scripts_call_is_asked_for() -> None:
    """A command that only a script uses would be missed in the middle of the work, after the send."""
    called = {call for script in SCRIPTS for call in calls_of(script)}

    assert {"XCLAIM", "XGROUP SETID", "HINCRBY", "HSETNX", "XTRIM", "ZADD", "ZPOPMIN"} <= called
    assert called <= asked_for()


async def test_what_the_stream_sends_is_asked_for() -> None:
    """Each operation of the port, on a server that answers as it should."""
    random = Random(1)
    server = FuzzedServer(random)
    server.right, server.always = 1.0, [b"1-0"]
    entry = Entry("s", "1-0", {b"event": b"{}"}, "1-0")
    async with trio.open_nursery() as tasks:
        client, blocking = FuzzedClient(server, tasks), FuzzedClient(server, tasks, block_s=2.0)
        await client.open()
        await blocking.open()
        stream = RedisStream(SETTINGS, client, blocking)
        await stream.read(1)
        await stream.look(1.0, 1)
        await stream.claim([Pending("s", "1-0", "1-0", "other", 60.0, 1)], 1.0)
        await stream.renew([entry])
        await stream.ack([entry])
        await stream.quarantine(entry, "bad_event", "why")
        await stream.hand_over(set(), set())
        await stream.leave()
        await stream.upkeep.newly_lost()
        await stream.upkeep.dead_letters()
        await stream.upkeep.remove_idle_consumers(1.0)
        await stream.upkeep.trim(1.0)
        await stream.upkeep.gone()
        await stream.silences.latest("1")
        await stream.gates.ask("pager", Rate(1.0), probe=True)
        await stream.server_time()
        await stream.lock("redrive", 1.0)
        tasks.cancel_scope.cancel()
    names = {b" ".join(sent[:2] if sent[0] in (b"CLIENT", b"XINFO") else sent[:1]).decode() for sent in server.commands}

    assert {"XREADGROUP", "XACK", "XPENDING", "EVAL", "TIME", "SET", "XLEN", "CLIENT ID"} <= names
    assert names <= asked_for()
