"""What is shown and kept of runs: a table for the terminal, JSON and plots for the documentation."""

import dataclasses
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from bench.claims import MB, Claim, Results
from bench.console import Visits
from bench.plan import Latency, Plan, RunResult
from bench.plot import bars, shown
from bench.retention import Pruning

BESIDE = " (other)"  # behind the name of a run with the other checkout
COMPARED = (("alerts/s", "rate"), ("CPU an alert", "cpu_us"), ("the store's", "store_us"), ("on disk", "stored_bytes"))

PACKAGES = ("trio", "redis", "hiredis", "httptools", "msgspec", "opensearch-py", "aiohttp")


def show_runs(runs: Mapping[str, Sequence[RunResult]]) -> None:
    """Print the median of each run."""
    table = Table(title="runs (median)", title_justify="left")
    for name, right in (("run", False), ("alerts/s", True), ("of the ideal", True), ("CPU µs/alert", True)):
        table.add_column(name, justify="right" if right else "left")
    for name in ("peak MB", "p50 ms", "p99 ms", "max ms", "batch", "B stored", "others' CPU µs (cores)", "times"):
        table.add_column(name, justify="right")
    for name, results in runs.items():
        figures = median_figures(results)
        latencies = (shown(figures[key]) if key in figures else "" for key in ("p50_ms", "p99_ms", "max_ms"))
        batch = shown(figures["batch"]) if "batch" in figures else ""
        others = (
            f"{one} {shown(figures[f'{one}_us'])} ({statistics.median(each.others_cpu[one] for each in results):.2f})"
            for one in results[0].others_us
            if figures[f"{one}_us"]
        )
        table.add_row(
            name,
            shown(figures["rate"]),
            f"{figures['share']:.3f}",
            shown(figures["cpu_us"]),
            shown(figures["peak_mb"]),
            *latencies,
            batch,
            shown(figures["stored_bytes"]) if figures["stored_bytes"] else "",
            "\n".join(others),
            str(len(results)),
        )
    _console().print(table)


def in_turns(plans: Mapping[str, Plan], beside: Path | None, number: int) -> list[tuple[str, Plan]]:
    """Return the runs of one repetition, every second one backwards: what goes before changes what comes next.

    With another checkout beside ours it is each run with both, and who begins changes.
    """
    if beside is None:
        return list(plans.items())[:: -1 if number % 2 else 1]
    pairs = [
        ((name + BESIDE, dataclasses.replace(plan, code=beside.resolve())), (name, plan))
        for name, plan in plans.items()
    ]
    return [one for pair in pairs for one in (pair if number % 2 == 0 else pair[::-1])]


def show_beside(runs: Mapping[str, Sequence[RunResult]]) -> None:
    """Print what each run is beside the other checkout: the median of the ratios of all repetitions, and each of them.

    Both of a repetition meet the same machine, and that changes from one to the next by more than what is measured.
    """
    for name, results in runs.items():
        if name + BESIDE in runs:
            for what, figure in COMPARED:
                pairs = zip(map(_figures, results), map(_figures, runs[name + BESIDE]), strict=True)
                ratios = [ours[figure] / theirs[figure] for ours, theirs in pairs if theirs[figure]]
                if not ratios:
                    continue
                each = ", ".join(f"{ratio:.3f}" for ratio in ratios)
                ratio = statistics.median(ratios)
                _console().print(f"{name}: {what} {ratio:.3f} times that of the other checkout (each: {each})")


def show_visits(store: str, visits: Visits) -> None:
    """Print how long each page took, the slowest first; with another checkout, how long it took there and the ratio."""
    table = Table(title=f"console: {store}", title_justify="left")
    table.add_column("page")
    for name in ("p50 ms", "max ms", *(("other p50", "other max", "ratio") if len(visits.pages) > 1 else ())):
        table.add_column(name, justify="right")
    for name in sorted(visits.pages[0], key=lambda name: -statistics.median(visits.pages[0][name])):
        each = [one[name] for one in visits.pages]
        medians = [statistics.median(took_s) for took_s in each]
        cells = [f"{s * 1000:.0f}" for p50, took_s in zip(medians, each, strict=True) for s in (p50, max(took_s))]
        table.add_row(name, *cells, *(f"{medians[0] / other:.2f}" for other in medians[1:]))
    _console().print(table)
    _show_latency("alone", visits.alone)
    _show_latency("while pages are visited", visits.watched)


def show_pruning(store: str, records: int, pruning: Pruning) -> None:
    """Print how fast old records went, and what alerts noticed of it."""
    rate = records / pruning.took_s
    _console().print(f"retention: {store}: {records:,} records in {pruning.took_s:.0f} s, {rate:,.0f} a second")
    _show_latency("before", pruning.alone)
    _show_latency("while records go", pruning.meanwhile)


def _show_latency(what: str, latency: Latency) -> None:
    p50, p99, most = (shown(s * 1000) for s in (latency.p50_s, latency.p99_s, latency.max_s))
    _console().print(f"alerts {what}: p50 {p50} ms, p99 {p99} ms, max {most} ms")


def show_claims(claims: Sequence[Claim], repetitions: Sequence[Results]) -> list[dict[str, Any]]:
    """Print what was claimed and what came of it; return the same as data. Claims without their runs are left out."""
    table = Table(title=f"claims (median of {len(repetitions)})", title_justify="left")
    for name, right in (("claim", False), ("must", True), ("aim", True), ("is", True), ("", False)):
        table.add_column(name, justify="right" if right else "left")
    rows: list[dict[str, Any]] = []
    for claim in claims:
        if not all(run in results for results in repetitions for run in claim.runs):
            continue
        figures = [claim.figure(results) for results in repetitions]
        figure = statistics.median(figures)
        sign = "≥" if claim.sense == "at least" else "≤"
        aim = "" if claim.aim is None else f"{sign} {claim.aim:g}"
        verdict = claim.verdict(figure)
        must = "" if claim.must is None else f"{sign} {claim.must:g}"
        table.add_row(claim.what, must, aim, claim.form.format(figure), verdict)
        rows.append(
            {
                "claim": claim.what,
                "sense": claim.sense,
                "must": claim.must,
                "aim": claim.aim,
                "median": figure,
                "all": figures,
                "verdict": verdict,
            }
        )
    _console().print(table)
    return rows


def median_figures(results: Sequence[RunResult]) -> dict[str, float]:
    """Return the median of each figure of repeated runs, by name; the unit is in the name."""
    every = [_figures(result) for result in results]
    return {name: statistics.median(one[name] for one in every) for name in every[0]}


def write(
    folder: Path,
    command: str,
    load_before: float,
    runs: Mapping[str, Sequence[RunResult]],
    claims: Sequence[Mapping[str, Any]],
) -> None:
    """Write `results.json` and the plots; `load_before` is the machine's load average before the first run."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        "command": command,
        "machine": machine() | {"load_average_1m_before": round(load_before, 2)},
        "versions": {name: version(name) for name in PACKAGES} | _versions(runs),
        "claims": claims,
        "runs": {
            name: {
                "plan": str(results[0].plan),
                "median": median_figures(results),
                "all": [_data(one) for one in results],
            }
            for name, results in runs.items()
        },
    }
    text = msgspec.json.format(msgspec.json.encode(kept, order="sorted"), indent=1)
    (folder / "results.json").write_bytes(text + b"\n")
    for name, svg in plots(runs).items():
        (folder / f"{name}.svg").write_text(svg)


def plots(runs: Mapping[str, Sequence[RunResult]]) -> dict[str, str]:
    """Draw what the runs have in common with their measure, and the latencies; by the file's name."""
    rates: dict[str, dict[str, float]] = {}
    costs: dict[str, dict[str, float]] = {}
    waits: dict[str, dict[str, float]] = {}
    for name, results in runs.items():
        figures, plan = median_figures(results), results[0].plan
        row = name.removesuffix(f"-{plan.program}")
        if "p99_ms" in figures:
            waits[row] = {part: figures[f"{part}_ms"] for part in ("p50", "p99", "max")}
            continue
        rates.setdefault(row, {})[plan.program] = figures["rate"]
        costs.setdefault(row, {})[plan.program] = figures["cpu_us"]
    return {
        "throughput": bars("Throughput under slow receivers", "alerts a second", rates),
        "cpu": bars("CPU of the worker processes", "µs an alert", costs),
        "latency": bars("From XADD to the receiver at 50 alerts a second", "ms", waits),
    }


def machine() -> dict[str, Any]:
    """Say what this was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "unknown",
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 1e9),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": sys.version,  # the build counts: without profile-guided optimization it is a quarter slower
    }


def _figures(result: RunResult) -> dict[str, float]:
    figures = {
        "rate": result.rate,
        "overall_rate": result.overall_rate,
        "share": result.share,
        "cpu_us": result.cpu_us,
        **{f"{name}_us": spent_us for name, spent_us in result.others_us.items()},
        "stored_bytes": result.stored_bytes,
        "peak_mb": result.peak_bytes / MB,
        "late_ms": result.late_mean_s * 1000,
    }
    if result.latency is not None:
        waits = dataclasses.asdict(result.latency)
        figures |= {name.replace("_s", "_ms"): value * 1000 for name, value in waits.items()}
    if result.limited is not None:
        figures |= dataclasses.asdict(result.limited)
    if result.batches:
        figures["batch"] = sum(size * count for size, count in result.batches.items()) / sum(result.batches.values())
    return figures


def _data(result: RunResult) -> dict[str, Any]:
    return {
        **_figures(result),
        "batches": {str(size): count for size, count in sorted(result.batches.items())},
        "others_cpu": result.others_cpu,
        "ledger": result.ledger,
    }


def _versions(runs: Mapping[str, Sequence[RunResult]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for results in runs.values():
        said = results[0].versions
        found["Valkey"] = said["Valkey"]
        if said["store"] != "none":
            name, _, number = said["store"].partition(" ")
            found[name] = number
    return found


def _console() -> Console:
    return Console(width=None if os.isatty(1) else 160)
