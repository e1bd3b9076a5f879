"""Records that somebody changed into what the program never writes: they are named, and everything else goes on."""

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from tests.support.fakes.opensearch import Kept
from tests.support.fakes.world import World
from tests.unit.backends.opensearch.test_front import Fronted, served
from trio_alerts.outcome import Accepted, Outcome, Retry
from trio_alerts.ports.channel import Message

NAIVE = "1970-01-01T00:00:01"
Spoil = Callable[[dict[str, Any]], object]

SPOILS: dict[str, Spoil] = {
    "a time without a zone": lambda source: source["delivery"].update(next_attempt_at=NAIVE),
    "a first attempt without a zone": lambda source: source["delivery"].update(first_at=NAIVE),
    "no channels": lambda source: source["delivery"].update(channels=[]),
    "a state that is none": lambda source: source["delivery"]["channels"][0].update(state=5),
    "a count that is none": lambda source: source["delivery"].update(attempts="many"),
    "a title that is none": lambda source: source.update(title=5),
    "no alert at all": lambda source: [source.pop(name) for name in list(source) if name != "record_id"],
}


def due_again(source: dict[str, Any]) -> None:
    """Keep a changed record among those that are due, if it still has what searches look at."""
    if "delivery" in source:
        source["delivery"]["state"] = "retrying"
        source["delivery"]["next_attempt_at"] = NAIVE + ("" if source["delivery"]["next_attempt_at"] == NAIVE else "Z")


@pytest.mark.parametrize("spoil", SPOILS)
async def test_an_unreadable_retry_holds_up_no_other(spoil: str, autojump_clock: MockClock, lines: list[str]) -> None:
    """The redriver names it once, however often it meets it; the others are sent, and the process goes on."""
    world, server = World([Retry("busy", 503)] * 3, retry_schedule_s=(5.0,)), Fronted()
    ids = [world.emit(alert_id=f"a-{number}") for number in range(3)]
    async with served(world, server):
        await trio.sleep(1)
        SPOILS[spoil](server.documents[ids[1]].source)
        due_again(server.documents[ids[1]].source)
        await trio.sleep(60)

    assert {ids[0]: 1, ids[2]: 1} == world.channel.accepted
    named = [line for line in lines if ids[1] in line and "is due and cannot be read" in line]
    assert 1 == len(named), lines


@pytest.mark.parametrize("spoil", SPOILS)
async def test_an_entry_whose_record_is_unreadable_is_quarantined(spoil: str, autojump_clock: MockClock) -> None:
    """Nobody knows what became of it: it is kept with the reason `unreadable_record`, and the others go on."""
    world, server = World(), Fronted()
    first = world.emit(alert_id="a")
    async with served(world, server):
        await trio.sleep(1)
    source = server.documents[first].source
    source["delivery"]["next_attempt_at"] = None
    SPOILS[spoil](source)
    second, third = (world.emit(alert_id=name) for name in ("b", "c"))
    server.documents[second] = Kept({**source, "record_id": second}, 99)
    async with served(world, server):
        await trio.sleep(10)

    assert {first: 1, third: 1} == world.channel.accepted
    (dead,) = world.dead
    assert b"unreadable_record" in dead.values()
    assert {} == world.pending


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_record_that_is_spoiled_while_it_is_sent_ends_nothing(
    attempt: int, autojump_clock: MockClock, lines: list[str]
) -> None:
    """The outcome cannot be stored, of a first attempt or of a retry: it is said, and the others go on."""
    world, server = World(retry_schedule_s=(5.0,)), Fronted()
    spoiled = world.emit(alert_id="a")

    def decide(message: Message) -> Outcome:
        sent = sum(send.id == message.id for send in world.channel.sends)
        if message.id == spoiled and sent == attempt:
            kept = server.documents[spoiled]
            kept.source["delivery"]["channels"] = []
            kept.seq_no += 100
        return Accepted(200) if sent == 2 else Retry("busy", 503)

    world.channel.decide = decide
    async with served(world, server):
        await trio.sleep(1)
        other = world.emit(alert_id="b")
        await trio.sleep(60)

    assert 1 == world.channel.accepted[other]
    assert any("cannot be read" in line or "unreadable_record" in line for line in lines), lines
    assert {} == world.pending
