"""`docs/state-machine.md` shows what `transitions.py` and `held_back.py` do, no more and no less."""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.support.waiting import waiting as waiting_channel
from tests.unit.test_record_state import part, record_of
from trio_alerts import held_back, transitions
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text()
RECORDS, CHANNELS = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
CAUSES = {function: cause for cause, function in re.findall(r"^\| (.*?) \|.*\| `(\w+)` \|$", PAGE, re.MULTILINE)}

SURPRISES = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| `\w+`.*$", PAGE.partition("## Fallbacks")[2], re.MULTILINE)
]

Edges = dict[tuple[str, str], set[str]]

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=1)  # everything that waits is due
NAMES = ("a", "b")  # more channels make no more edges: a record's state is that of one of them
SUBSETS = ({"a"}, {"b"}, {"a", "b"})
OUTCOMES: tuple[Outcome | Later | None, ...] = (
    *(Accepted(), Refused("no"), Retry("busy"), Retry("lost", unseen=True), Later("limited", 30.0), None),
)
POLICIES = [
    RetryPolicy(schedule_s, hold=frozenset(hold), max_cuts=max_cuts)
    for schedule_s, hold, max_cuts in product([(), (5.0,) * 99], ["", "a", "b", "ab"], [1, 99])
]
NO_ARROWS = {
    *("renewed", "moved_back"),  # they change times only
    *("standby", "in_queue"),  # they make a channel, of which `first_state` makes a record
}
FIRST = ("first_attempt", "first_state")  # through channels that the process's own routes name: it knows them
MOVING = ("retrying", "waiting", "in_doubt")  # what the redriver may claim


def steps(now: Delivery) -> Iterator[tuple[str, Delivery | None]]:
    """Yield what may come next, and by which transition; the conditions are those of its callers."""
    if now.state == "sending":
        yield "quarantined", transitions.quarantined(now, "max_deliveries")
        for policy in POLICIES:
            yield "lease_expired", transitions.lease_expired(now, NOW, policy)
            for deaths in (1, transitions.SUSPECT_CUTS):
                yield "left_to_redriver", transitions.left_to_redriver(now, deaths, NOW, policy)
            sends = [channel.name for channel in now.sending()]
            for outcomes in product(OUTCOMES, repeat=len(sends)):
                seen = {name: (outcome, 0.1) for name, outcome in zip(sends, outcomes, strict=True) if outcome}
                yield "settled", transitions.settled(now, seen, NOW, policy)
    if now.state in ("sending", "quarantined"):
        for policy in POLICIES:
            yield from begun("taken_over", transitions.taken_over(now, "me/2", NOW, 60.0, policy))
    if now.state in MOVING:
        yield from held_back_steps(now)
        due = {channel.name for channel in now.channels if channel.is_due(LATER)}
        for through in (subset for subset in SUBSETS if due & subset):
            yield from begun("next_attempt", transitions.next_attempt(now, "me/2", LATER, 60.0, through))
    if now.state not in ("sending", "delivered", "quarantined"):
        for name in (channel.name for channel in now.channels):
            yield "sent_through", held_back.sent_through(now, [name], "eve/1", NOW)
    if now.state != "quarantined":
        for in_doubt in (True, False) if now.state != "waiting" else ():
            yield "redelivery_requested", transitions.redelivery_requested(now, "eve/1", NOW, in_doubt=in_doubt)
    yield "silence_lifted", held_back.silence_lifted(now, "eve/1", NOW)
    yield "resolved", transitions.resolved(now, "eve/1", NOW, "delivered", "eve")
    yield "resolved", transitions.resolved(now, "eve/1", NOW, "failed", "eve")
    for accepted in SUBSETS:
        ours = [replace(one, state="delivered") for one in now.channels if one.attempts and one.name in accepted]
        yield "with_acceptances", transitions.with_acceptances(now, replace(now, channels=tuple(ours)), NOW)


def begun(name: str, attempt: Delivery) -> Iterator[tuple[str, Delivery]]:
    """Yield an attempt, and what becomes of it if a silence matches, or if channels take nothing or are not known."""
    yield name, attempt
    if attempt.state == "sending":
        sends = {channel.name for channel in attempt.sending()}
        for closed in (subset for subset in SUBSETS if sends & subset):
            yield "turned_away", held_back.turned_away(attempt, closed, NOW, 3600.0)
            if name not in FIRST:
                yield "unconfigured", held_back.unconfigured(attempt, closed, NOW)
        yield "silenced", held_back.silenced(attempt, "1a2b", "quiet", NOW)


def held_back_steps(now: Delivery) -> Iterator[tuple[str, Delivery]]:
    """Yield the steps of queues and fallbacks, and what is found to be in doubt."""
    for policy in POLICIES:
        yield "doubted", held_back.doubted(now, "me/2", NOW, policy)
    if any(channel.state == "standby" for channel in now.channels):
        yield "looked_at", held_back.looked_at(now, "me/2", LATER)
    waits = {channel.name for channel in now.channels if channel.state == "waiting"}
    for through in (subset for subset in SUBSETS if waits & subset):
        yield from begun("drained", held_back.drained(now, "me/2", NOW, 60.0, through))
        yield "wait_expired", held_back.wait_expired(now, "me/2", NOW + dt.timedelta(days=9))
    lost = {channel.name for channel in now.channels if channel.state == "waiting" and channel.unconfigured_since}
    for known in (subset for subset in SUBSETS if lost & subset):
        for policy in POLICIES:
            yield "configured", held_back.configured(now, known, "me/2", NOW, policy)


def first_states() -> Iterator[tuple[str, Delivery]]:
    """Yield every state in which a record begins, and what makes it."""
    soon = NOW + dt.timedelta(hours=1)
    yield from begun("first_attempt", transitions.first_attempt(NAMES, "me/1", NOW, 60.0))
    yield "suppressed", transitions.suppressed("nobody")
    waiting = [waiting_channel(name, NOW, soon) for name in NAMES]
    sending = [ChannelDelivery(name, "sending") for name in NAMES]
    fallback = held_back.standby("b", ["a"], soon)
    for channels in (
        *((waiting[0], waiting[1]), (waiting[0], sending[1]), (sending[0], waiting[1])),
        *((waiting[0], fallback), (sending[0], fallback)),
    ):
        yield from begun("first_state", held_back.first_state(channels, "me/1", NOW, 60.0))


def possible() -> tuple[Edges, Edges]:
    """Return the edges of records and of channels, by walking from every first state to whatever can be reached."""
    records: Edges = defaultdict(set)
    channels: Edges = defaultdict(set)
    reached = list(first_states())
    for name, first in reached:
        records["[*]", first.state].add(CAUSES[name])
        for channel in first.channels:
            channels["[*]", channel.state].add(CAUSES[name])
    met = set()
    left = [first for _, first in reached]
    while left:
        before = left.pop()
        facts = [
            (
                one.state,
                one.fallback_of,
                bool(one.in_doubt),
                bool(one.log) and one.log[-1].unseen,
                bool(one.attempts),
                one.is_due(LATER),
                one.state == "suppressed" and bool(one.next_attempt_at),
                one.state == "waiting" and bool(one.unconfigured_since),
            )
            for one in before.channels
        ]
        states = (before.state, *facts)
        if states in met:
            continue
        met.add(states)
        for name, after in steps(before):
            if after is None:
                continue
            left.append(after)
            records[before.state, after.state].add(CAUSES[name])
            for old, new in zip(before.channels, after.channels, strict=True):
                channels[old.state, new.state].add(CAUSES[name])
    added = held_back.sent_through(transitions.suppressed("nobody"), ["c"], "eve/1", NOW)
    assert added is not None
    channels["[*]", added.channels[-1].state].add(CAUSES["sent_through"])
    return _arrows(records), _arrows(channels)


def _arrows(edges: Edges) -> Edges:
    """Leave out what stays as it is, and add the end of what nothing leaves."""
    arrows = {edge: causes for edge, causes in edges.items() if edge[0] != edge[1]}
    ends = {after for _, after in arrows} - {before for before, _ in arrows}
    return arrows | {(state, "[*]"): set() for state in ends}


def drawn(diagram: str) -> Edges:
    lines = re.findall(r"^    (\S+) --> (\S+)(?: : (.*))?$", diagram, re.MULTILINE)
    return {(before, after): set(filter(None, causes.split(", "))) for before, after, causes in lines}


def test_the_diagrams_show_what_can_happen() -> None:
    """No arrow is missing, none is made up, and each names all its causes."""
    assert possible() == (drawn(RECORDS), drawn(CHANNELS))


def test_every_transition_is_on_the_page() -> None:
    """A new one has to be walked through here, and to be told to whoever reads the page."""
    public = {
        name
        for module in (transitions, held_back)
        for name, one in vars(module).items()
        if getattr(one, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    assert public - NO_ARROWS == CAUSES.keys()


@pytest.mark.parametrize("row", SURPRISES, ids=lambda row: " ".join(row[:3]))
def test_what_may_surprise_is_as_the_page_says(row: list[str]) -> None:
    """Each row of the table is what happens."""
    first, second, fallback, then, record, _ = row
    (a,), b, (c,) = (re.findall(r"`(\w+)`", cell) for cell in (first, second, fallback))
    primaries = ("a", "b") if b else ("a",)
    before = [part("a", a), *[part("b", state) for state in b]]
    before.append(part("c", c, primaries, seen="maybe seen" in fallback))
    other = [part("d", "delivered", primaries)] if "another fallback accepted" in first else []
    after = record_of(*before, *other)

    became = dict(re.findall(r"(primary|fallback) `(\w+)`", then))
    states = {"primary": a, "fallback": c} | became
    assert [states["primary"], *b, states["fallback"]] == [one.state for one in after.channels if one not in other]
    assert record.strip("`") == after.state


def test_the_page_has_surprises() -> None:
    """The table is found."""
    assert len(SURPRISES) >= 12
