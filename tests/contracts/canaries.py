"""What the canaries of every stream must do: one suite that runs on all of them, in the world of the stream's."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import pytest
import trio

from tests.contracts.stream import BothPorts, StreamWorld, fields, read_all
from trio_alerts.ports.canaries import Canaries

EVERY_S = 60.0
PAYLOAD = b'{"alert_id":"canary"}'


class CanaryWorld(StreamWorld, Protocol):
    """A server without any of the streams in `names`, and what others than the program do to it."""

    def move_other_group(self, stream: str, last_id: str) -> None:
        """Let the group `other` have read up to this ID."""

    def other_canaries(self) -> AbstractAsyncContextManager[Canaries]:
        """Connect to the first stream as the group `other` does."""


@asynccontextmanager
async def opened(world: CanaryWorld, consumer: str = "a", streams: int = 1) -> AsyncIterator[BothPorts]:
    async with world.open(consumer, streams=streams) as stream:
        await stream.prepare()
        yield stream


class CanariesContract:
    """The contract."""

    async def test_a_canary_goes_the_way_of_an_entry(self, world: CanaryWorld) -> None:
        """It is unread, then somebody's, then acknowledged; when it was written, it is noted as being under way."""
        (name, *_) = world.names
        async with opened(world) as stream:
            before = await stream.canaries.look(name)
            written = await stream.canaries.write(name, EVERY_S, PAYLOAD)
            (entry,) = await read_all(stream, 1)
            pending = await stream.canaries.look(name)
            await stream.ack([entry])
            done = await stream.canaries.look(name)

        assert ("none", "", None, None) == (before.place, before.entry_id, before.written_s, before.through_s)
        assert ("unread", entry.id) == (written.place, written.entry_id)
        assert written.written_s is not None
        assert abs(written.now_s - written.written_s) < 1
        assert ("pending", "a", entry.id) == (pending.place, pending.consumer, pending.entry_id)
        assert ("acknowledged", entry.id, ()) == (done.place, done.entry_id, done.spent)

    async def test_what_is_read_is_an_alert_with_a_record_of_its_own(self, world: CanaryWorld) -> None:
        """Its ID is none that an alert can have; taken over, it is the same."""
        (name, *_) = world.names
        async with opened(world) as stream, opened(world, "b") as other:
            await stream.canaries.write(name, EVERY_S, PAYLOAD)
            (entry,) = await read_all(stream, 1)
            world.make_idle(name, entry.id, 60)
            taken = await other.claim(await other.look(50, 10), 50)

            assert {entry.record_id} == await stream.pending_among([entry.record_id])
            assert [entry.record_id] == [one.record_id for one in taken]
        assert (True, f"~canary|{entry.id}", {b"event": PAYLOAD}) == (entry.canary, entry.record_id, entry.fields)

    async def test_with_several_streams_the_record_says_which(self, world: CanaryWorld) -> None:
        """As it does for alerts; each stream has a canary of its own."""
        async with opened(world, streams=2) as stream:
            for name in world.names[:2]:
                await stream.canaries.write(name, EVERY_S, PAYLOAD)
            entries = await read_all(stream, 2)
            records = [one.record_id for one in entries]
            assert set(records) == await stream.pending_among(records)

        assert {f"~canary|{one.stream}|{one.id}" for one in entries} == set(records)

    @pytest.mark.parametrize("forged", [[(b"canary", PAYLOAD)], [(b"event", b"1"), (b"canary", PAYLOAD)]])
    async def test_nobody_else_can_write_one(self, forged: list[tuple[bytes, bytes]], world: CanaryWorld) -> None:
        """What has the field of a canary and was not noted is what it was without: an alert, or no alert."""
        (name, *_) = world.names
        async with opened(world) as stream:
            forged_id = world.add(name, forged)
            await stream.canaries.write(name, EVERY_S, PAYLOAD)
            first, second = await read_all(stream, 2)

        assert (False, forged_id, dict(forged)) == (first.canary, first.record_id, dict(first.fields))
        assert second.canary

    async def test_one_is_under_way_and_one_a_period(self, world: CanaryWorld) -> None:
        """Whoever writes: not before the last one is settled, nor before its time."""
        (name, *_) = world.names
        async with opened(world) as stream, opened(world, "b") as other:
            first = await stream.canaries.write(name, 0.0, PAYLOAD)
            second = await other.canaries.write(name, 0.0, PAYLOAD)
            await stream.canaries.settle(name, first.entry_id)
            early = await other.canaries.write(name, EVERY_S, PAYLOAD)
            third = await other.canaries.write(name, 0.0, PAYLOAD)

        assert (first.entry_id, "") == (second.entry_id, early.entry_id)
        assert third.entry_id not in ("", first.entry_id)
        assert first.written_s == early.written_s == early.through_s

    async def test_what_came_of_it_is_known_to_all(self, world: CanaryWorld) -> None:
        """Lost, it moves nothing on; what somebody else has settled is not settled again."""
        (name, *_) = world.names
        async with opened(world) as stream, opened(world, "b") as other:
            first = await stream.canaries.write(name, 0.0, PAYLOAD)
            await stream.canaries.settle(name, first.entry_id, "it was trimmed")
            lost = await other.canaries.look(name)
            second = await stream.canaries.write(name, 0.0, PAYLOAD)
            await other.canaries.settle(name, first.entry_id)
            not_its = await other.canaries.look(name)
            await other.canaries.settle(name, second.entry_id)
            through = await other.canaries.look(name)

        assert ("", "it was trimmed", None) == (lost.entry_id, lost.lost, lost.through_s)
        assert second.entry_id == not_its.entry_id
        assert ("", "", second.written_s) == (through.entry_id, through.lost, through.through_s)
        assert {first.entry_id, second.entry_id} == set(through.spent)

    async def test_what_is_dropped_leaves_nothing(self, world: CanaryWorld) -> None:
        """Neither entry nor note; again, it changes nothing."""
        (name, *_) = world.names
        async with opened(world) as stream:
            canary = await stream.canaries.write(name, 0.0, PAYLOAD)
            await stream.ack(await read_all(stream, 1))
            await stream.canaries.settle(name, canary.entry_id)
            for _ in range(2):
                await stream.canaries.drop(name, canary.entry_id)
            left = await stream.canaries.look(name)
            assert 0 == await stream.upkeep.newly_lost()

        assert () == left.spent
        assert [] == world.entries(name)

    async def test_another_group_is_left_what_it_has_not_read(self, world: CanaryWorld) -> None:
        """An entry that goes unread looks lost there. It goes with a later canary, once that group has done with it."""
        (name, *_) = world.names
        async with opened(world) as stream:
            world.other_group(name, "0-0")
            first = await bring(stream, name)
            after = await stream.canaries.look(name)
            kept = world.entries(name)
            noted = await stream.canaries.noted(name, [first, "1-1"])
            world.move_other_group(name, first)
            second = await bring(stream, name)
            left = world.entries(name)

        assert ([first], (), {first: ""}) == (kept, after.spent, noted)
        assert [second] == left

    async def test_what_another_group_needed_goes_without_a_new_canary(self, world: CanaryWorld) -> None:
        """Also when none is written any more."""
        (name, *_) = world.names
        async with opened(world) as stream:
            world.other_group(name, "0-0")
            first = await bring(stream, name)
            world.move_other_group(name, first)
            await stream.canaries.look(name)
            kept = world.entries(name)
            seen = await stream.canaries.write(name, None, PAYLOAD)

        assert ([first], []) == (kept, world.entries(name))
        assert "" == seen.entry_id

    async def test_another_groups_canary_is_nothing_to_us(self, world: CanaryWorld) -> None:
        """It is acknowledged, and nobody sees it; what comes beside it is read. Each group has one of its own."""
        (name, *_) = world.names
        async with opened(world) as stream, world.other_canaries() as theirs:
            world.other_group(name, "0-0")
            foreign = await theirs.write(name, EVERY_S, PAYLOAD)
            alert_id = world.add(name, fields())
            ours = await stream.canaries.write(name, EVERY_S, PAYLOAD)
            entries = await read_all(stream, 2)

        assert [alert_id, ours.entry_id] == [one.id for one in entries]
        assert foreign.entry_id not in ("", ours.entry_id)
        assert {alert_id, ours.entry_id} == set(world.pending(name))

    async def test_one_that_is_trimmed_unread_is_known_to_be(self, world: CanaryWorld) -> None:
        """So that the next one need not wait for it."""
        (name, *_) = world.names
        async with opened(world) as stream:
            await stream.canaries.write(name, EVERY_S, PAYLOAD)
            canary = await stream.canaries.look(name)
            world.trim(name, 0)
            assert "trimmed" == (await stream.canaries.look(name)).place
            await stream.canaries.settle(name, canary.entry_id, "it was trimmed")
            await stream.canaries.drop(name, canary.entry_id)
            assert {} == await stream.canaries.noted(name, [canary.entry_id])

    async def test_nobody_misses_one_that_was_deleted_under_way(self, world: CanaryWorld) -> None:
        """The log of what was deleted while it was pending is about alerts."""
        (name, *_) = world.names
        async with opened(world) as stream, opened(world, "b") as other:
            await stream.canaries.write(name, EVERY_S, PAYLOAD)
            (entry,) = await read_all(stream, 1)
            world.make_idle(name, entry.id, 60)
            world.delete(name, entry.id)  # afterwards: to make a deleted one idle would take it off the pending list
            await other.claim(await other.look(50, 10), 50)

        assert ([], {}) == (world.deleted(name), world.pending(name))

    async def test_without_a_group_none_is_written(self, world: CanaryWorld) -> None:
        """Nobody would read it: and it must not create the stream."""
        (name, *_) = world.names
        async with world.open("a") as stream:
            assert "" == (await stream.canaries.write(name, EVERY_S, PAYLOAD)).entry_id
            await stream.prepare()
            assert "" != (await stream.canaries.write(name, EVERY_S, PAYLOAD)).entry_id

    async def test_of_many_writers_one_writes(self, world: CanaryWorld) -> None:
        """They look at once, as processes on several machines do."""
        (name, *_) = world.names
        async with opened(world) as stream, trio.open_nursery() as writers:
            for _ in range(20):
                writers.start_soon(stream.canaries.write, name, EVERY_S, PAYLOAD)
        assert 1 == len(world.entries(name))


async def bring(stream: BothPorts, name: str) -> str:
    """Bring a canary the whole way, and clear it away; return the ID of its entry."""
    canary = await stream.canaries.write(name, 0.0, PAYLOAD)
    await stream.ack(await read_all(stream, 1))
    await stream.canaries.settle(name, canary.entry_id)
    await stream.canaries.drop(name, canary.entry_id)
    return canary.entry_id
