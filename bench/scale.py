"""`python -m bench.scale`: what a rate of alerts takes, by what one alert costs in `bench/results`. Markdown.

Everything is planned at half of what it can carry, so that a third of it may fail and a backlog ends. With `--simulate`
it is also seen, in virtual time, how late alerts are then, and at which rate it breaks (a minute or two).
"""

import argparse
import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import mean, median
from typing import Any

import msgspec

from bench.claims import RUNS
from bench.fleet import Fleet, carry
from bench.load import alerts
from bench.processes import ROOT
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.outcome import Accepted
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt, settled

RATES = {10: "idle-opensearch", 1_000: "opensearch-512", 100_000: "opensearch-2000"}  # alerts a second: costs as in
SIMULATED = {10: "idle-opensearch", 1_000: "opensearch-512", 10_000: "opensearch-2000"}  # 100,000: too slow
LOADS = (1.0, 1.5, 1.9, 2.1)  # times the rate that was planned for
SIMULATED_S, SIMULATED_ALERTS = 3.0, 2_000  # at least
RECEIVER_S = 0.8  # how long receivers take
PLANNED = 0.5  # of a core: of a process, of a Redis node, of a shard
COPIES = 2  # of a shard: one replica
MOST_WORKERS = 20_000  # of a process
DAY_S, MB, GB, MBIT = 86_400, 1e6, 1e9, 125_000.0
FRAMES_BYTES = 1_000  # on the way, beside alerts and records: commands, heads, answers, about


@dataclass(frozen=True)
class Costs:
    """What one alert costs: CPU in microseconds, of the workers, Redis and OpenSearch; bytes on the way and at rest.

    Args:
        process_bytes: Memory of a process, but for its waiting workers.
        waiting_bytes: Memory of one more waiting worker.
        sent_bytes: Over the network: into the stream and out of it, two writes to the store, one request.
        entry_bytes: In the stream.
        stored_bytes: In the index, for each copy.
    """

    worker_us: float
    redis_us: float
    store_us: float
    process_bytes: float
    waiting_bytes: float
    sent_bytes: float
    entry_bytes: float
    stored_bytes: float


def planned(rate: float, costs: Costs) -> Fleet:
    """Return what carries a rate with half of its cores and workers."""
    worker_s, redis_s, store_s = (us / 1e6 for us in (costs.worker_us, costs.redis_us, costs.store_us))
    workers = math.ceil(rate * RECEIVER_S / PLANNED)
    return Fleet(
        processes=max(2, math.ceil(rate * worker_s / PLANNED), math.ceil(workers / MOST_WORKERS)),
        workers=workers,
        nodes=math.ceil(rate * redis_s / PLANNED),
        shards=math.ceil(rate * store_s / PLANNED),
        worker_s=worker_s,
        redis_s=redis_s,
        store_s=store_s,
    )


def needs(rate: float, costs: Costs) -> dict[str, str]:
    """Return what a rate takes, as people read it."""
    fleet = planned(rate, costs)
    memory = fleet.processes * costs.process_bytes + fleet.workers * costs.waiting_bytes
    return {
        "CPU µs an alert: worker": f"{costs.worker_us:,.0f}",
        "Redis": f"{costs.redis_us:,.0f}",
        "OpenSearch, each copy": f"{costs.store_us:,.0f}",
        "workers in all": f"{fleet.workers:,}",
        "processes": f"{fleet.processes:,}",
        "cores that they use": f"{rate * fleet.worker_s:,.2f}",
        "their memory": f"{memory / GB:,.2f} GB",
        "Redis nodes (and as many deployments)": f"{fleet.nodes:,}",
        "cores that these use": f"{rate * fleet.redis_s:,.2f}",
        "stream, an hour of it": f"{rate * 3600 * costs.entry_bytes / GB:,.2f} GB",
        "OpenSearch shards, each with a replica": f"{fleet.shards:,}",
        "cores that OpenSearch uses": f"{rate * COPIES * fleet.store_s:,.2f}",
        "disk a day": f"{rate * DAY_S * COPIES * costs.stored_bytes / GB:,.1f} GB",
        "network": f"{rate * costs.sent_bytes / MBIT:,.1f} Mbit/s",
    }


def measured(runs: Mapping[str, Any], run: str) -> Costs:
    """Return the costs in the runs of a `results.json`: CPU of one of them, and the mean of the example alerts."""

    def spent_us(name: str) -> float:
        return float(median(one["others_cpu"][name] / one["overall_rate"] * 1e6 for one in runs[run]["all"]))

    few, many = ((RUNS[name].workers, runs[name]["median"]["peak_mb"] * MB) for name in ("none-2000", "none-10000"))
    waiting = (many[1] - few[1]) / (many[0] - few[0])
    payload, document = _example_bytes()
    return Costs(
        worker_us=runs[run]["median"]["cpu_us"],
        redis_us=spent_us("Valkey"),
        store_us=spent_us("store"),
        process_bytes=runs["opensearch-512"]["median"]["peak_mb"] * MB,
        waiting_bytes=waiting,
        sent_bytes=3 * payload + 2 * document + FRAMES_BYTES,
        entry_bytes=payload,
        stored_bytes=runs["opensearch-2000"]["median"].get("stored_bytes", math.nan),  # older results have none
    )


def table(runs: Mapping[str, Any]) -> str:
    """Return what each rate takes, a column each, as Markdown."""
    return _markdown("alerts a second", {rate: needs(rate, measured(runs, run)) for rate, run in RATES.items()})


def simulated(runs: Mapping[str, Any]) -> str:
    """Return how late alerts are in each fleet as planned, at several times its rate, as Markdown."""
    columns = {
        rate: {f"{load:g} times": late(rate, measured(runs, run), load) for load in LOADS}
        for rate, run in SIMULATED.items()
    }
    return _markdown("planned for, alerts a second", columns)


def late(rate: float, costs: Costs, load: float) -> str:
    """Return how late alerts are that come `load` times as often as was planned for, as people read it."""
    offered = load * rate
    alerts = max(SIMULATED_ALERTS, math.ceil(offered * SIMULATED_S))
    seen = carry(planned(rate, costs), offered, alerts, RECEIVER_S)
    return "later and later" if seen.rising else f"{seen.p50_s * 1000:.0f} / {seen.p99_s * 1000:.0f} ms"


def _markdown(first: str, columns: Mapping[int, Mapping[str, str]]) -> str:
    names = next(iter(columns.values()))
    rows = [f"| {name} | {' | '.join(column[name] for column in columns.values())} |" for name in names]
    head = f"| {first} | {' | '.join(f'{rate:,}' for rate in columns)} |"
    return "\n".join([head, f"|---|{'--:|' * len(columns)}", *rows])


def _example_bytes() -> tuple[float, float]:
    """Return how large an example alert is, and its record, as they are sent."""
    now = dt.datetime.now(dt.UTC)
    sizes = []
    for payload in islice(alerts(), 100):
        alert = parse_entry(Entry("stream", "1-0", {b"event": payload}, "1-0"), now)
        begun = first_attempt(["webhook"], "consumer/1234/1", now, 60.0)
        ended = settled(begun, {"webhook": (Accepted(200, "ok"), 0.1)}, now, RetryPolicy((1.0,)))
        sizes.append((len(payload), len(Record("1-0", alert.body, ended).to_json())))
    return mean(size for size, _ in sizes), mean(size for _, size in sizes)


def main() -> None:
    """Print the tables for the results that are kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=main.__doc__)
    parser.add_argument("--simulate", action="store_true", help="and how late alerts are, in virtual time")
    simulate = parser.parse_args().simulate
    kept = msgspec.json.decode((ROOT / "bench" / "results" / "results.json").read_bytes())
    print(table(kept["runs"]))
    if simulate:
        print(f"\n{simulated(kept['runs'])}")


if __name__ == "__main__":
    main()
