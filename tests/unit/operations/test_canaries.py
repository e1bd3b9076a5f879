"""The canary's keeper, step by step, with a real pipeline on fake backends."""

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.canaries import FakeCanaries
from tests.support.fakes.world import STREAM, World
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.errors import Unavailable
from trio_alerts.operations.canaries import CanaryAge, remove_orphans, tend, whereabouts
from trio_alerts.ports.canaries import Sighting
from trio_alerts.record import Record
from trio_alerts.record_ids import RecordIds

EVERY_S = 60.0


class Kept:
    """A world with canaries, whose keeper is asked step by step."""

    def __init__(self, **settings: object) -> None:
        self.world = World(**settings)  # type: ignore[arg-type]
        self.canaries = FakeCanaries(self.world.server, self.world.settings())
        self.ids = RecordIds([STREAM])

    async def tend(self, every_s: float | None = EVERY_S) -> tuple[Sighting, str]:
        return await tend(STREAM, self.canaries, self.world.store, self.ids, every_s)

    @property
    def left(self) -> tuple[int, int, int]:
        """How many entries, notes and records there are."""
        server = self.world.server
        return len(server.streams[STREAM].entries), len(server.canaries.get(STREAM, {})), len(self.world.store.records)


async def test_a_canary_goes_the_whole_way_and_leaves_nothing(autojump_clock: MockClock) -> None:
    """No channel gets it, nothing counts it, and the time when it was written is that of the last one through."""
    kept = Kept()
    pipeline = kept.world.pipeline()
    async with kept.world.serving(pipeline):
        written, _ = await kept.tend()
        await trio.sleep(1)
        recorded = [*kept.world.store.records.values()]
        through, says = await kept.tend()

    assert ("unread", 0.0) == (written.place, written.written_s)
    assert ["~canary|0-1"] == [stored.record.id for stored in recorded]
    assert ("none", "", 0.0, "") == (through.place, through.entry_id, through.through_s, says)
    assert (0, 0, 0) == kept.left
    assert [] == kept.world.channel.sent_at_s
    layout = pipeline.meter.layout
    assert not any(pipeline.meter.cells[layout.counters : layout.batches])


async def test_one_a_period(autojump_clock: MockClock) -> None:
    """The next one is written when the last one came through and its time has come."""
    kept = Kept()
    written = set()
    async with kept.world.serving(kept.world.pipeline()):
        for _ in range(32):
            seen, _ = await kept.tend()
            written.add(seen.written_s)
            await trio.sleep(6)

    assert {0.0, 60.0, 120.0, 180.0} == written


@pytest.mark.parametrize("cut", ["settle", "remove", "drop"])
async def test_whoever_dies_in_between_leaves_it_to_the_next(cut: str, autojump_clock: MockClock) -> None:
    """After each step of clearing away, the next look does the rest."""
    kept = Kept()
    async with kept.world.serving(kept.world.pipeline()):
        await kept.tend()
        await trio.sleep(1)
        failing = kept.world.store if cut == "remove" else kept.world.server
        failing.fail_next(cut, "answer_lost")
        with pytest.raises(Unavailable):
            await kept.tend()
        left = kept.left
        seen, _ = await kept.tend()

    assert (0, 0, 0) != left or cut == "drop"
    assert (0, 0, 0) == kept.left
    assert 0.0 == seen.through_s


async def test_what_a_keeper_left_is_cleared_away_without_canaries(autojump_clock: MockClock) -> None:
    """They were switched off while one was under way: it comes to its end, and no other is written."""
    kept = Kept()
    async with kept.world.serving(kept.world.pipeline()):
        await kept.tend()
        await trio.sleep(100)
        await kept.tend(None)
        await kept.tend(None)

    assert (0, 0, 0) == kept.left


async def test_one_that_is_under_way_is_left_alone(autojump_clock: MockClock) -> None:
    """Unread, in somebody's hands, or with a record that goes on by itself: it says where."""
    kept = Kept()
    pipeline = kept.world.pipeline()
    await pipeline.stream.prepare()
    where = []
    await kept.tend()
    for number in range(3):
        if number == 1:
            (entry,) = await pipeline.stream.read(1)
            await trio.sleep(200)
        if number == 2:
            body = b'{"record_id":"%b"}' % entry.record_id.encode()
            sink = (ChannelDelivery("~canary", "retrying"),)
            kept.world.store.put(Record(entry.record_id, body, Delivery(state="retrying", channels=sink)))
            await pipeline.stream.ack([entry])
        where.append(whereabouts(*await kept.tend()))

    assert [
        "the last one waits to be read",
        "the last one is held by consumer me, last seen 3 min ago",
        "the record of the last one is retrying",
    ] == where


@pytest.mark.parametrize(
    ("how", "lost"),
    [
        ("trimmed", "its entry was trimmed or deleted before it was read"),
        ("vanished", "its entry was acknowledged, and there is no record of it"),
        ("failed", "its record is failed"),
        ("quarantined", "its record is quarantined"),
        ("newer", "a newer version wrote record '~canary|0-1'"),
    ],
)
async def test_one_that_is_lost_is_written_again(how: str, lost: str, autojump_clock: MockClock) -> None:
    """It moves no age, says what became of it, leaves nothing, and the next one comes in its turn."""
    kept = Kept()
    store, pipeline = kept.world.store, kept.world.pipeline()
    await pipeline.stream.prepare()
    first, _ = await kept.tend()
    if how == "trimmed":
        kept.world.server.trim(STREAM, 0)
    else:
        (entry,) = await pipeline.stream.read(1)
        if how != "vanished":
            state = "failed" if how == "newer" else how
            delivery = Delivery(state=state, channels=(ChannelDelivery("~canary", "failed"),))  # type: ignore[arg-type]
            store.put(Record(entry.record_id, b'{"record_id":"x"}', delivery))
        if how == "newer":
            store.unknown_in = lambda _: "a field"
        await pipeline.stream.ack([entry])
    seen, _ = await kept.tend()
    store.unknown_in = lambda _: ""
    await trio.sleep(EVERY_S)
    again, _ = await kept.tend()

    assert lost in seen.lost
    assert f"the last one was lost: {seen.lost}" == whereabouts(seen, "")
    assert (None, "") == (seen.through_s, seen.entry_id)
    assert again.entry_id not in ("", first.entry_id)
    assert 1 == kept.left[1]


async def test_a_record_that_is_noted_no_more_is_removed(autojump_clock: MockClock) -> None:
    """A worker that was stopped for a minute wrote it again. One that is being sent, or noted, or an alert's, stays."""
    kept = Kept()
    await kept.world.pipeline().stream.prepare()
    sighting, _ = await kept.tend()
    sink = ChannelDelivery("~canary", "delivered")
    for record_id, state in (
        ("~canary|1-1", "delivered"),
        ("~canary|2-1", "sending"),
        (f"~canary|{sighting.entry_id}", "delivered"),
        ("3-1", "delivered"),
    ):
        delivery = Delivery(state=state, channels=(sink,))  # type: ignore[arg-type]
        kept.world.store.put(Record(record_id, b'{"record_id":"x"}', delivery))

    await remove_orphans(kept.canaries, kept.world.store, kept.ids)

    assert {"~canary|2-1", f"~canary|{sighting.entry_id}", "3-1"} == set(kept.world.store.records)


def seen(now_s: float, written_s: float | None = None, through_s: float | None = None) -> Sighting:
    return Sighting(now_s=now_s, written_s=written_s, through_s=through_s)


def test_the_age_is_that_of_the_last_one_that_came_through() -> None:
    """From when it was written, also if one that was written since hangs; before any, from the start of the watch."""
    age = CanaryAge(100.0)
    assert 50.0 == age.at(150.0)
    age.note(seen(1000.0, 990.0), 150.0)
    assert 50.0 == age.at(150.0)
    age.note(seen(1010.0, 990.0, 990.0), 160.0)
    assert 20.0 == age.at(160.0)
    age.note(seen(1060.0, 1050.0, 990.0), 210.0)
    assert 70.0 == age.at(210.0)


def test_what_came_through_before_we_looked_is_as_old_as_the_server_says() -> None:
    """A process that starts shows what the others show."""
    age = CanaryAge(100.0)
    age.note(seen(1000.0, 970.0, 970.0), 101.0)
    assert 30.0 == age.at(101.0)


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_jump_of_the_servers_clock_makes_nothing_older_than_it_is(jump_s: float) -> None:
    """It was not there at the look before: so it cannot be older than that look, nor younger than nothing."""
    age = CanaryAge(0.0)
    age.note(seen(1000.0), 0.0)
    age.note(seen(1010.0 + jump_s, 1005.0, 1005.0), 10.0)
    assert 0.0 <= age.at(10.0) <= 10.0
    age.note(seen(1070.0 + jump_s, 1065.0 + jump_s, 1065.0 + jump_s), 70.0)
    assert 5.0 == age.at(70.0)
