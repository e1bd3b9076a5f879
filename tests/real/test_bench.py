"""The benchmark still runs: a short run with each store that needs no server."""

from dataclasses import replace

import pytest

from bench.delays import Delay
from bench.places import StoreKind
from bench.plan import Plan
from bench.run import FEWEST_WARM, run

ALERTS = 40
SENT = FEWEST_WARM + 1 + ALERTS  # one wakes the reader


@pytest.mark.parametrize(("store", "writes"), [("none", 0), ("sqlite", 2 * SENT)])
def test_a_short_run_balances(store: StoreKind, writes: int) -> None:
    """It ends, its ledger balances (a run is void without), and all that is reported was measured."""
    result = run(Plan("trio_alerts", store, 8, ALERTS, delay=Delay("fixed", 0.01)))

    assert f"{SENT} emitted, accepted and recorded as delivered, each once" == result.ledger
    assert writes == sum(size * count for size, count in result.batches.items())
    assert result.rate > 0
    assert result.cpu_us > 0


def test_a_short_run_with_a_channel_that_hangs_balances() -> None:
    """What hung is delivered after the channel was healed; the figures are those of the other channels."""
    plan = Plan("trio_alerts", "none", 8, 3 * ALERTS, delay=Delay("fixed", 0.01), rate=100.0, channels=3, sick=True)
    result = run(replace(plan, settings={"send_timeout_s": "1", "retry_schedule_s": "0.5,1,1,1,1,60"}))

    assert f"{FEWEST_WARM + 1 + 3 * ALERTS} emitted, accepted and recorded as delivered, each once" == result.ledger
    assert result.rate > 0
    assert result.latency is not None
