"""The stream that the deterministic tests stand on keeps the contract, and its faults are what they say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import trio
from trio.testing import MockClock

from tests.contracts.stream import GROUP, SHORT_BLOCK_S, BothPorts, Fields, Held, StreamContract, StreamWorld, fields
from tests.support.fakes.store import Fault
from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import Call, FakeServer, Group, Stream
from trio_alerts.alert import Entry
from trio_alerts.errors import Unavailable
from trio_alerts.settings.settings import Settings

NAME = "AlertStream"


class FakeWorld:
    """The contract's world in memory."""

    names = (NAME, "second", "third")

    def __init__(self) -> None:
        self.server = FakeServer(latency_s=0.002)

    @asynccontextmanager
    async def open(
        self,
        consumer: str,
        *,
        streams: int = 1,
        block_s: float = SHORT_BLOCK_S,
        start_from: Literal["refuse", "0", "now"] = "refuse",
    ) -> AsyncIterator[BothPorts]:
        yield FakeStream(
            self.server,
            Settings(
                streams=self.names[:streams], group=GROUP, consumer=consumer, block_s=block_s, start_from=start_from
            ),
        )

    def add(self, stream: str, fields: Fields) -> str:
        return self.server.add(stream, fields)

    def delete(self, stream: str, entry_id: str) -> None:
        self.server.delete(stream, entry_id)

    def trim(self, stream: str, maxlen: int) -> None:
        self.server.trim(stream, maxlen)

    def entries(self, stream: str) -> list[str]:
        return list(self.server.streams[stream].entries)

    def other_group(self, stream: str, last_id: str) -> None:
        self.server.streams[stream].groups["other"] = Group(last_id)

    def lose_group(self, stream: str) -> None:
        self.server.destroy_group(stream, GROUP)

    def owner(self, stream: str) -> str | None:
        return self.server.owners.get((stream, GROUP))

    def set_owner(self, stream: str, identity: str | None) -> None:
        if identity is None:
            self.server.owners.pop((stream, GROUP), None)
        else:
            self.server.owners[stream, GROUP] = identity

    def make_idle(self, stream: str, entry_id: str, idle_s: float) -> None:
        self.server.pending(stream, GROUP)[entry_id].since_s = trio.current_time() - idle_s

    def pending(self, stream: str) -> dict[str, Held]:
        return {
            entry_id: Held(held.consumer, held.deliveries, held.idle_s)
            for entry_id, held in self.server.pending(stream, GROUP).items()
        }

    def consumers(self, stream: str) -> set[str]:
        return self.server.streams[stream].groups[GROUP].consumers

    def dead(self, stream: str) -> list[Fields]:
        return self.server.dead.get(stream, [])

    def deleted(self, stream: str) -> list[str]:
        return self.server.deleted.get(stream, [])


class TestFakeStream(StreamContract):
    """The contract on the fake."""

    @pytest.fixture
    async def world(self, autojump_clock: MockClock) -> StreamWorld:
        return FakeWorld()


async def prepared(server: FakeServer, consumer: str = "a", block_s: float = 2.0) -> FakeStream:
    """Return a consumer's view of the server, whose group exists."""
    stream = FakeStream(server, Settings(stream=NAME, group=GROUP, consumer=consumer, block_s=block_s))
    await stream.prepare()
    return stream


async def holding() -> tuple[FakeServer, FakeStream, Entry]:
    """Return a server, a consumer of it, and the one entry, which that consumer has."""
    server = FakeServer()
    stream = await prepared(server)
    server.add(NAME, fields())
    (entry,) = await stream.read(1)
    return server, stream, entry


async def go_down(server: FakeServer, after_s: float) -> None:
    await trio.sleep(after_s)
    server.down = True


async def test_a_read_waits_in_virtual_time(autojump_clock: MockClock) -> None:
    """It returns at the moment an entry comes, or after `block_s`, to the millisecond; IDs are made of that time."""
    server = FakeServer()
    stream = await prepared(server)
    assert [] == await stream.read(1)
    assert 2 == trio.current_time()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.read, 1)
        await trio.sleep(1.5)
        assert "3500-0" == server.add(NAME, fields())
    assert 3.5 == trio.current_time()
    assert ["3500-0"] == list(server.pending(NAME, GROUP))


@pytest.mark.parametrize(("fault", "left"), [("down", 1), ("answer_lost", 0)])
async def test_a_fault_says_whether_it_happened(fault: Fault, left: int, autojump_clock: MockClock) -> None:
    """`down` is before the effect and `answer_lost` after it; the caller cannot tell."""
    server, stream, entry = await holding()
    server.fail_next("ack", fault)

    with pytest.raises(Unavailable):
        await stream.ack([entry])
    assert left == len(server.pending(NAME, GROUP))
    await stream.ack([entry])
    assert {} == server.pending(NAME, GROUP)


async def test_a_lost_answer_of_a_read_leaves_the_entry_pending(autojump_clock: MockClock) -> None:
    """Nobody has seen it; `own_pending` finds it."""
    server = FakeServer()
    stream = await prepared(server)
    added = server.add(NAME, fields())
    server.decide = lambda call: "answer_lost" if call.method == "read" else None

    with pytest.raises(Unavailable):
        await stream.read(1)
    (entry,) = await stream.own_pending(set(), 1)
    assert (added, 2) == (entry.id, entry.deliveries)


async def test_a_server_that_goes_down_breaks_a_blocked_read(autojump_clock: MockClock) -> None:
    """The read fails at that moment, and every other call until the server is back."""
    server = FakeServer()
    stream = await prepared(server, block_s=60)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_down, server, 5)
        with pytest.raises(Unavailable):
            await stream.read(1)
        assert 5 == trio.current_time()
    with pytest.raises(Unavailable):
        await stream.server_time()
    server.down = False
    assert 5 == await stream.server_time()


@pytest.mark.parametrize(("down_at_s", "left"), [(0.5, 1), (1.5, 0)])
async def test_a_server_that_goes_down_cuts_calls(down_at_s: float, left: int, autojump_clock: MockClock) -> None:
    """In the first half of a call's latency it has not happened, in the second half its answer is lost."""
    server, stream, entry = await holding()
    server.latency_s = 2

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_down, server, down_at_s)
        with pytest.raises(Unavailable):
            await stream.ack([entry])
    assert left == len(server.pending(NAME, GROUP))


@pytest.mark.parametrize(("deadline_s", "left"), [(0.5, 1), (1.5, 0)])
async def test_a_cancelled_call_is_whole_or_absent(deadline_s: float, left: int, autojump_clock: MockClock) -> None:
    """Cancelled in the first half of its latency it has not happened, in the second half it has."""
    server, stream, entry = await holding()
    server.latency_s = 2
    with trio.move_on_after(deadline_s) as scope:
        await stream.quarantine(entry, "bad_json", "not JSON")

    assert scope.cancelled_caught
    assert left == len(server.pending(NAME, GROUP))


async def test_calls_are_logged_with_their_virtual_time(autojump_clock: MockClock) -> None:
    """Every call of every consumer is in the log, with the number it asked for and the records it was about."""
    server = FakeServer(latency_s=1)
    stream = await prepared(server)
    first, second = server.add(NAME, fields()), server.add(NAME, fields())
    entries = await stream.read(7)
    await stream.renew(entries)

    expected = [Call(1, "a", "read", 7), Call(2, "a", "renew", 2, (first, second))]
    assert expected == server.called("read", "renew")
    assert "prepare" == server.calls[0].method


async def test_a_group_that_is_set_back_hands_out_living_owners_entries(autojump_clock: MockClock) -> None:
    """After SETID an entry comes again as if new, and its first owner has lost it."""
    server, stream, entry = await holding()
    server.set_id(NAME, GROUP, "0-0")
    (again,) = await (await prepared(server, "b")).read(1)

    assert (entry.id, 1, False) == (again.id, again.deliveries, again.claimed)
    assert not await stream.owns(entry)


async def test_a_flush_leaves_nothing(autojump_clock: MockClock) -> None:
    """Streams, dead letters and locks are gone."""
    server = FakeServer()
    stream = await prepared(server)
    assert await stream.lock("x", 60)
    server.add(NAME, fields())
    server.flush()

    assert await stream.lock("x", 60)
    assert [] == await stream.read(1)
    assert [NAME] == list(server.streams)
    assert Stream().entries == server.streams[NAME].entries
