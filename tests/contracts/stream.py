"""What every stream must do, whatever it is made of: one suite that runs on all of them.

A test module makes a class of it and says how to get a world: servers, and what an operator or a producer can do there.

    class TestTheContract(StreamContract):
        @pytest.fixture
        def world(self) -> StreamWorld:
            return MyWorld(...)
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

import pytest
import trio
import trio.testing

from trio_alerts.alert import Entry
from trio_alerts.errors import SchemaError, SettingsError
from trio_alerts.ports.canaries import Canaries
from trio_alerts.ports.stream import HANDED_OVER_IDLE_S, AlertStream, Gone, Pending, StreamUpkeep
from trio_alerts.record_ids import order

Fields = Sequence[tuple[bytes, bytes]]

GROUP = "group"
PATIENCE_S = 30
LONG_BLOCK_S = 20.0  # a read that must not wait for so long
SHORT_BLOCK_S = 0.05
WHY = ("bad_event", "no such severity: 'urgent'")


class BothPorts(AlertStream, Protocol):
    """Both ports of the stream."""

    @property
    def upkeep(self) -> StreamUpkeep:
        """What the janitor does."""

    @property
    def canaries(self) -> Canaries:
        """The canaries of the same group."""


@dataclass(frozen=True, slots=True)
class Held:
    """An item of the group's pending list, as the server tells it."""

    consumer: str
    deliveries: int
    idle_s: float


class StreamWorld(Protocol):
    """A server without any of the streams in `names`, and what others than the program do to it."""

    names: tuple[str, str, str]

    def open(
        self,
        consumer: str,
        *,
        streams: int = 1,
        block_s: float = SHORT_BLOCK_S,
        start_from: Literal["refuse", "0", "now"] = "refuse",
    ) -> AbstractAsyncContextManager[BothPorts]:
        """Connect as a consumer of `GROUP` of the first so many streams; nothing is prepared."""

    def add(self, stream: str, fields: Fields) -> str:
        """XADD."""

    def delete(self, stream: str, entry_id: str) -> None:
        """XDEL."""

    def trim(self, stream: str, maxlen: int) -> None:
        """XTRIM MAXLEN: what a producer's own limit does."""

    def entries(self, stream: str) -> list[str]:
        """Return the IDs of all entries of a stream."""

    def other_group(self, stream: str, last_id: str) -> None:
        """Create a group that is somebody else's, and has read up to this ID."""

    def lose_group(self, stream: str) -> None:
        """XGROUP DESTROY."""

    def owner(self, stream: str) -> str | None:
        """Return the identity of the deployment that is kept beside a stream."""

    def set_owner(self, stream: str, identity: str | None) -> None:
        """Change it, or take it away, as another deployment or a loss of data does."""

    def make_idle(self, stream: str, entry_id: str, idle_s: float) -> None:
        """Set an entry's idle time; owner and deliveries stay."""

    def pending(self, stream: str) -> dict[str, Held]:
        """Return the pending list of `GROUP`."""

    def consumers(self, stream: str) -> set[str]:
        """Return the consumers of `GROUP`."""

    def dead(self, stream: str) -> list[Fields]:
        """Return the entries of the dead-letter stream."""

    def deleted(self, stream: str) -> list[str]:
        """Return the IDs in the log of entries that were deleted while they were pending."""


def fields(number: int = 1) -> Fields:
    return [(b"event", b"%d" % number)]


def add(world: StreamWorld, count: int, stream: int = 0) -> list[str]:
    """Add entries to one of the streams, return their IDs."""
    return [world.add(world.names[stream], fields(number)) for number in range(count)]


@asynccontextmanager
async def prepared(opened: AbstractAsyncContextManager[BothPorts]) -> AsyncIterator[BothPorts]:
    async with opened as stream:
        await stream.prepare()
        yield stream


async def read_all(stream: AlertStream, count: int) -> list[Entry]:
    """Read until there are so many entries."""
    entries: list[Entry] = []
    with trio.fail_after(PATIENCE_S):
        while len(entries) < count:
            entries += await stream.read(count - len(entries))
    return entries


def ids(entries: Sequence[Entry | Pending]) -> list[str]:
    return [entry.id for entry in entries]


class StreamContract:
    """The contract."""

    async def test_entries_come_once_in_order_and_not_more_than_asked_for(self, world: StreamWorld) -> None:
        """A read returns at most `count` new entries, each as it was written, delivered for the first time."""
        first, second, third = add(world, 3)
        async with prepared(world.open("a")) as stream:
            entries = await stream.read(2)
            rest = await stream.read(2)

        name = world.names[0]
        expected = [Entry(name, first, dict(fields(0)), first), Entry(name, second, dict(fields(1)), second)]
        assert expected == entries
        assert [third] == ids(rest)
        assert {"a"} == {held.consumer for held in world.pending(name).values()}

    async def test_two_consumers_share_the_entries(self, world: StreamWorld) -> None:
        """What one consumer has read, another does not get."""
        added = add(world, 2)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            await other.prepare()
            assert added[:1] == ids(await one.read(1))
            assert added[1:] == ids(await other.read(5))
            assert [] == await one.read(5)

    async def test_a_read_waits_for_an_entry(self, world: StreamWorld) -> None:
        """A blocked read returns what comes while it waits, and nothing when the time is over."""
        entries: list[Entry] = []
        async with prepared(world.open("a")) as impatient:
            assert [] == await impatient.read(1)
        async with world.open("b", block_s=LONG_BLOCK_S) as stream:

            async def read() -> None:
                entries.extend(await stream.read(1))

            with trio.fail_after(PATIENCE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read)
                    await trio.testing.wait_all_tasks_blocked(0.01)
                    added = add(world, 1)
        assert added == ids(entries)

    async def test_wake_ends_a_blocked_read(self, world: StreamWorld) -> None:
        """A stop need not wait for `block_s`; and nothing is lost by it."""
        async with prepared(world.open("a", block_s=LONG_BLOCK_S)) as stream:
            await stream.wake()  # nothing is blocked: nothing happens
            begun = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.read, 1)
                await trio.testing.wait_all_tasks_blocked(0.01)
                await stream.wake()
            assert LONG_BLOCK_S > trio.current_time() - begun
            added = add(world, 1)
            assert added == ids(await stream.read(1))

    async def test_odd_fields_survive(self, world: StreamWorld) -> None:
        """Any bytes may be in a field's name and value, empty ones too; of two with one name the last is seen."""
        world.add(world.names[0], [(b"", b""), (b"\xff\x00\r\n", b"\xfe\n"), (b"twice", b"1"), (b"twice", b"2")])
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
        assert {b"": b"", b"\xff\x00\r\n": b"\xfe\n", b"twice": b"2"} == entry.fields

    async def test_an_acknowledged_entry_is_gone(self, world: StreamWorld) -> None:
        """What is acknowledged is pending no more; doing it again changes nothing."""
        add(world, 2)
        async with prepared(world.open("a")) as stream:
            one, other = await read_all(stream, 2)
            await stream.ack([one])
            await stream.ack([one])
        assert [other.id] == list(world.pending(world.names[0]))

    async def test_own_pending_entries_are_found_but_for_those_held(self, world: StreamWorld) -> None:
        """An answer that got lost comes again, counted as one more delivery, but not as a claim."""
        add(world, 3)
        async with prepared(world.open("a")) as stream:
            held, *lost = await read_all(stream, 3)
            found = await stream.own_pending({held.record_id}, 10)

        assert [(entry.id, 2, False, entry.fields) for entry in lost] == [
            (entry.id, entry.deliveries, entry.claimed, entry.fields) for entry in found
        ]
        assert [1, 2, 2] == [held.deliveries for held in world.pending(world.names[0]).values()]

    async def test_own_pending_entries_are_found_behind_many_held_ones(self, world: StreamWorld) -> None:
        """However many are held: what nobody holds is found, and not more than asked for."""
        add(world, 450)
        async with prepared(world.open("a")) as stream:
            entries = await read_all(stream, 450)
            holding = {entry.record_id for entry in entries[:445]}
            assert ids(entries[445:448]) == ids(await stream.own_pending(holding, 3))

    async def test_own_pending_leaves_others_alone(self, world: StreamWorld) -> None:
        """What is pending under another name is not ours."""
        add(world, 1)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            await read_all(one, 1)
            assert [] == await other.own_pending(set(), 10)

    async def test_look_tells_what_is_idle_and_changes_nothing(self, world: StreamWorld) -> None:
        """Entries that were idle for long enough are seen with owner, deliveries and idle time, whoever has them."""
        add(world, 3)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            first, second, third = await read_all(one, 3)
            world.make_idle(world.names[0], first.id, 100)
            world.make_idle(world.names[0], third.id, 50)
            for stream in (one, other):
                found = await stream.look(50, 10)
                assert [(first.record_id, "a", 1), (third.record_id, "a", 1)] == [
                    (pending.record_id, pending.consumer, pending.deliveries) for pending in found
                ]
                assert [100, 50] == [int(pending.idle_s) for pending in found]
            assert [] == await other.look(200, 10)
        assert {first.id, second.id, third.id} == set(world.pending(world.names[0]))

    async def test_look_goes_on_where_it_ended(self, world: StreamWorld) -> None:
        """Entries that a caller never takes do not hide those behind them: every look goes on, and around."""
        add(world, 5)
        async with prepared(world.open("a")) as stream:
            entries = ids(await read_all(stream, 5))
            looks = [ids(await stream.look(0, 2)) for _ in range(4)]
            assert [entries[0:2], entries[2:4], [entries[4], entries[0]], entries[1:3]] == looks
            everything = await stream.look(0, 10)
            assert sorted(entries) == sorted(ids(everything))

    async def test_a_claim_takes_what_is_idle_enough(self, world: StreamWorld) -> None:
        """A claim checks the idle time again, counts one more delivery, and says that the entry was claimed."""
        add(world, 2)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            old, young = await read_all(one, 2)
            for entry in (old, young):
                world.make_idle(world.names[0], entry.id, 60)
            found = await other.look(50, 10)
            await one.renew([young])
            claimed = await other.claim(found, 50)

        assert [Entry(old.stream, old.id, old.fields, old.record_id, deliveries=2, claimed=True)] == claimed
        pending = world.pending(world.names[0])
        assert [("b", 2), ("a", 1)] == [(held.consumer, held.deliveries) for held in pending.values()]
        assert 50 > pending[old.id].idle_s

    async def test_of_two_claimants_one_wins(self, world: StreamWorld) -> None:
        """Both saw the entry; the second to claim gets nothing."""
        add(world, 1)
        async with prepared(world.open("a")) as one, world.open("b") as second, world.open("c") as third:
            (entry,) = await read_all(one, 1)
            world.make_idle(world.names[0], entry.id, 60)
            seen, seen_too = await second.look(50, 1), await third.look(50, 1)
            claims = [await second.claim(seen, 50), await third.claim(seen_too, 50)]
        assert [1, 0] == [len(claim) for claim in claims]
        assert "b" == world.pending(world.names[0])[entry.id].consumer

    async def test_claiming_what_was_acknowledged_meanwhile_is_nothing(self, world: StreamWorld) -> None:
        """An entry that was done with between look and claim is not lost upstream, even if it is deleted by then."""
        add(world, 2)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            done, trimmed = await read_all(one, 2)
            found = await other.look(0, 10)
            await one.ack([done])
            await one.ack([trimmed])
            world.delete(world.names[0], trimmed.id)
            assert [] == await other.claim(found, 0)
        assert {} == world.pending(world.names[0])
        assert [] == world.deleted(world.names[0])

    async def test_a_renewal_counts_no_delivery(self, world: StreamWorld) -> None:
        """A renewal resets the idle time and nothing else."""
        add(world, 2)
        async with prepared(world.open("a")) as stream:
            entries = await read_all(stream, 2)
            for entry in entries:
                world.make_idle(world.names[0], entry.id, 60)
            renewed = await stream.renew(entries)
        assert {entry.record_id for entry in entries} == renewed
        assert [("a", 1, True)] * 2 == [
            (held.consumer, held.deliveries, held.idle_s < 60) for held in world.pending(world.names[0]).values()
        ]

    async def test_a_renewal_may_take_the_delivery_back(self, world: StreamWorld) -> None:
        """What waits for a backend counts no delivery to us, until it goes on."""
        add(world, 1)
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
            for counted, deliveries in ((False, 0), (None, 0), (True, 1)):
                assert {entry.record_id} == await stream.renew([entry], counted=counted)
                assert deliveries == world.pending(world.names[0])[entry.id].deliveries

    async def test_a_renewal_takes_nothing_back(self, world: StreamWorld) -> None:
        """What was acknowledged, or has another owner by now, is not renewed."""
        add(world, 3)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            ours, done, theirs = await read_all(one, 3)
            await one.ack([done])
            world.make_idle(world.names[0], theirs.id, 60)
            await other.claim(await other.look(50, 1), 50)
            world.make_idle(world.names[0], theirs.id, 60)
            assert {ours.record_id} == await one.renew([ours, done, theirs])
            assert [True, False, False] == [await one.owns(entry) for entry in (ours, done, theirs)]
            assert [False, False, True] == [await other.owns(entry) for entry in (ours, done, theirs)]
        held = world.pending(world.names[0])[theirs.id]
        assert ("b", 2, 60) == (held.consumer, held.deliveries, int(held.idle_s))

    async def test_many_entries_are_renewed_and_claimed(self, world: StreamWorld) -> None:
        """More than fit into one call are dealt with all the same."""
        add(world, 450)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            entries = await read_all(one, 450)
            assert 450 == len(await one.renew(entries))
            assert ids(entries) == ids(await other.claim(await other.look(0, 450), 0))

    async def test_pending_among_finds_records_whose_entry_is_pending(self, world: StreamWorld) -> None:
        """Under any name; what is acknowledged, was never there, or is no ID of ours is not pending."""
        add(world, 2)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            done, waiting = await read_all(one, 2)
            await one.ack([done])
            asked = [done.record_id, waiting.record_id, "1-1", "nonsense", "other|1-1", ""]
            assert {waiting.record_id} == await other.pending_among(asked)
            assert set() == await other.pending_among([])

    async def test_quarantine_keeps_everything(self, world: StreamWorld) -> None:
        """The dead-letter stream gets the entry's fields as they were, doubles too, and why it is there."""
        original = [(b"event", b"\xff{"), (b"twice", b"1"), (b"twice", b"2"), (b"_reason", b"forged"), (b"empty", b"")]
        world.add(world.names[0], original)
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
            assert await stream.quarantine(entry, *WHY)
            assert not await stream.quarantine(entry, *WHY)

        (dead,) = world.dead(world.names[0])
        assert original == list(dead[: len(original)])
        added = dict(dead[len(original) :])
        assert added.pop(b"_at").endswith(b"Z")
        assert {
            b"_id": entry.id.encode(),
            b"_record": entry.record_id.encode(),
            b"_stream": world.names[0].encode(),
            b"_group": GROUP.encode(),
            b"_consumer": b"a",
            b"_reason": WHY[0].encode(),
            b"_error": WHY[1].encode(),
            b"_deliveries": b"1",
        } == added
        assert {} == world.pending(world.names[0])

    async def test_quarantine_does_nothing_with_what_is_not_ours(self, world: StreamWorld) -> None:
        """An entry that another consumer owns by now, or that is done with, is left alone."""
        add(world, 2)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            theirs, done = await read_all(one, 2)
            await one.ack([done])
            await other.claim(await other.look(0, 1), 0)
            assert [False, False] == [await one.quarantine(entry, *WHY) for entry in (theirs, done)]
        assert [] == world.dead(world.names[0])
        assert [theirs.id] == list(world.pending(world.names[0]))

    async def test_quarantine_keeps_what_was_read_of_a_deleted_entry(self, world: StreamWorld) -> None:
        """An entry that was deleted from the stream while we had it is still kept."""
        add(world, 1)
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
            world.delete(world.names[0], entry.id)
            assert await stream.quarantine(entry, *WHY)
        (dead,) = world.dead(world.names[0])
        assert [*entry.fields.items(), (b"_id", entry.id.encode())] == list(dead[:2])
        assert {} == world.pending(world.names[0])

    async def test_what_is_handed_over_can_be_claimed_at_once(self, world: StreamWorld) -> None:
        """Everything pending under our name but what was started; no delivery is counted; others' stay as they are."""
        add(world, 3)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            theirs = (await other.read(1))[0]
            started, waiting = await read_all(one, 2)
            assert 1 == await one.hand_over({started.record_id})
            found = await other.look(HANDED_OVER_IDLE_S, 10)
            assert [(waiting.id, 0)] == [(pending.id, pending.deliveries) for pending in found]
            (claimed,) = await other.claim(found, HANDED_OVER_IDLE_S)
            assert (waiting.id, 1, True) == (claimed.id, claimed.deliveries, claimed.claimed)
        owners = {entry_id: held.consumer for entry_id, held in world.pending(world.names[0]).items()}
        assert {theirs.id: "b", started.id: "a", waiting.id: "b"} == owners

    async def test_a_hand_over_does_not_forget_what_happened_before(self, world: StreamWorld) -> None:
        """Only the delivery to us is taken back: an entry that crashed others is still a suspect."""
        add(world, 1)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            await one.read(1)
            await other.claim(await other.look(0, 1), 0)
            await other.claim(await other.look(0, 1), 0)
            assert 1 == await other.hand_over(set())
        assert [2] == [held.deliveries for held in world.pending(world.names[0]).values()]

    async def test_many_entries_are_handed_over(self, world: StreamWorld) -> None:
        """More than fit into one page."""
        add(world, 450)
        async with prepared(world.open("a")) as stream:
            entries = await read_all(stream, 450)
            assert 448 == await stream.hand_over({entries[0].record_id, entries[300].record_id})
            assert 448 == len(await stream.look(HANDED_OVER_IDLE_S, 500))

    async def test_leaving_needs_empty_hands(self, world: StreamWorld) -> None:
        """A consumer that has something pending is not removed: that would lose it."""
        add(world, 1)
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
            assert not await stream.leave()
            assert {"a"} == world.consumers(world.names[0])
            await stream.ack([entry])
            assert await stream.leave()
            assert set() == world.consumers(world.names[0])

    async def test_silent_consumers_with_empty_hands_are_removed(self, world: StreamWorld) -> None:
        """What dead processes left of themselves goes; who has something pending stays, however long it was silent."""
        add(world, 3)
        async with prepared(world.open("a")) as busy, world.open("b") as gone, world.open("c") as janitor:
            await busy.read(1)
            for stream in (gone, janitor):
                (entry,) = await stream.read(1)
                await stream.ack([entry])
            assert [] == await janitor.upkeep.remove_idle_consumers(600)
            with trio.fail_after(PATIENCE_S):
                while not (removed := await janitor.upkeep.remove_idle_consumers(0.05)):  # noqa: ASYNC110 - time itself
                    await trio.sleep(0.01)
            assert ["b"] == removed
        assert {"a", "c"} == world.consumers(world.names[0])

    async def test_what_was_trimmed_unread_is_told_once(self, world: StreamWorld) -> None:
        """A producer's limit takes what the group has not read: one of two is told how many, whatever is read since."""
        add(world, 10)
        async with prepared(world.open("a")) as one, world.open("b") as other:
            assert 0 == await one.upkeep.newly_lost()
            for entry in await one.read(2):
                await one.ack([entry])
            world.trim(world.names[0], 9)  # read: no loss
            assert 0 == await one.upkeep.newly_lost()
            world.trim(world.names[0], 3)
            assert [5, 0] == [await one.upkeep.newly_lost(), await other.upkeep.newly_lost()]
            world.trim(world.names[0], 2)
            assert 2 == len(await other.read(10))  # a read puts the group behind the gap
            assert [1, 0] == [await other.upkeep.newly_lost(), await one.upkeep.newly_lost()]
            add(world, 3)
            world.trim(world.names[0], 1)
            assert 2 == await one.upkeep.newly_lost()

    async def test_what_was_trimmed_before_the_first_read_is_lost_too(self, world: StreamWorld) -> None:
        """From the moment there is a group; what went before was never its own."""
        add(world, 4)
        world.trim(world.names[0], 3)
        async with prepared(world.open("a")) as stream:
            assert 0 == await stream.upkeep.newly_lost()
            world.trim(world.names[0], 1)
            assert 2 == await stream.upkeep.newly_lost()

    async def test_with_now_what_lies_there_is_nobodys_loss(self, world: StreamWorld) -> None:
        """A group that begins behind the entries does not miss them."""
        add(world, 4)
        async with prepared(world.open("a", start_from="now")) as stream:
            world.trim(world.names[0], 1)
            assert 0 == await stream.upkeep.newly_lost()
            add(world, 3)
            world.trim(world.names[0], 1)
            assert 2 == await stream.upkeep.newly_lost()

    async def test_what_was_deleted_unread_is_told_once(self, world: StreamWorld) -> None:
        """An operator's XDEL in the middle of what is not read yet."""
        added = add(world, 6)
        async with prepared(world.open("a")) as stream:
            await stream.read(2)
            world.delete(world.names[0], added[0])  # read: no loss of this kind
            world.delete(world.names[0], added[3])
            assert [1, 0] == [await stream.upkeep.newly_lost(), await stream.upkeep.newly_lost()]
            world.delete(world.names[0], added[5])
            assert 1 == await stream.upkeep.newly_lost()
            assert [added[2], added[4]] == ids(await stream.read(10))
            add(world, 1)
            assert 1 == len(await stream.read(1))
            assert 0 == await stream.upkeep.newly_lost()

    async def test_the_quarantine_is_counted(self, world: StreamWorld) -> None:
        """Over all streams."""
        add(world, 1)
        add(world, 1, 1)
        async with prepared(world.open("a", streams=2)) as stream:
            assert 0 == await stream.upkeep.dead_letters()
            for entry in await read_all(stream, 2):
                await stream.quarantine(entry, *WHY)
            assert 2 == await stream.upkeep.dead_letters()

    async def test_what_is_done_with_is_trimmed(self, world: StreamWorld) -> None:
        """From the oldest on, up to what is pending or not read yet, also by a group that is not ours."""
        added = add(world, 8)
        name = world.names[0]
        async with prepared(world.open("a")) as stream:
            await trio.sleep(0.002)  # an entry of this very millisecond would be too young
            first, second, third, fourth = await read_all(stream, 4)
            assert 0 == await stream.upkeep.trim(0)
            await stream.ack([first])
            await stream.ack([third])
            assert 0 == await stream.upkeep.trim(3600)
            assert added == world.entries(name)
            assert 1 == await stream.upkeep.trim(0)
            assert added[1:] == world.entries(name)
            for entry in (second, fourth):
                await stream.ack([entry])
            world.other_group(name, added[1])
            assert 1 == await stream.upkeep.trim(0)
            assert added[2:] == world.entries(name)
            assert 0 == await stream.upkeep.newly_lost()

            for entry in await read_all(stream, 4):
                await stream.ack([entry])
            assert 0 == await stream.upkeep.trim(0)

    async def test_trimming_keeps_what_is_not_read(self, world: StreamWorld) -> None:
        """With everything acknowledged, what follows the last entry that was read stays, however much goes."""
        add(world, 450)
        async with prepared(world.open("a")) as stream:
            for entry in await read_all(stream, 449):
                await stream.ack([entry])
            await trio.sleep(0.002)
            assert 449 == await stream.upkeep.trim(0)
            assert [] != await stream.read(1)
            assert 0 == await stream.upkeep.newly_lost()

    async def test_what_is_gone_is_told_by_stream(self, world: StreamWorld) -> None:
        """Up to the first entry that is in the stream or pending; in an empty one, up to the last that there was."""
        added, name = add(world, 4), world.names[0]
        async with world.open("a", streams=2) as stream:
            assert {} == await stream.upkeep.gone()
        async with prepared(world.open("a", streams=2)) as stream:
            first, second, third = await read_all(stream, 3)
            assert Gone(added[0], empty=False) == (await stream.upkeep.gone())[name]
            await stream.ack([first])
            assert Gone(added[0], empty=False) == (await stream.upkeep.gone())[name]
            world.trim(name, 1)
            assert Gone(added[1], empty=False) == (await stream.upkeep.gone())[name]  # pending, and deleted
            for entry in (second, third):
                await stream.ack([entry])
            assert Gone(added[3], empty=False) == (await stream.upkeep.gone())[name]
            world.trim(name, 0)
            gone = (await stream.upkeep.gone())[name]
            assert (True, True) == (gone.empty, order(gone.before) > order(added[3]))
            assert order(gone.before) < order(add(world, 1)[0]) or gone.before == world.entries(name)[0]
            world.lose_group(name)
            assert {world.names[1]} == (await stream.upkeep.gone()).keys()

    async def test_what_was_lost_while_pending_is_told_with_it(self, world: StreamWorld) -> None:
        """By the IDs of their records."""
        added, name = add(world, 2), world.names[0]
        async with prepared(world.open("a")) as stream:
            await read_all(stream, 2)
            world.delete(name, added[0])
            await stream.hand_over(set())
            assert Gone(added[1], empty=False, noted=frozenset({added[0]})) == (await stream.upkeep.gone())[name]

    async def test_a_stream_without_a_group_is_not_trimmed(self, world: StreamWorld) -> None:
        """Nobody has read it."""
        added = add(world, 3)
        async with world.open("a") as stream:
            await trio.sleep(0.002)
            assert 0 == await stream.upkeep.trim(0)
            assert 0 == await stream.upkeep.newly_lost()
            assert [] == await stream.upkeep.remove_idle_consumers(0)
        assert added == world.entries(world.names[0])

    async def test_a_lock_is_one_groups_and_ends_by_itself(self, world: StreamWorld) -> None:
        """One of two gets it; another name is another lock."""
        async with world.open("a") as one, world.open("b") as other:
            assert [True, False] == [await one.lock("look", 600), await other.lock("look", 600)]
            assert await other.lock("brief", 0.01)
            with trio.fail_after(PATIENCE_S):
                while not await one.lock("brief", 600):  # noqa: ASYNC110 - it ends on the server
                    await trio.sleep(0.01)

    async def test_the_servers_time_goes_on(self, world: StreamWorld) -> None:
        """It is the same clock for every consumer."""
        async with world.open("a") as one, world.open("b") as other:
            times = [await stream.server_time() for stream in (one, other, one)]
        assert sorted(times) == times
        assert PATIENCE_S > times[2] - times[0]

    async def test_a_lost_group_is_created_again_at_the_beginning(self, world: StreamWorld) -> None:
        """After a flush or a restore nothing is left out, whatever `start_from` says; one read only mends."""
        added = add(world, 2)
        async with prepared(world.open("a", start_from="now")) as stream:
            assert [] == await stream.read(10)
            world.lose_group(world.names[0])
            assert [] == await stream.read(10)
            assert added == ids(await stream.read(10))

    async def test_a_group_that_is_lost_during_a_read_is_created_again(self, world: StreamWorld) -> None:
        """A blocked reader notices at once."""
        added = add(world, 1)
        async with prepared(world.open("a", block_s=LONG_BLOCK_S)) as stream:
            await stream.read(1)
            begun = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.read, 1)
                await trio.testing.wait_all_tasks_blocked(0.01)
                world.lose_group(world.names[0])
            assert LONG_BLOCK_S > trio.current_time() - begun
            assert added == ids(await stream.read(1))

    async def test_without_the_group_nothing_is_pending_or_ours(self, world: StreamWorld) -> None:
        """No method but `read` fails, or mends it."""
        add(world, 1)
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
            found = await stream.look(0, 1)
            world.lose_group(world.names[0])

            assert [] == await stream.own_pending(set(), 1)
            assert [] == await stream.look(0, 1)
            assert [] == await stream.claim(found, 0)
            assert set() == await stream.renew([entry])
            assert set() == await stream.pending_among([entry.record_id])
            assert not await stream.owns(entry)
            assert not await stream.quarantine(entry, *WHY)
            await stream.ack([entry])
            assert 0 == await stream.hand_over(set())
            assert await stream.leave()
        assert [] == world.dead(world.names[0])

    @pytest.mark.parametrize("how", ["own_pending", "claim", "hand_over"])
    async def test_a_deleted_entry_is_acknowledged_and_noted(self, world: StreamWorld, how: str) -> None:
        """An entry that was deleted before it was processed is lost upstream: noted once, and pending no more."""
        add(world, 3)
        async with prepared(world.open("a")) as stream:
            gone, gone_too, left = await read_all(stream, 3)
            world.delete(world.names[0], gone.id)
            world.delete(world.names[0], gone_too.id)
            if how == "own_pending":
                assert [left.id] == ids(await stream.own_pending(set(), 1))
            elif how == "claim":
                assert [left.id] == ids(await stream.claim(await stream.look(0, 3), 0))
            else:
                assert 1 == await stream.hand_over(set())
        assert [gone.id, gone_too.id] == world.deleted(world.names[0])
        assert [left.id] == list(world.pending(world.names[0]))

    async def test_an_entry_deleted_under_our_hands_is_noted(self, world: StreamWorld) -> None:
        """Its content is with a worker: a renewal drops it from the pending list, so that nobody waits for it."""
        add(world, 1)
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
            world.delete(world.names[0], entry.id)
            assert set() == await stream.renew([entry])
        assert {} == world.pending(world.names[0])
        assert [entry.id] == world.deleted(world.names[0])

    async def test_a_replay_keeps_its_first_record_id(self, world: StreamWorld) -> None:
        """An entry that says which older entry it came from has that one's record, wherever record IDs are compared."""
        (first,) = add(world, 1)
        again = world.add(world.names[0], [*fields(), (b"replay_of", first.encode())])
        async with prepared(world.open("a")) as stream:
            original, replay = await read_all(stream, 2)
            assert (again, first, True) == (replay.id, replay.record_id, replay.replayed)
            await stream.ack([original])

            assert {first} == await stream.pending_among([first])
            assert [] == await stream.own_pending({first}, 10)
            assert [first] == [pending.record_id for pending in await stream.look(0, 10)]
            assert {first} == await stream.renew([replay])
            assert 0 == await stream.hand_over({first})
            await stream.ack([replay])
            assert set() == await stream.pending_among([first])
        assert {} == world.pending(world.names[0])

    @pytest.mark.parametrize(
        "value", [b"", b"x", b"1-0 ", b"99999999999999-0", b"other|1-0", b"01-0", b"1-0\n", b"\xff"]
    )
    async def test_a_field_that_names_no_older_entry_makes_no_replay(self, world: StreamWorld, value: bytes) -> None:
        """A producer cannot take the record of an entry that is still to come, or make up an ID."""
        added = world.add(world.names[0], [*fields(), (b"replay_of", value)])
        async with prepared(world.open("a")) as stream:
            (entry,) = await stream.read(1)
        assert (added, added, False) == (entry.id, entry.record_id, entry.replayed)

    async def test_several_streams_are_one(self, world: StreamWorld) -> None:
        """Record IDs tell the stream, and every method finds the right one."""
        for number in range(3):
            add(world, 1, number)
        async with prepared(world.open("a", streams=3)) as stream, world.open("b", streams=3) as other:
            entries = sorted(await read_all(stream, 3), key=lambda entry: world.names.index(entry.stream))
            record_ids = [f"{entry.stream}|{entry.id}" for entry in entries]
            assert record_ids == [entry.record_id for entry in entries]
            assert set(record_ids) == await other.pending_among(record_ids)
            assert set(record_ids) == await stream.renew(entries)
            assert set(record_ids) == {entry.record_id for entry in await stream.own_pending(set(), 3)}

            first, second, third = entries
            await stream.ack([first])
            assert await stream.quarantine(second, *WHY)
            assert 1 == await stream.hand_over(set())
            (claimed,) = await other.claim(await other.look(HANDED_OVER_IDLE_S, 5), HANDED_OVER_IDLE_S)
            assert (third.record_id, 2) == (claimed.record_id, claimed.deliveries)
            assert await stream.leave()
            assert not await other.leave()
        assert [0, 1, 0] == [len(world.dead(name)) for name in world.names]
        assert [0, 0, 1] == [len(world.pending(name)) for name in world.names]

    @pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
    async def test_several_streams_give_no_more_than_asked_for_and_none_starves(
        self, world: StreamWorld, count: int
    ) -> None:
        """`count` is for all streams together; a stream that is always full does not hide the others."""
        add(world, 60)
        add(world, 2, 1)
        add(world, 2, 2)
        async with prepared(world.open("a", streams=3)) as stream:
            seen: set[str] = set()
            for _ in range(10):
                entries = await stream.read(count)
                assert count >= len(entries)
                seen |= {entry.stream for entry in entries}
            assert set(world.names) == seen
            looked = {one.stream for _ in range(3) for one in await stream.look(0, 1)}
            assert set(world.names) == looked

    async def test_a_group_is_lost_in_one_of_several_streams(self, world: StreamWorld) -> None:
        """It is created again there, and the others are not read anew."""
        added = [add(world, 1, number)[0] for number in range(3)]
        async with prepared(world.open("a", streams=3)) as stream:
            await read_all(stream, 3)
            world.lose_group(world.names[1])
            assert [] == await stream.read(3)
            assert [added[1]] == ids(await read_all(stream, 1))
            assert [] == await stream.read(3)

    @pytest.mark.parametrize(
        ("start_from", "waiting", "read"), [("refuse", 1_000, 1_000), ("0", 1_001, 1_001), ("now", 5, 0), ("now", 0, 0)]
    )
    async def test_where_a_new_group_starts(
        self, world: StreamWorld, start_from: Literal["refuse", "0", "now"], waiting: int, read: int
    ) -> None:
        """At the first entry, or with `now` behind the last; the stream need not be there yet."""
        add(world, waiting)
        async with prepared(world.open("a", start_from=start_from)) as stream:
            assert read == len(await stream.read(2_000))
            added = add(world, 1)
            await stream.prepare()  # there is a group now: nothing changes
            assert added == ids(await stream.read(2_000))

    async def test_a_new_group_does_not_start_over_many_entries_unasked(self, world: StreamWorld) -> None:
        """More than 1,000 waiting entries were not meant for a group that starts today, until somebody says so."""
        add(world, 1_001)
        async with world.open("a") as stream:
            with pytest.raises(SettingsError, match=r"1,001 entries.*start_from"):
                await stream.prepare()
            async with prepared(world.open("b", start_from="0")):
                await stream.prepare()

    async def test_the_first_identity_is_kept(self, world: StreamWorld) -> None:
        """Beside each stream; whoever comes later is told whose they are, until the identity is replaced on purpose."""
        async with world.open("a", streams=3) as stream, world.open("b", streams=3) as other:
            assert None is await stream.deployment()
            assert "ours" == await stream.keep_deployment("ours")
            assert "ours" == await other.keep_deployment("theirs")
            assert "ours" == await other.deployment()
            assert ["ours"] * 3 == [world.owner(name) for name in world.names]

            await other.replace_deployment("theirs")
            assert ["theirs"] * 3 == [world.owner(name) for name in world.names]
            with pytest.raises(SchemaError, match="theirs now, and this process works for ours"):
                await stream.guard()

    async def test_of_many_identities_all_agree_on_one(self, world: StreamWorld) -> None:
        """Processes that start at the same moment belong to one deployment, whoever was first."""
        kept: list[str] = []

        async def start(number: int) -> None:
            async with world.open(f"c{number}", streams=3) as stream:
                kept.append(await stream.keep_deployment(f"d{number}"))

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(start, number)
        assert 1 == len(set(kept))
        assert {world.owner(name) for name in world.names} == set(kept)

    async def test_streams_of_two_deployments_are_refused(self, world: StreamWorld) -> None:
        """One more stream gets the identity of the others; one that has another belongs to somebody else."""
        first, second, _ = world.names
        world.set_owner(second, "ours")
        async with world.open("a", streams=2) as stream:
            assert "ours" == await stream.deployment()
            assert "ours" == await stream.keep_deployment("new")
            assert "ours" == world.owner(first)

            world.set_owner(first, "theirs")
            with pytest.raises(SchemaError, match="belong to different deployments"):
                await stream.deployment()

    async def test_an_identity_that_is_gone_is_written_back(self, world: StreamWorld) -> None:
        """By the guard, and by a read that creates a lost group again: nobody else can come in between."""
        async with world.open("a") as stream:
            await stream.guard()
            assert world.owner(world.names[0]) is None  # nothing was kept, so there is nothing to keep

            await stream.keep_deployment("ours")
            await stream.prepare()
            world.set_owner(world.names[0], None)
            await stream.guard()
            assert "ours" == world.owner(world.names[0])

            world.set_owner(world.names[0], None)
            world.lose_group(world.names[0])
            assert [] == await stream.read(1)
            assert "ours" == world.owner(world.names[0])

    async def test_a_lost_group_is_not_created_for_another_deployment(self, world: StreamWorld) -> None:
        """A server that belongs to somebody else by now is left alone, however often it is asked."""
        async with world.open("a") as stream:
            await stream.keep_deployment("ours")
            await stream.prepare()
            world.set_owner(world.names[0], "theirs")
            world.lose_group(world.names[0])
            for _ in range(2):
                with pytest.raises(SchemaError, match="theirs now"):
                    await stream.read(1)
