"""A store belongs to one Redis and one group, and nobody else reads, sends or changes anything with it."""

import datetime as dt
from random import Random

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import FakeServer
from tests.support.fakes.world import GROUP, STREAM, World
from trio_alerts.deployment import new_identity
from trio_alerts.errors import SchemaError, StartError
from trio_alerts.outcome import Retry
from trio_alerts.pipeline.service import serve
from trio_alerts.ports.store import RecordFilter

KEY = (STREAM, GROUP)
HARMLESS = {"deployment", "prepare", "inspect", "guard", "keep_deployment", "server_time"}


def another(world: World, *, group: str | None = None) -> World:
    """A second deployment on the same store: with a Redis of its own, or on the same Redis with another group."""
    other = World() if group is None else World(group=group)
    other.store = world.store
    if group is not None:
        other.server = world.server
    return other


async def test_the_first_start_makes_an_identity_and_the_next_keeps_it(autojump_clock: MockClock) -> None:
    """Both backends have it from then on, also a store and a Redis that were used before there were identities."""
    world = World()
    world.server.add(STREAM, {b"event": b"old"})
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
    identity = world.store.owner
    assert identity is not None
    assert {KEY: identity} == world.server.owners
    assert identity.startswith(f"{GROUP}-19700101-")

    async with world.serving(world.pipeline()):
        await trio.sleep(1)
    assert ({KEY: identity}, identity) == (world.server.owners, world.store.owner)


async def test_processes_that_start_together_agree(autojump_clock: MockClock) -> None:
    """Each looks before any has written: the first in Redis wins, for the store as well."""
    world = World()
    world.server.latency_s = world.store.latency_s = 1.0
    pipelines = [world.pipeline(f"p{number}") for number in range(4)]
    async with trio.open_nursery() as processes:
        async with trio.open_nursery() as starting:
            for pipeline in pipelines:
                starting.start_soon(processes.start, serve, pipeline)
        assert {world.store.owner} == {pipeline.deployment for pipeline in pipelines}
        for pipeline in pipelines:
            pipeline.stop()


async def test_a_new_store_becomes_the_deployments(autojump_clock: MockClock) -> None:
    """An operator who removed the index goes on with an empty one."""
    world = World()
    world.server.owners[KEY] = "ours"
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
    assert "ours" == world.store.owner


@pytest.mark.parametrize("group", [None, "another"], ids=["another Redis", "another group"])
async def test_nobody_sends_what_another_deployment_has_to_retry(group: str | None, autojump_clock: MockClock) -> None:
    """Production's retries are not sent by staging, whose redriver would find them due: it does not start."""
    world = World([Retry("busy", 503)])
    async with world.serving(world.pipeline()):
        record_id = world.emit()
        await trio.sleep(1)
    before = world.store.records[record_id]
    other = another(world, group=group)
    other.emit()

    with pytest.raises(SchemaError, match=rf"deployment {GROUP}-\S+, and this Redis .*trio_alerts adopt"):
        await serve(other.pipeline())

    assert before == world.store.records[record_id]
    assert ([], {}) == (other.channel.sends, other.pending)
    assert {call.method for call in other.server.called()} <= HARMLESS


@pytest.mark.parametrize("owner", [None, "theirs"])
async def test_a_message_names_both(owner: str | None, autojump_clock: MockClock) -> None:
    """A wiped Redis and a strange one look the same; one with an identity is named."""
    world = World()
    world.store.owner = "ours"
    if owner:
        world.server.owners[KEY] = owner

    with pytest.raises(SchemaError, match="to none yet" if owner is None else "this Redis to deployment theirs"):
        await serve(world.pipeline())
    assert ({} if owner is None else {KEY: owner}) == world.server.owners


async def test_a_rebirth_of_redis_goes_on(autojump_clock: MockClock) -> None:
    """The identity is there again before the group is: a process that starts then is at home."""
    world = World()
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
        identity = world.store.owner
        world.server.flush()
        record_id = world.emit()
        await trio.sleep(0.5)
        assert {KEY: identity} == world.server.owners
        async with world.serving(world.pipeline("another")):
            await trio.sleep(1)
        assert "delivered" == world.delivery(record_id).state


async def test_an_identity_that_is_deleted_is_written_back(autojump_clock: MockClock) -> None:
    """In Redis and in the store, within a minute; nothing else is disturbed."""
    world = World()
    async with world.serving(world.pipeline()):
        await trio.sleep(1)
        identity = world.store.owner
        world.server.owners.clear()
        world.store.owner = None
        await trio.sleep(61)
        assert ({KEY: identity}, identity) == (world.server.owners, world.store.owner)


@pytest.mark.parametrize("place", ["redis", "store"])
async def test_whoever_was_taken_over_from_stops(place: str, autojump_clock: MockClock) -> None:
    """`adopt` gives both another identity: the guard of whoever works for the old one ends it."""
    world = World()
    with pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesExc(SchemaError, match="deployment another"))):
        async with world.serving(world.pipeline()):
            await trio.sleep(1)
            if place == "redis":
                world.server.owners[KEY] = "another"
            else:
                world.store.owner = "another"
            await trio.sleep(1000)
    assert 60.0 == trio.current_time()


async def test_a_lost_group_is_not_created_in_the_redis_of_others(autojump_clock: MockClock) -> None:
    """An address that leads elsewhere by now ends the process before it reads the first entry there."""
    world = World()
    with pytest.RaisesGroup(SchemaError, flatten_subgroups=True):
        async with world.serving(world.pipeline()):
            await trio.sleep(1)
            world.server.flush()
            world.server.owners[KEY] = "another"
            world.emit()
            await trio.sleep(1000)
    assert {} == world.pending
    assert 1.0 == trio.current_time()


async def test_an_outage_at_the_start_is_no_foreign_store(autojump_clock: MockClock) -> None:
    """What cannot be asked is not guessed: exit code 4."""
    world = World()
    world.store.fail_next("deployment", "down")
    with pytest.raises(StartError, match="the store is down"):
        await serve(world.pipeline())


async def test_an_outage_while_running_is_waited_for(autojump_clock: MockClock) -> None:
    """The guard that cannot look does so a minute later."""
    world = World()
    async with world.serving(world.pipeline()):
        world.store.decide = lambda call: "down" if call.method == "keep_deployment" else None
        await trio.sleep(100)
        assert [] == await world.store.search(RecordFilter(), 1)


async def test_streams_that_are_added_belong_to_the_same_deployment(autojump_clock: MockClock) -> None:
    """The identity lies beside each stream: a new one that sorts before the others gets it, too."""
    server = FakeServer()
    world = World()
    await FakeStream(server, world.settings(streams=("b", "c"))).keep_deployment("ours")

    more = FakeStream(server, world.settings(streams=("a", "b", "c")))
    assert "ours" == await more.deployment()
    assert "ours" == await more.keep_deployment("new")
    assert {"ours"} == set(server.owners.values())
    assert 3 == len(server.owners)


def test_an_identity_is_unique_and_says_whose_it_is() -> None:
    """The group and the day make it readable, chance makes it unique."""
    chance = Random(1)
    now = dt.datetime(2026, 11, 18, tzinfo=dt.UTC)
    assert new_identity("g", now, chance).startswith("g-20261118-")
    assert 1000 == len({new_identity("g", now, chance) for _ in range(1000)})
