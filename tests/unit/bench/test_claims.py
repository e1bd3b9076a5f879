from dataclasses import replace

import pytest

from bench.claims import RUNS, Claim, claims
from bench.plan import Latency, Limited, RunResult

MEASURED = {  # alerts/s, share of the ideal, CPU µs, peak MB, p50 and p99 in ms: no two figures of a claim alike
    "none-512": (5_000.0, 0.97, 200.0, 80, None),
    "none-512-scraped": (4_900.0, 0.96, 202.0, 84, None),
    "none-512-go": (5_050.0, 0.98, 150.0, 40, None),
    "none-512-asyncio": (2_500.0, 0.5, 400.0, 90, None),
    "none-2000": (12_000.0, 0.6, 120.0, 100, None),
    "none-2000-go": (13_000.0, 0.65, 110.0, 60, None),
    "none-2000-asyncio": (3_000.0, 0.15, 480.0, 110, None),
    "none-10000": (4_500.0, 0.9, 260.0, 220, None),
    "sqlite-512": (4_700.0, 0.92, 300.0, 85, None),
    "opensearch-512": (3_600.0, 0.7, 250.0, 95, None),
    "opensearch-512-go": (4_000.0, 0.75, 180.0, 45, None),
    "opensearch-512-asyncio": (1_200.0, 0.23, 1_000.0, 105, None),
    "opensearch-2000": (6_000.0, 0.3, 270.0, 210, None),
    "opensearch-2000-go": (7_500.0, 0.38, 140.0, 65, None),
    "opensearch-2000-asyncio": (1_000.0, 0.05, 1_100.0, 115, None),
    "idle-none": (50.0, 1.0, 900.0, 60, (0.001, 0.004)),
    "idle-sqlite": (50.0, 1.0, 1_000.0, 61, (0.002, 0.008)),
    "idle-opensearch": (50.0, 1.0, 1_200.0, 70, (0.003, 0.016)),
    "isolation-3-well": (40.0, 1.0, 1_300.0, 71, (0.002, 0.005)),
    "isolation-3": (39.0, 1.0, 1_400.0, 72, (0.003, 0.007)),
    "isolation-10-well": (2_700.0, 1.0, 210.0, 73, (0.004, 0.010)),
    "isolation-10": (2_592.0, 1.0, 220.0, 74, (0.005, 0.011)),
    "cluster-1": (3_400.0, 0.66, 240.0, 77, None),
    "cluster-2": (3_500.0, 0.67, 252.0, 150, None),
    "cluster-4": (3_600.0, 0.68, 264.0, 290, None),
    "chat-limited": (1.0, 1.0, 2_000.0, 75, (50.0, 99.0)),
}
CLAIMED = {  # what is computed from these, and what it must be
    "none-512: share of the ideal": (0.97, "at least", 0.96, 0.98),
    "none-512: CPU an alert, times asyncio's": (0.5, "at most", 0.55, 0.4),
    "none-512-scraped: CPU an alert, times that of none-512": (1.01, "at most", 1.02, None),
    "none-512: CPU an alert, times go's": (200 / 150, "at most", None, None),
    "none-2000: alerts/s, times asyncio's": (4.0, "at least", 2.5, 4.0),
    "none-2000: CPU an alert, times asyncio's": (0.25, "at most", 0.35, 0.25),
    "none-2000: alerts/s, times go's": (12 / 13, "at least", None, None),
    "none-2000: CPU an alert, times go's": (120 / 110, "at most", None, None),
    "opensearch-512: alerts/s, times asyncio's": (3.0, "at least", 2.8, 3.1),
    "opensearch-512: CPU an alert, times asyncio's": (0.25, "at most", 0.28, None),
    "opensearch-512: alerts/s, times go's": (0.9, "at least", 0.95, 1.0),
    "opensearch-512: CPU an alert, times go's": (250 / 180, "at most", None, None),
    "opensearch-2000: alerts/s, times asyncio's": (6.0, "at least", 4.0, 7.0),
    "opensearch-2000: alerts/s, times go's": (0.8, "at least", 0.8, 1.0),
    "opensearch-2000: CPU of OpenSearch an alert, µs": (160.0, "at most", 150, 120),
    "sqlite-512: share of the ideal": (0.92, "at least", 0.8, 0.9),
    "none-10000: share of the ideal": (0.9, "at least", 0.9, None),
    "none-10000: peak memory, MB": (220.0, "at most", 250, None),
    "none-10000: CPU an alert, times that of none-512": (1.3, "at most", 1.5, 1.2),
    "cluster-1: CPU an alert, times that of none-512": (1.2, "at most", None, None),
    "cluster-2: CPU an alert, times that of cluster-1": (1.05, "at most", None, None),
    "cluster-4: CPU an alert, times that of cluster-1": (1.1, "at most", None, None),
    "memory of one more waiting worker, KiB": (120e6 / 8_000 / 1_024, "at most", 14, 12),
    "idle-none: p99 from XADD to the receiver, ms": (4.0, "at most", 5, None),
    "idle-sqlite: p99 from XADD to the receiver, ms": (8.0, "at most", 10, None),
    "idle-opensearch: p99 from XADD to the receiver, ms": (16.0, "at most", 20, None),
    "isolation-3: p99 of the other channels, times that when none hangs": (1.4, "at most", 1.5, None),
    "isolation-10: p99 of the other channels, times that when none hangs": (1.1, "at most", 1.2, None),
    "isolation-10: alerts/s of the other channels, times that when none hangs": (0.96, "at least", 0.95, None),
    "chat-limited: p50 of critical alerts, s": (50.0, "at most", 90, None),
    "chat-limited: others sent while a critical one waited": (4, "at most", 0, None),
    "chat-limited: failed": (5, "at most", 0, None),
    "chat-limited: above the rate, at most the burst": (2, "at most", 3, None),
    "chat-limited: store writes an alert": (1.25, "at most", 2, None),
}


def result(name: str) -> RunResult:
    rate, share, cpu_us, peak_mb, waits_s = MEASURED[name]
    return RunResult(
        plan=RUNS[name],
        rate=rate,
        overall_rate=rate / 2,
        share=share,
        cpu_us=cpu_us,
        peak_bytes=peak_mb * 1_000_000,
        latency=None if waits_s is None else Latency(*waits_s, max_s=1.0),
        batches={},
        others_us={"store": 160.0},
        others_cpu={},
        stored_bytes=0.0,
        late_mean_s=0.0,
        ledger="balanced",
        versions={},
        limited=Limited(overtaken=4, excess=2, failed=5, writes=1.25) if RUNS[name].limit else None,
    )


@pytest.mark.parametrize("claim", claims(), ids=lambda claim: claim.what)
def test_a_claim_computes_its_figure_and_has_its_bounds(claim: Claim) -> None:
    """From the runs that it names and from no others; the bounds are those that were asked for."""
    expected, *bounds = CLAIMED[claim.what]
    assert expected == pytest.approx(claim.figure({name: result(name) for name in claim.runs}))
    assert bounds == [claim.sense, claim.must, claim.aim]


def test_no_claim_is_missing() -> None:
    """Each is told once, and its runs are in the table."""
    assert list(CLAIMED) == [claim.what for claim in claims()]
    assert {run for claim in claims() for run in claim.runs} == RUNS.keys()


def test_a_run_and_its_measure_differ_in_the_program_alone() -> None:
    """The same store, receivers and load; a measure is one process, and the slow one gets fewer alerts."""
    for name, theirs in RUNS.items():
        if theirs.program != "trio_alerts":
            ours = RUNS[name.removesuffix(f"-{theirs.program}")]
            assert theirs == replace(ours, program=theirs.program, processes=1, alerts=theirs.alerts), name


def test_a_run_with_a_channel_that_hangs_differs_in_nothing_else() -> None:
    """The same load on the same channels, when none hangs; workers and loads are those that were asked for."""
    asked = {3: (16, 60.0), 10: (512, 3_000.0)}
    for name, plan in RUNS.items():
        if plan.sick:
            assert RUNS[f"{name}-well"] == replace(plan, sick=False)
            assert asked[plan.channels] == (plan.workers, plan.rate)
            assert plan.alerts > plan.send_timeout_s * asked[plan.channels][1]


def test_every_run_is_what_its_name_says() -> None:
    """Store and workers are those of the name; a backlog lasts for the rounds that a steady rate needs."""
    for name, plan in RUNS.items():
        store, _, workers = name.removesuffix(f"-{plan.program}").removesuffix("-scraped").rpartition("-")
        assert plan.scraped == name.endswith("-scraped")
        if plan.streams > 1:
            assert f"cluster-{plan.processes}" == name
            assert RUNS["none-512"] == replace(plan, streams=1, processes=1)
        elif plan.rate is None:
            assert (store, int(workers)) == (plan.store, plan.workers)
            assert plan.alerts >= 5 * plan.workers
        elif plan.limit:
            assert ("chat-limited", 20.0, 1.0, 2_000, 4) == (name, plan.rate, plan.limit, plan.alerts, plan.processes)
        elif plan.channels == 1:
            assert (f"idle-{plan.store}", 16, 50.0) == (name, plan.workers, plan.rate)
        else:
            assert f"isolation-{plan.channels}{'' if plan.sick else '-well'}" == name
    assert 2.0 == RUNS["none-10000"].delay.mean_s
    assert {0.1} == {plan.delay.mean_s for name, plan in RUNS.items() if name != "none-10000"}


@pytest.mark.parametrize(
    ("figure", "expected"), [(0.94, "missed"), (0.95, "reached"), (0.979, "reached"), (0.98, "aim reached")]
)
def test_a_verdict_compares_with_must_and_aim(figure: float, expected: str) -> None:
    """A bound that is met exactly is met."""
    claim = Claim("share", (), lambda _: figure, "at least", 0.95, 0.98)
    assert expected == claim.verdict(figure)


def test_a_verdict_on_a_cost_turns_the_sign() -> None:
    """For what must be small, less is better."""
    claim = Claim("cost", (), lambda _: 0.0, "at most", 0.55, 0.4)
    assert ["missed", "reached", "aim reached"] == [claim.verdict(figure) for figure in (0.56, 0.55, 0.4)]


def test_without_an_aim_the_bound_is_all() -> None:
    """However good the figure, nobody had said what would be better still."""
    claim = Claim("share", (), lambda _: 0.0, "at least", 0.9)
    assert ["missed", "reached", "reached"] == [claim.verdict(figure) for figure in (0.89, 0.9, 9.0)]
