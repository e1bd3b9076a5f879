"""`/healthz`: which process does not make progress, as its cells show it. Pure."""

from collections.abc import Iterator, Mapping

from trio_alerts.meter.cells import Cells
from trio_alerts.meter.layout import Layout
from trio_alerts.settings.settings import Settings

BEAT_BOUND_S = 10.0  # a loop that is busy for so long renews nothing: others take its alerts
SLACK_S = 10.0  # what a busy machine may add to a wait that has a bound


class Health:
    """Looks at the cells of every process.

    Args:
        layout: Which cell means what.
        processes: The cells of each process, by what it is called.
        settings: Have the bounds, which no reload changes.
    """

    def __init__(self, layout: Layout, processes: Mapping[str, Cells], settings: Settings) -> None:
        redis_s, store_s = settings.redis_timeout_s, settings.store_timeout_s
        # One read, after a look at each group, which may have to be created first.
        self.read_bound_s = settings.block_s + 3 * redis_s + SLACK_S
        # Claimed, persisted, sent, updated, noted, acknowledged; a write whose answer is lost is read again.
        attempt_s = settings.connect_timeout_s + settings.send_timeout_s
        self.hold_bound_s = 2 * attempt_s + 6 * store_s + 4 * redis_s + SLACK_S
        self.layout = layout
        self.processes = processes

    def all_read(self) -> bool:
        """Tell whether every process is there and has begun to read."""
        return all(cells[self.layout.reading] for cells in self.processes.values())

    def problems(self, now_ms: int) -> Iterator[tuple[str, str]]:
        """Yield which process hangs, and with what."""
        layout = self.layout
        for name, cells in self.processes.items():
            silent_s = (now_ms - cells[layout.beat]) / 1000
            if not cells[layout.beat]:
                continue  # it has ended, and its parent starts another
            if silent_s > BEAT_BOUND_S:
                yield name, f"its loop has not turned for {silent_s:.0f} s"
                continue
            read_s = (now_ms - (cells[layout.reading_since] or now_ms)) / 1000
            if read_s > self.read_bound_s:
                yield name, f"its reader has not come back for {read_s:.0f} s"
            held_s = (now_ms - (cells[layout.holding_since] or now_ms)) / 1000
            if held_s > self.hold_bound_s:
                yield name, f"a worker has held an alert for {held_s:.0f} s"

    def signs(self) -> Iterator[str]:
        """Yield what holds alerts up, as the processes see it."""
        layout, running = self.layout, [cells for cells in self.processes.values() if cells[self.layout.beat]]
        for place, name in enumerate(_BACKENDS):
            if any(cells[layout.outages + place] for cells in running):
                yield f"workers wait for {name}"
        if running and all(cells[layout.in_flight] >= cells[layout.workers] > 0 for cells in running):
            yield "every worker is busy"


_BACKENDS = ("Redis", "the store")  # in the order of `layout.BACKENDS`
