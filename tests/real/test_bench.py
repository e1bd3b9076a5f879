"""The benchmark still runs: a short run of each kind."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from bench.delays import Delay
from bench.places import OpenSearchPlace, StoreKind
from bench.plan import Plan
from bench.processes import Program
from bench.run import FEWEST_WARM, run
from tests.support.servers import OpenSearchServer

ALERTS = 40
SENT = FEWEST_WARM + ALERTS


@pytest.mark.parametrize(("store", "writes"), [("none", 0), ("sqlite", 2 * SENT)])
def test_a_short_run_balances(store: StoreKind, writes: int) -> None:
    """It ends, its ledger balances (a run is void without), and all that is reported was measured."""
    result = run(Plan("trio_alerts", store, 8, ALERTS, delay=Delay("fixed", 0.01)))

    assert f"{SENT} emitted, accepted and recorded as delivered, each once" == result.ledger
    assert writes == sum(size * count for size, count in result.batches.items())
    assert result.rate > 0
    assert result.cpu_us > 0
    assert (store == "sqlite") == (result.stored_bytes > 0)


def test_a_short_run_with_a_channel_that_hangs_balances() -> None:
    """What hung is delivered after the channel was healed; the figures are those of the other channels."""
    plan = Plan("trio_alerts", "none", 8, 3 * ALERTS, delay=Delay("fixed", 0.01), rate=100.0, channels=3, sick=True)
    result = run(replace(plan, settings={"send_timeout_s": "1", "retry_schedule_s": "0.5,1,1,1,1,60"}))

    assert f"{FEWEST_WARM + 3 * ALERTS} emitted, accepted and recorded as delivered, each once" == result.ledger
    assert result.rate > 0
    assert result.latency is not None


def test_a_short_run_with_streams_on_a_cluster_balances() -> None:
    """Each process reads its share of them, in a slot of its own, wherever that is."""
    result = run(Plan("trio_alerts", "none", 8, 2 * ALERTS, delay=Delay("fixed", 0.01), processes=2, streams=4))

    assert f"{FEWEST_WARM + 2 * ALERTS} emitted, accepted and recorded as delivered, each once" == result.ledger


@pytest.mark.registry
def test_the_measure_in_go_keeps_the_same_records(
    opensearch3: OpenSearchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It balances with each store, and of the same alert it keeps the same fields, but for IDs and times."""
    assert run(Plan("go", "none", 8, ALERTS, delay=Delay("fixed", 0.01))).rate > 0
    kept: list[dict[str, Any]] = []
    delivered_ids = OpenSearchPlace.delivered_ids

    def look(place: OpenSearchPlace) -> list[str]:
        ids = delivered_ids(place)
        _, answer = opensearch3.request("GET", f"/{place.index}/_doc/{ids[0]}")
        kept.append(answer["_source"])
        return ids

    monkeypatch.setattr(OpenSearchPlace, "delivered_ids", look)
    programs: tuple[Program, ...] = ("go", "trio_alerts")
    for program in programs:
        result = run(Plan(program, "opensearch", 8, ALERTS, delay=Delay("fixed", 0.01)), opensearch3)
        assert result.others_us["store"] > 0
        assert result.stored_bytes > 0

    theirs, ours = map(_without_ids_and_times, kept)
    assert ours == theirs


def _without_ids_and_times(document: dict[str, Any]) -> dict[str, Any]:
    """Leave of each value that no two runs share what kind of value it is."""
    varying = {"record_id", "entry_order", "stream", "stream_id", "ingested_at", "occurred_at", "emitted_at"}
    varying |= {"owner", "at", "first_at", "last_at", "delivered_at", "duration_s"}

    def blank(part: object) -> object:
        if isinstance(part, dict):
            return {name: type(one).__name__ if name in varying else blank(one) for name, one in part.items()}
        return [blank(one) for one in part] if isinstance(part, list) else part

    return msgspec.convert(blank(document), dict[str, Any])
