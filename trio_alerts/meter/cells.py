"""Cells of 8 bytes, in memory that outlives the process which counts in them.

One process writes, another one may read at any time: an aligned cell is written at once, and never seen half.
"""

import mmap
import os
import tempfile
import time
from collections.abc import Mapping
from typing import Self, TypeAlias

from loguru import logger

from trio_alerts.meter.layout import Layout

CELLS = "_TRIO_ALERTS_CELLS"  # to a child: the descriptor of its cells; not TRIO_ALERTS_…: that would be a setting
START_S = 50.0  # how much longer than a turn of the loop a process may take to start

Cells: TypeAlias = memoryview  # of signed 64-bit integers


def own_cells(layout: Layout) -> Cells:
    """Return cells in this process's own memory."""
    return memoryview(bytearray(8 * layout.size)).cast("q")


def now_ms() -> int:
    """Return the system's monotonic time, the same in every process, in milliseconds."""
    return time.monotonic_ns() // 1_000_000


class SharedCells:
    """The cells of one child, made by its parent. The child's replacement gets the same, and counts on.

    Attributes:
        descriptor: Of the memory; to be passed to the child.
        cells: The parent's view.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.descriptor = anonymous_file("trio-alerts-cells")
        os.ftruncate(self.descriptor, 8 * layout.size)
        self.cells = _mapped(self.descriptor, layout)
        self.cells[0] = layout.fingerprint

    @classmethod
    def for_children(cls, layout: Layout, processes: int) -> dict[int, Self]:
        """Return the cells of each child, by its number."""
        return {number: cls(layout) for number in range(1, processes + 1)}

    def starting(self) -> None:
        """Note that a child is started now: it has time until its loop must turn."""
        self.cells[self._layout.beat] = now_ms() + round(START_S * 1000)

    def ended(self) -> None:
        """Note that the child has ended: nothing is in flight there any more."""
        for place in range(self._layout.gauges, self._layout.size):
            self.cells[place] = 0


def inherited_cells(layout: Layout, environ: Mapping[str, str] = os.environ) -> Cells:
    """Return the cells that the parent made for this process, or else its own.

    A child that was started again with other channels than its parent would count into the wrong cells: it says that
    it is not counted.
    """
    descriptor = environ.get(CELLS)
    if descriptor is None:
        return own_cells(layout)
    try:
        cells = _mapped(int(descriptor), layout)
    except (OSError, ValueError):
        cells = own_cells(layout)
    if cells[0] == layout.fingerprint:
        return cells
    logger.warning("the settings of the channels have changed since the start: /metrics does not count this process")
    return own_cells(layout)


def anonymous_file(name: str) -> int:
    """Return the descriptor of memory that is no file: it is gone when nobody has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:  # not Linux
        return os.dup(file.fileno())


def _mapped(descriptor: int, layout: Layout) -> Cells:
    return memoryview(mmap.mmap(descriptor, 8 * layout.size)).cast("q")
