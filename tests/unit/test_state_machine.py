"""`docs/state-machine.md` shows what `transitions.py` does, no more and no less."""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from trio_alerts import transitions
from trio_alerts.backoff import RetryPolicy
from trio_alerts.delivery import Delivery
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry

PAGE = (Path(__file__).parents[2] / "docs" / "state-machine.md").read_text()
RECORDS, CHANNELS = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
CAUSES = {function: cause for cause, function in re.findall(r"^\| (.*?) \|.*\| `(\w+)` \|$", PAGE, re.MULTILINE)}

Edges = dict[tuple[str, str], set[str]]

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=1)  # everything that waits is due
NAMES = ("a", "b")  # more channels make no more edges: a record's state is that of one of them
SUBSETS = ({"a"}, {"b"}, {"a", "b"})
OUTCOMES: tuple[Outcome | None, ...] = (Accepted(), Refused("no"), Retry("busy"), Retry("lost", unseen=True), None)
POLICIES = [
    RetryPolicy(schedule_s, hold=frozenset(hold), max_cuts=max_cuts)
    for schedule_s, hold, max_cuts in product([(), (5.0,) * 99], ["", "a", "b", "ab"], [1, 99])
]
NO_ARROWS = {"renewed", "moved_back"}  # they change times only


def steps(now: Delivery) -> Iterator[tuple[str, Delivery | None]]:
    """Yield what may come next, and by which transition; the conditions are those of its callers."""
    if now.state == "sending":
        yield "quarantined", transitions.quarantined(now, "max_deliveries")
        for policy in POLICIES:
            yield "lease_expired", transitions.lease_expired(now, NOW, policy)
            for deaths in (1, transitions.SUSPECT_CUTS):
                yield "left_to_redriver", transitions.left_to_redriver(now, deaths, NOW, policy)
            for pair in product(OUTCOMES, repeat=2):
                seen = {name: (outcome, 0.1) for name, outcome in zip(NAMES, pair, strict=True) if outcome}
                yield "settled", transitions.settled(now, seen, NOW, policy)
    if now.state in ("sending", "quarantined"):
        for policy in POLICIES:
            yield "taken_over", transitions.taken_over(now, "me/2", NOW, 60.0, policy)
    if now.state == "retrying":
        due = {channel.name for channel in now.channels if channel.is_due(LATER)}
        for through in (subset for subset in SUBSETS if due & subset):
            yield "next_attempt", transitions.next_attempt(now, "me/2", LATER, 60.0, through)
    if now.state != "quarantined":
        for in_doubt in (True, False):
            yield "redelivery_requested", transitions.redelivery_requested(now, "eve/1", NOW, in_doubt=in_doubt)
    yield "resolved", transitions.resolved(now, "eve/1", NOW, "delivered", "eve")
    yield "resolved", transitions.resolved(now, "eve/1", NOW, "failed", "eve")
    for accepted in SUBSETS:
        sent = transitions.first_attempt(NAMES, "me/1", NOW, 60.0)
        ours = transitions.settled(sent, dict.fromkeys(accepted, (Accepted(), 0.1)), NOW, POLICIES[0])
        yield "with_acceptances", transitions.with_acceptances(now, ours, NOW)


def possible() -> tuple[Edges, Edges]:
    """Return the edges of records and of channels, by walking from every first state to whatever can be reached."""
    records: Edges = defaultdict(set)
    channels: Edges = defaultdict(set)
    reached = {
        "first_attempt": transitions.first_attempt(NAMES, "me/1", NOW, 60.0),
        "suppressed": transitions.suppressed("nobody"),
    }
    for name, first in reached.items():
        records["[*]", first.state].add(CAUSES[name])
        for channel in first.channels:
            channels["[*]", channel.state].add(CAUSES[name])
    met = set()
    left = list(reached.values())
    while left:
        before = left.pop()
        states = (before.state, *(channel.state for channel in before.channels))
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
        for name, one in vars(transitions).items()
        if getattr(one, "__module__", "") == transitions.__name__ and not name.startswith("_")
    }
    assert public - NO_ARROWS == CAUSES.keys()
