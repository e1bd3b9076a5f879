"""Many histories, on all processors."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from tests.simulation.plan import Plan, plan_of
from tests.simulation.simulation import simulate

CHUNK = 10


class Verdict(Struct, frozen=True):
    """What came of one seed, without its history."""

    seed: int
    broken: str
    steps: int
    virtual_s: float


def judge(seed: int) -> Verdict:
    """Carry out the history of a seed."""
    report = simulate(plan_of(seed))
    return Verdict(seed, report.broken, report.steps, report.ended_at_s)


def judge_all(seeds: Sequence[int], jobs: int = 0) -> Iterator[Verdict]:
    """Carry out the histories of many seeds, and yield the verdicts in their order.

    Args:
        seeds: Which.
        jobs: How many processes; 0: as many as there are processors.
    """
    jobs = jobs or os.cpu_count() or 1
    if jobs == 1:
        yield from map(judge, seeds)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(judge, seeds, CHUNK)


def shrunk(plan: Plan) -> Plan:
    """Leave out of a broken history whatever it is broken without: its events, and what is special about it.

    Not every smaller history is tried; what is left is small enough to be read.
    """
    going_on = True
    while going_on:
        going_on = False
        for smaller in _smaller(plan):
            if simulate(smaller).broken:
                plan, going_on = smaller, True
                break
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    for number in reversed(range(len(plan.events))):
        yield replace(plan, events=plan.events[:number] + plan.events[number + 1 :])
    for number, event in enumerate(plan.events):
        if event.what == "emit" and event.number > 1:
            fewer = replace(event, number=event.number // 2)
            yield replace(plan, events=(*plan.events[:number], fewer, *plan.events[number + 1 :]))
    plain = Plan(0)
    names = ("slots", "bulk", "lagging", "fixed_names", "long_sends", "hold", "latency_s", "upgraded_from_s")
    for name in (*names, "fallback_after_s", "change", "rate_per_s", "keep_records_s"):
        simpler = 1 if name == "slots" else getattr(plain, name)
        if getattr(plan, name) != simpler:
            yield replace(plan, **{name: simpler})
