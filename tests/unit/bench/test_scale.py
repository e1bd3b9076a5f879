"""The arithmetic of scale: what is multiplied, and what is rounded up."""

from typing import Any

import msgspec

from bench.processes import ROOT
from bench.scale import RATES, Costs, measured, needs, table

COSTS = Costs(
    worker_us=200,
    redis_us=10,
    store_us=100,
    process_bytes=50e6,
    waiting_bytes=10_000,
    sent_bytes=5_000,
    entry_bytes=1_000,
    stored_bytes=2_000,
)


def test_a_rate_takes_what_its_costs_add_up_to() -> None:
    """Half of each core is planned for; every copy of a shard costs what the first one does."""
    assert {
        "CPU µs an alert: worker": "200",
        "Redis": "10",
        "OpenSearch, each copy": "100",
        "workers in all": "160,000",
        "processes": "40",
        "cores that they use": "20.00",
        "their memory": "3.60 GB",
        "Redis nodes (and as many deployments)": "2",
        "cores that these use": "1.00",
        "stream, an hour of it": "360.00 GB",
        "OpenSearch shards, each with a replica": "20",
        "cores that OpenSearch uses": "20.00",
        "disk a day": "34,560.0 GB",
        "network": "4,000.0 Mbit/s",
    } == needs(100_000, COSTS)


def test_a_small_rate_takes_two_processes_and_one_of_everything_else() -> None:
    """So that one of two machines may fail."""
    found = needs(10, COSTS)
    assert ("2", "1", "1") == (
        found["processes"],
        found["Redis nodes (and as many deployments)"],
        found["OpenSearch shards, each with a replica"],
    )


def test_the_costs_are_those_of_the_kept_results() -> None:
    """The runs that the table names are there, and each column comes from its own."""
    runs: dict[str, Any] = msgspec.json.decode((ROOT / "bench" / "results" / "results.json").read_bytes())["runs"]
    for run in RATES.values():
        costs = measured(runs, run)
        assert runs[run]["median"]["cpu_us"] == costs.worker_us
        assert min(costs.redis_us, costs.store_us, costs.process_bytes, costs.waiting_bytes) > 0
    assert "| alerts a second | 10 | 1,000 | 100,000 |" in table(runs)
