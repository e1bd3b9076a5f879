"""The table of claims: which runs it takes, and what each figure must be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from bench.delays import Delay
from bench.figures import per_worker_kib
from bench.plan import BURST, Limited, Plan, RunResult

Results = Mapping[str, RunResult]  # of one repetition, by the name of the run

MB = 1_000_000

# How many alerts: long enough for a steady rate (several seconds, ten rounds and more of the workers), short enough
# that the whole table takes a quarter of an hour. The measure is slower, so it gets fewer.
RUNS: Mapping[str, Plan] = {
    "none-512": Plan("trio_alerts", "none", 512, 20_480),
    "none-512-scraped": Plan("trio_alerts", "none", 512, 20_480, scraped=True),
    "none-512-go": Plan("go", "none", 512, 20_480),
    "none-512-asyncio": Plan("asyncio", "none", 512, 15_360),
    "none-2000": Plan("trio_alerts", "none", 2_000, 60_000),
    "none-2000-go": Plan("go", "none", 2_000, 60_000),
    "none-2000-asyncio": Plan("asyncio", "none", 2_000, 24_000),
    "none-10000": Plan("trio_alerts", "none", 10_000, 60_000, delay=Delay("fixed", 2.0)),
    "sqlite-512": Plan("trio_alerts", "sqlite", 512, 20_480),
    "opensearch-512": Plan("trio_alerts", "opensearch", 512, 20_480),
    "opensearch-512-go": Plan("go", "opensearch", 512, 20_480),
    "opensearch-512-asyncio": Plan("asyncio", "opensearch", 512, 7_680),
    "opensearch-2000": Plan("trio_alerts", "opensearch", 2_000, 40_000, processes=2),
    "opensearch-2000-go": Plan("go", "opensearch", 2_000, 40_000),
    "opensearch-2000-asyncio": Plan("asyncio", "opensearch", 2_000, 10_000),
    "idle-none": Plan("trio_alerts", "none", 16, 600, rate=50.0),
    "idle-sqlite": Plan("trio_alerts", "sqlite", 16, 600, rate=50.0),
    "idle-opensearch": Plan("trio_alerts", "opensearch", 16, 600, rate=50.0),
    "isolation-3-well": Plan("trio_alerts", "none", 16, 1_800, rate=60.0, channels=3),
    "isolation-3": Plan("trio_alerts", "none", 16, 1_800, rate=60.0, channels=3, sick=True),
    "isolation-10-well": Plan("trio_alerts", "none", 512, 60_000, rate=3_000.0, channels=10),
    "isolation-10": Plan("trio_alerts", "none", 512, 60_000, rate=3_000.0, channels=10, sick=True),
    "cluster-1": Plan("trio_alerts", "none", 512, 20_480, streams=4),
    "cluster-2": Plan("trio_alerts", "none", 512, 20_480, streams=4, processes=2),
    "cluster-4": Plan("trio_alerts", "none", 512, 20_480, streams=4, processes=4),
    "chat-limited": Plan("trio_alerts", "sqlite", 64, 2_000, processes=4, rate=20.0, limit=1.0),
}


@dataclass(frozen=True)
class Claim:
    """One figure that must be reached.

    Args:
        what: In words.
        runs: The runs that it needs.
        figure: Computes it from them.
        sense: Whether it must be at least or at most `must`.
        must: The bound; None: the figure is just told.
        aim: What would be better still.
        form: How it is printed.
    """

    what: str
    runs: tuple[str, ...]
    figure: Callable[[Results], float]
    sense: Literal["at least", "at most"]
    must: float | None
    aim: float | None = None
    form: str = "{:.2f}"

    def verdict(self, figure: float) -> str:
        """Say what a figure is worth."""
        if self.must is None:
            return ""
        sign = 1 if self.sense == "at least" else -1
        if sign * figure < sign * self.must:
            return "missed"
        return "reached" if self.aim is None or sign * figure < sign * self.aim else "aim reached"


def claims() -> list[Claim]:
    """Return the table."""
    found = [
        _share("none-512", 0.96, 0.98),
        _ratio("none-512", "cpu_us", "asyncio", 0.55, 0.4),
        _cpu_beside("none-512-scraped", "none-512", 1.02, None),
        _ratio("none-512", "cpu_us", "go", None, None),
        _ratio("none-2000", "rate", "asyncio", 2.5, 4.0),
        _ratio("none-2000", "cpu_us", "asyncio", 0.35, 0.25),
        _ratio("none-2000", "rate", "go", None, None),
        _ratio("none-2000", "cpu_us", "go", None, None),
        _ratio("opensearch-512", "rate", "asyncio", 2.8, 3.1),
        _ratio("opensearch-512", "cpu_us", "asyncio", 0.28, None),
        _ratio("opensearch-512", "rate", "go", 0.95, 1.0),
        _ratio("opensearch-512", "cpu_us", "go", None, None),
        _ratio("opensearch-2000", "rate", "asyncio", 4.0, 7.0),
        _ratio("opensearch-2000", "rate", "go", 0.8, 1.0),
        Claim(
            "opensearch-2000: CPU of OpenSearch an alert, µs",
            ("opensearch-2000",),
            lambda results: results["opensearch-2000"].others_us["store"],
            "at most",
            150,
            120,
            form="{:.0f}",
        ),
        _share("sqlite-512", 0.8, 0.9),
        _share("none-10000", 0.9, None),
        Claim(
            "none-10000: peak memory, MB",
            ("none-10000",),
            lambda results: results["none-10000"].peak_bytes / MB,
            "at most",
            250,
            form="{:.0f}",
        ),
        _cpu_beside("none-10000", "none-512", 1.5, 1.2),
        _cpu_beside("cluster-1", "none-512", None, None),
        _cpu_beside("cluster-2", "cluster-1", None, None),
        _cpu_beside("cluster-4", "cluster-1", None, None),
        Claim(
            "memory of one more waiting worker, KiB",
            ("none-10000", "none-2000"),
            lambda results: per_worker_kib(_memory(results["none-2000"]), _memory(results["none-10000"])),
            "at most",
            14,
            12,
            form="{:.1f}",
        ),
    ]
    found += [_p99("idle-none", 5), _p99("idle-sqlite", 10), _p99("idle-opensearch", 20)]
    found += [_kept_p99("isolation-3", 1.5), _kept_p99("isolation-10", 1.2), _kept_rate("isolation-10", 0.95)]
    return [*found, *_limited("chat-limited")]


def _share(run: str, must: float, aim: float | None) -> Claim:
    return Claim(f"{run}: share of the ideal", (run,), lambda results: results[run].share, "at least", must, aim)


def _ratio(
    run: str,
    name: Literal["rate", "cpu_us"],
    measured_by: Literal["asyncio", "go"],
    must: float | None,
    aim: float | None,
) -> Claim:
    measure = f"{run}-{measured_by}"

    def ratio(results: Results) -> float:
        if name == "rate":
            return results[run].rate / results[measure].rate
        return results[run].cpu_us / results[measure].cpu_us

    what = "alerts/s" if name == "rate" else "CPU an alert"
    sense: Literal["at least", "at most"] = "at least" if name == "rate" else "at most"
    return Claim(f"{run}: {what}, times {measured_by}'s", (run, measure), ratio, sense, must, aim)


def _cpu_beside(run: str, other: str, must: float | None, aim: float | None) -> Claim:
    return Claim(
        f"{run}: CPU an alert, times that of {other}",
        (run, other),
        lambda results: results[run].cpu_us / results[other].cpu_us,
        "at most",
        must,
        aim,
    )


def _p99(run: str, must_ms: float) -> Claim:
    return Claim(
        f"{run}: p99 from XADD to the receiver, ms",
        (run,),
        lambda results: _p99_s(results[run]) * 1000,
        "at most",
        must_ms,
        form="{:.1f}",
    )


def _kept_p99(run: str, must: float) -> Claim:
    return Claim(
        f"{run}: p99 of the other channels, times that when none hangs",
        (run, f"{run}-well"),
        lambda results: _p99_s(results[run]) / _p99_s(results[f"{run}-well"]),
        "at most",
        must,
    )


def _kept_rate(run: str, must: float) -> Claim:
    return Claim(
        f"{run}: alerts/s of the other channels, times that when none hangs",
        (run, f"{run}-well"),
        lambda results: results[run].rate / results[f"{run}-well"].rate,
        "at least",
        must,
    )


def _limited(run: str) -> list[Claim]:
    def of(figure: Callable[[Limited], float]) -> Callable[[Results], float]:
        def get(results: Results) -> float:
            limited = results[run].limited
            assert limited is not None
            return figure(limited)

        return get

    def p50_s(results: Results) -> float:
        latency = results[run].latency
        assert latency is not None
        return latency.p50_s

    whole = "{:.0f}"
    return [
        Claim(f"{run}: p50 of critical alerts, s", (run,), p50_s, "at most", 90, form="{:.1f}"),
        Claim(
            f"{run}: others sent while a critical one waited",
            (run,),
            of(lambda limited: limited.overtaken),
            "at most",
            0,
            form=whole,
        ),
        Claim(f"{run}: failed", (run,), of(lambda limited: limited.failed), "at most", 0, form=whole),
        Claim(
            f"{run}: above the rate, at most the burst",
            (run,),
            of(lambda limited: limited.excess),
            "at most",
            BURST,
        ),
        Claim(f"{run}: store writes an alert", (run,), of(lambda limited: limited.writes), "at most", 2),
    ]


def _p99_s(result: RunResult) -> float:
    assert result.latency is not None
    return result.latency.p99_s


def _memory(result: RunResult) -> tuple[int, int]:
    return result.plan.workers, result.peak_bytes
