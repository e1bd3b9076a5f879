"""/healthz as its cells decide it: which process hangs, and that an outage or a death is none of its business."""

from collections.abc import Callable

import pytest

from trio_alerts.meter.cells import Cells, SharedCells, own_cells
from trio_alerts.meter.layout import Layout
from trio_alerts.settings.settings import Settings
from trio_alerts.web.health import Health

LAYOUT = Layout(["webhook"])
SETTINGS = Settings()
NOW_MS = 1_000_000_000


def problems(**ages_s: float) -> list[tuple[str, str]]:
    cells = {"worker process 1": own_cells(LAYOUT), "worker process 2": own_cells(LAYOUT)}
    for one in cells.values():
        one[LAYOUT.beat] = NOW_MS
    for name, age_s in ages_s.items():
        cells["worker process 2"][getattr(LAYOUT, name)] = NOW_MS - round(age_s * 1000)
    return list(Health(LAYOUT, cells, SETTINGS).problems(NOW_MS))


def test_all_is_well() -> None:
    """Loops turn, readers wait for entries, workers send."""
    assert [] == problems(beat=1.0, reading_since=2.0, holding_since=15.0)


def test_a_loop_that_does_not_turn() -> None:
    """The process is named, with how long it has been silent; its other figures are as old and say nothing."""
    assert [] == problems(beat=10.0)
    assert [("worker process 2", "its loop has not turned for 11 s")] == problems(
        beat=11.0, reading_since=1000.0, holding_since=1000.0
    )


@pytest.mark.parametrize(
    ("name", "bound_s", "problem"),
    [
        ("reading_since", 2 + 3 * 5 + 10, "its reader has not come back for 28 s"),
        ("holding_since", 2 * 20 + 6 * 10 + 4 * 5 + 10, "a worker has held an alert for 131 s"),
    ],
)
def test_a_wait_that_is_longer_than_its_bounds(name: str, bound_s: float, problem: str) -> None:
    """The bounds follow from the time-outs."""
    assert [] == problems(**{name: bound_s})
    assert [("worker process 2", problem)] == problems(**{name: bound_s + 1})


@pytest.mark.parametrize("change", [SharedCells.ended, SharedCells.starting])
def test_a_process_that_ended_or_starts_is_no_problem(change: Callable[[SharedCells], None]) -> None:
    """Its parent starts another, which has time until its loop must turn."""
    shared = SharedCells(LAYOUT)
    shared.cells[LAYOUT.beat], shared.cells[LAYOUT.holding_since] = 1, 1
    change(shared)
    cells: Cells = shared.cells
    late_ms = cells[LAYOUT.beat] + 9_000
    cells[LAYOUT.holding_since] = 0
    assert [] == list(Health(LAYOUT, {"worker process 1": cells}, SETTINGS).problems(late_ms))
