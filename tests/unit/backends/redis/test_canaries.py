"""What is asked of Redis about entries that were read: of an alert, nothing."""

from random import Random

import trio

from tests.fuzz.redis import FuzzedClient, FuzzedServer
from trio_alerts.alert import Entry
from trio_alerts.backends.redis.canaries import RedisCanaries
from trio_alerts.backends.redis.entries import Entries


async def test_an_entry_with_an_alert_is_not_even_asked_about() -> None:
    """Whatever else it has: nothing that a producer writes beside its alert costs a command, or hides it."""
    server = FuzzedServer(Random(1))
    server.right = 1.0
    entries = [
        Entry("s", "1-0", {b"event": b"{}", b"canary": b"{}"}, "1-0"),
        Entry("s", "2-0", {b"event": b"{}"}, "2-0"),
    ]
    async with trio.open_nursery() as tasks:
        client = FuzzedClient(server, tasks)
        await client.open()
        assert entries == await RedisCanaries(client, "g").recognize(entries, Entries(["s"]))
        tasks.cancel_scope.cancel()

    assert [] == [sent for sent in server.commands if sent[0] == b"HMGET"]
