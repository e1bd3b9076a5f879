"""Cells: what one process counts, another one reads, and a replacement goes on from."""

from pathlib import Path

import pytest
from loguru import logger

from trio_alerts.meter.cells import CELLS, SharedCells, inherited_cells, now_ms
from trio_alerts.meter.layout import Layout

LAYOUT = Layout(["pager", "desk"])


def child_of(shared: SharedCells, layout: Layout = LAYOUT) -> memoryview:
    return inherited_cells(layout, {CELLS: str(shared.descriptor)})


def test_a_replacement_counts_on() -> None:
    """What a child counted is there for its parent and for its replacement; its gauges end with it."""
    shared = SharedCells.for_children(LAYOUT, 2)[2]
    child_of(shared)[LAYOUT.attempts] += 3
    child_of(shared)[LAYOUT.in_flight] = 7
    assert (3, 7) == (shared.cells[LAYOUT.attempts], shared.cells[LAYOUT.in_flight])

    shared.ended()
    assert (3, 0) == (shared.cells[LAYOUT.attempts], shared.cells[LAYOUT.in_flight])
    child_of(shared)[LAYOUT.attempts] += 2
    assert 5 == shared.cells[LAYOUT.attempts]


def test_each_child_has_cells_of_its_own() -> None:
    """Two children never count into the same memory."""
    one, two = SharedCells.for_children(LAYOUT, 2).values()
    one.cells[LAYOUT.attempts] = 1
    assert 0 == two.cells[LAYOUT.attempts]


def test_a_child_with_other_channels_is_not_counted() -> None:
    """Its cells would mean something else: it counts for itself, and says so."""
    shared, lines = SharedCells(LAYOUT), list[str]()
    sink = logger.add(lambda message: lines.append(str(message)), format="{message}")
    try:
        for other in (Layout(["pager", "chat"]), Layout([f"c{n}" for n in range(1000)])):
            cells = child_of(shared, other)
            cells[other.attempts] += 1
    finally:
        logger.remove(sink)
    assert 0 == shared.cells[LAYOUT.attempts]
    assert [
        "the settings of the channels have changed since the start: /metrics does not count this process\n"
    ] * 2 == lines


def test_without_a_parent_a_process_has_its_own() -> None:
    """Nothing is inherited where nothing was passed."""
    assert [0] * LAYOUT.size == list(inherited_cells(LAYOUT, {}))


def test_a_start_has_time() -> None:
    """A child that was started just now is not one whose loop hangs."""
    shared = SharedCells(LAYOUT)
    shared.starting()
    assert now_ms() < shared.cells[LAYOUT.beat]


@pytest.mark.parametrize("channels", [[], ["pager"], ["pager", "desk"], ["desk", "pager"]])
def test_no_two_figures_share_a_cell(channels: list[str]) -> None:
    """Each block begins where the one before ends, and each layout has its own fingerprint."""
    layout = Layout(channels)
    begins = [
        value
        for name, value in vars(layout).items()
        if name not in ("channels", "size", "fingerprint", "gauges", "_most")
    ]
    assert sorted(set(begins)) == begins
    assert layout.size > begins[-1]
    others = [Layout(other) for other in ([], ["pager"], ["pager", "desk"], ["desk", "pager"]) if other != channels]
    assert layout.fingerprint not in {other.fingerprint for other in others}


def test_the_memory_is_no_file() -> None:
    """Nothing is left on a disk by a process that is killed."""
    shared = SharedCells(LAYOUT)
    assert "memfd:" in str(Path(f"/proc/self/fd/{shared.descriptor}").readlink())
