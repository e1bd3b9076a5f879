"""A store whose answers contradict each other: every loop that waits for it to agree has its pauses and one line."""

import datetime as dt
import hashlib
from functools import partial

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.support.fakes.world import EVENT, World, bring_through
from trio_alerts.clock import ServerClock
from trio_alerts.errors import Unavailable
from trio_alerts.operations.records import MOST_ROUNDS, Operator
from trio_alerts.pipeline.guard import GUARD_EVERY_S, guard_store
from trio_alerts.ports.store import Conflict
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
BOUND_S = 60.0


def contradicting(world: World, *methods: str) -> list[str]:
    """Let these methods of the store say a conflict, or that there is no such record; return what is asked of them."""
    asked: list[str] = []

    async def lie(method: str, *_: object) -> Conflict | None:
        await trio.sleep(world.store.latency_s)
        asked.append(method)
        return None if method == "get" else Conflict()

    for method in methods:
        setattr(world.store, method, partial(lie, method))
    return asked


def see_paced(asked: list[str], lines: list[str]) -> None:
    """See that the loop went on, with pauses, and said so once."""
    assert 10 < len(asked) < 60  # in a minute: a few at once, then a round in 2.5 to 5 s
    assert 1 == sum("its answers contradict each other" in line for line in lines), lines


async def test_a_record_that_exists_and_does_not_is_waited_for(autojump_clock: MockClock, lines: list[str]) -> None:
    """`create` says conflict and `get` says that there is none, for ever: pauses, one line, and a stop ends it."""
    world = World(workers=1)
    asked = contradicting(world, "create", "get")
    world.emit()
    with trio.fail_after(2 * BOUND_S):
        async with world.serving(world.pipeline()):
            await trio.sleep(BOUND_S)

    see_paced(asked, lines)
    assert [] == world.dead
    assert not world.channel.sends


@pytest.mark.parametrize("deliveries", [1, 99])
async def test_a_takeover_that_is_refused_for_ever_is_waited_for(
    autojump_clock: MockClock, lines: list[str], deliveries: int
) -> None:
    """`replace` says conflict, and `get` shows the very version that was expected: of poison, before its quarantine."""
    world = World(workers=1)
    world.emit()
    pipeline = world.pipeline()
    entry = await world.take(pipeline)
    await pipeline.store.create(_abandoned(entry.record_id, entry.fields[b"event"]))
    asked = contradicting(world, "replace")
    with trio.move_on_after(BOUND_S):
        await bring_through(replace(entry, deliveries=deliveries), pipeline)
    see_paced(asked, lines)
    assert [] == world.dead


async def test_an_outcome_that_is_refused_for_ever_is_kept(autojump_clock: MockClock, lines: list[str]) -> None:
    """What a receiver said is not given up; once the store agrees with itself it is stored."""
    world = World(workers=1)
    entry_id = world.emit()
    real = world.store.replace
    asked = contradicting(world, "replace")
    async with world.serving(world.pipeline()):
        await trio.sleep(BOUND_S)
        see_paced(asked, lines)
        world.store.replace = real  # type: ignore[method-assign]
        await trio.sleep(10)
    assert "delivered" == world.delivery(entry_id).state
    assert 1 == len(world.channel.sends)


async def test_a_lease_that_is_always_too_old_is_waited_for(autojump_clock: MockClock, lines: list[str]) -> None:
    """A store that needs longer for a claim than the lease allows: no storm of claims, and no send with an old one."""
    world = World(workers=1, lease_s=20.2, connect_timeout_s=5.0, send_timeout_s=15.0)
    world.store.latency_s = 0.3
    world.emit()
    async with world.serving(world.pipeline()):
        await trio.sleep(BOUND_S)
    see_paced([call.method for call in world.store.called("create", "replace")], lines)
    assert not world.channel.sends


async def test_a_command_gives_up() -> None:
    """An operator's change is tried a few times, then the command says what it met: exit code 4."""
    world = World()
    pipeline = world.pipeline()
    await pipeline.store.create(_abandoned("1-0", b""))
    asked = contradicting(world, "replace")
    clock = ServerClock()
    clock.set(NOW.timestamp())
    operator = Operator("ann@desk", pipeline.stream, pipeline.store, pipeline.hints, clock)

    with pytest.raises(Unavailable, match=f"none of {MOST_ROUNDS} writes of record '1-0'"):
        await operator.change("1-0", lambda delivery, owner: replace(delivery, owner=owner))
    assert MOST_ROUNDS == len(asked)


async def test_a_guard_that_cannot_look_says_so(autojump_clock: MockClock, lines: list[str]) -> None:
    """Writes may go well while nobody can see whether the store can be trusted: one line, and one at the end."""
    world = World()
    world.store.fail_next("guard", "down", times=3)
    with trio.move_on_after(6.5 * GUARD_EVERY_S):
        await guard_store(world.pipeline())

    assert [
        "WARNING the guard cannot check the store: the store is down",
        "INFO the guard can check the store again, and it is as it must be",
    ] == lines


def _abandoned(record_id: str, payload: bytes) -> Record:
    """Return the record of an attempt whose lease lapsed long ago."""
    digest = hashlib.sha256(payload).hexdigest()
    body = b'{"alert_id":"%b","content_sha256":"%b"}' % (EVENT["alert_id"].encode(), digest.encode())
    return Record(record_id, body, first_attempt(["webhook"], "gone", dt.datetime(1960, 1, 1, tzinfo=dt.UTC), 60))
