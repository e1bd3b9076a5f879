"""`python -m bench.scale`: what a rate of alerts takes, by what one alert costs in `bench/results`. Markdown.

Everything is planned at half of what it can carry, so that one of two machines is enough and a backlog ends.
"""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from statistics import mean, median
from typing import Any

import msgspec

from bench.claims import RUNS
from bench.load import alerts
from bench.processes import ROOT
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.outcome import Accepted
from trio_alerts.record import Record
from trio_alerts.transitions import first_attempt, settled

RATES = {10: "idle-opensearch", 1_000: "opensearch-512", 100_000: "opensearch-2000"}  # alerts a second: costs as in
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


def needs(rate: float, costs: Costs) -> dict[str, str]:
    """Return what a rate takes, as people read it."""
    workers = math.ceil(rate * RECEIVER_S / PLANNED)
    worker_cores, redis_cores, store_cores = (
        rate * us / 1e6 for us in (costs.worker_us, costs.redis_us, COPIES * costs.store_us)
    )
    processes = max(2, math.ceil(worker_cores / PLANNED), math.ceil(workers / MOST_WORKERS))
    memory = processes * costs.process_bytes + workers * costs.waiting_bytes
    return {
        "CPU µs an alert: worker": f"{costs.worker_us:,.0f}",
        "Redis": f"{costs.redis_us:,.0f}",
        "OpenSearch, each copy": f"{costs.store_us:,.0f}",
        "workers in all": f"{workers:,}",
        "processes": f"{processes:,}",
        "cores that they use": f"{worker_cores:,.2f}",
        "their memory": f"{memory / GB:,.2f} GB",
        "Redis nodes (and as many deployments)": f"{max(1, math.ceil(redis_cores / PLANNED))}",
        "cores that these use": f"{redis_cores:,.2f}",
        "stream, an hour of it": f"{rate * 3600 * costs.entry_bytes / GB:,.2f} GB",
        "OpenSearch shards, each with a replica": f"{max(1, math.ceil(store_cores / COPIES / PLANNED))}",
        "cores that OpenSearch uses": f"{store_cores:,.2f}",
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
    columns = [needs(rate, measured(runs, run)) for rate, run in RATES.items()]
    rows = [f"| {name} | {' | '.join(column[name] for column in columns)} |" for name in columns[0]]
    head = f"| alerts a second | {' | '.join(f'{rate:,}' for rate in RATES)} |"
    return "\n".join([head, f"|---|{'--:|' * len(RATES)}", *rows])


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
    """Print the table for the results that are kept."""
    kept = msgspec.json.decode((ROOT / "bench" / "results" / "results.json").read_bytes())
    print(table(kept["runs"]))


if __name__ == "__main__":
    main()
