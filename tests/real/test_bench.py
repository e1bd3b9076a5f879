"""The benchmark still runs: a short run with each store that needs no server."""

import pytest

from bench.delays import Delay
from bench.places import StoreKind
from bench.run import FEWEST_WARM, Plan, run

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
