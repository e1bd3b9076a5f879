"""The simulation in short; `make simulate` runs thousands of histories, and `make mutants` shows its teeth."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import trio_alerts
from tests.simulation.mutations import MUTATIONS, Mutation
from tests.simulation.plan import CHANNELS, FAULTS, KEPT_S, KINDS, METHODS, MOODS, POISON, Event, Plan, plan_of
from tests.simulation.seeds import shrunk
from tests.simulation.simulation import simulate

SLOTS = st.integers(0, 2)
MOMENTS = st.floats(0.0, 12.0).map(lambda seconds: round(seconds, 1))
LASTING = st.floats(0.0, 12.0).map(lambda seconds: round(seconds, 1))


def events() -> st.SearchStrategy[Event]:
    """Return one event of any kind; those that say less stand first, so that a failure shrinks to them."""
    data = st.sampled_from(("redeliver", "replay", "delete_record", "delete_entry", "lose_group", "set_id", "flush"))
    numbers = st.integers(1, 4)
    return st.one_of(
        st.builds(Event, MOMENTS, st.just("emit"), target=st.sampled_from(KINDS), number=numbers),
        st.builds(Event, MOMENTS, st.sampled_from(("kill", "pause", "stop", "hard_stop")), SLOTS, LASTING),
        st.builds(
            Event,
            MOMENTS,
            st.sampled_from(("kill_on", "stop_on")),
            SLOTS,
            LASTING,
            st.sampled_from(METHODS),
            st.sampled_from(("before", "after")),
            number=numbers,
        ),
        st.builds(
            Event,
            MOMENTS,
            st.just("mood"),
            lasts_s=LASTING,
            target=st.sampled_from(CHANNELS),
            how=st.sampled_from(MOODS),
            rate=st.sampled_from((1.0, 0.3)),
        ),
        st.builds(
            Event,
            MOMENTS,
            st.just("weather"),
            st.integers(-1, 2),
            LASTING,
            st.sampled_from(("stream", "store")),
            st.sampled_from(FAULTS),
            st.sampled_from((1.0, 0.5, 0.2)),
        ),
        st.builds(Event, MOMENTS, st.just("freeze"), lasts_s=LASTING),
        st.builds(Event, MOMENTS, st.just("neighbour"), how=st.sampled_from(("server", "group"))),
        st.builds(Event, MOMENTS, st.just("disconnect"), target=st.sampled_from(("stream", "store"))),
        st.builds(Event, MOMENTS, st.just("jump"), lasts_s=st.sampled_from((-30.0, -1.0, 1.0, 30.0))),
        st.builds(Event, MOMENTS, data, number=st.integers(0, 5)),
        st.builds(Event, MOMENTS, st.sampled_from(("lose_hints", "lose_gates", "lift", "trim", "restore"))),
        st.builds(Event, MOMENTS, st.just("silence"), lasts_s=LASTING),
        st.builds(Event, MOMENTS, st.just("reload"), SLOTS, how=st.sampled_from(("new", "old"))),
    )


def plans() -> st.SearchStrategy[Plan]:
    """Return a history of a few events, after some good alerts at its start."""
    first = Event(0.0, "emit", target="good", number=3)
    happening = st.lists(events(), max_size=6).filter(
        lambda chosen: sum(event.number for event in chosen if event.target in POISON) <= 1
    )
    return st.builds(
        Plan,
        chance=st.integers(0, 1000),
        slots=st.integers(1, 3),
        workers=st.sampled_from((2, 1, 4)),
        batch=st.sampled_from((100, 1)),
        fixed_names=st.booleans(),
        long_sends=st.booleans(),
        channels=st.sampled_from((2, 1)),
        hold=st.sampled_from(((), ("webhook",), CHANNELS)),
        bulk=st.booleans(),
        lagging=st.booleans(),
        latency_s=st.sampled_from((0.02, 0.0, 0.2, 1.0)),
        refuses_every_s=st.sampled_from((0.0, 2.0)),
        upgraded_from_s=st.sampled_from((0.0, 2.0)),
        fallback_after_s=st.sampled_from((0.0, 1.0, 15.0)),
        change=st.sampled_from(("", "", "added", "removed", "renamed")),
        changed_at_s=st.sampled_from((1.0, 4.0)),
        rate_per_s=st.sampled_from((0.0, 2.0)),
        keep_records_s=st.sampled_from((0.0, KEPT_S)),
        canaries=st.booleans(),
        events=happening.map(lambda chosen: (first, *sorted(chosen, key=lambda event: event.at_s))),
    )


@pytest.mark.parametrize("seed", [*range(40), 272, 330, 444, 446, 644, 1843, 2574, 3236])
def test_every_promise_is_kept_in_the_history_of_a_seed(seed: int) -> None:
    """Crashes, pauses, outages, hostile receivers, operators: P1, P2, P3 and P7 hold at every step and at the end."""
    report = simulate(plan_of(seed))
    assert not report.broken, f"{report.broken}; python -m tests.simulation --seed {seed}"


@given(plans())
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_every_promise_is_kept_in_any_history(plan: Plan) -> None:
    """The same for histories that Hypothesis makes up, and makes small when one is broken."""
    report = simulate(plan)
    if report.broken:
        note("\n".join(report.history.lines()))
    assert not report.broken


@pytest.mark.support
@pytest.mark.parametrize("seed", [3, 8])
def test_one_seed_is_one_history(seed: int) -> None:
    """The same seed gives the same steps at the same virtual times, with and without log lines."""
    first, second = simulate(plan_of(seed)), simulate(plan_of(seed), log=True)
    assert first.steps > 100
    assert (first.digest, first.ended_at_s) == (second.digest, second.ended_at_s)
    assert simulate(plan_of(seed + 1)).digest != first.digest


@pytest.mark.support
def test_one_seed_is_one_history_in_every_process() -> None:
    """Nothing depends on the addresses of objects or on the order of sets: another hash seed changes nothing."""
    code = "from tests.simulation.test_simulation import *; print(simulate(plan_of(8)).digest)"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert simulate(plan_of(8)).digest == other.stdout.strip()


@pytest.mark.support
def test_a_broken_promise_is_found_and_its_history_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the keep-alive off, a slow receiver's entry is taken from its living owner; few events are enough for it."""

    async def off(*_: object) -> None: ...

    monkeypatch.setattr("trio_alerts.pipeline.keepalive.renew", off)
    long = Plan(
        0,
        workers=1,
        long_sends=True,
        events=(
            Event(0.0, "mood", lasts_s=16.0, target="webhook", how="slow"),
            Event(0.1, "emit", target="good"),
            Event(0.2, "emit", target="suppressed"),
            Event(3.0, "emit", target="good", number=4),
            Event(8.0, "redeliver"),
        ),
    )
    broken = next(one for chance in range(20) if simulate(one := msgspec.structs.replace(long, chance=chance)).broken)
    small = shrunk(broken)
    assert "who is alive and holds it" in simulate(small).broken
    assert {"mood", "emit"} >= {event.what for event in small.events}
    assert len(small.events) < len(long.events)


@pytest.mark.support
def test_every_mutation_says_what_it_is_once() -> None:
    """The table of `make mutants` names each mistake once; whether each is noticed is for that command to show."""
    names = [mutation.name for mutation in MUTATIONS]
    assert len(set(names)) == len(names) >= 12


@pytest.mark.support
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_can_still_be_made(mutation: Mutation) -> None:
    """What a mutation replaces stands in the program once: a line that moved must not make it prove nothing."""
    text = Path(trio_alerts.__file__).parent.joinpath(mutation.file).read_text()
    assert 1 == text.count(mutation.old)


@pytest.mark.support
@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one.test], ids=lambda mutation: mutation.name)
def test_every_mutation_names_a_test_that_is_there(mutation: Mutation) -> None:
    """A test that was moved or renamed must not make its mutation one that nothing can notice."""
    file, *names = mutation.test.partition("[")[0].split("::")
    found: Any = import_module(file.removesuffix(".py").replace("/", "."))
    for name in names:  # one, or a class and what it has of a contract
        assert hasattr(found, name)
        found = getattr(found, name)
