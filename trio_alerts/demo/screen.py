"""What the demo shows: a live view in a terminal, a line a second elsewhere, and the summary at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live

from trio_alerts.demo.tables import SHOWN, View, live_view

WIDTH = 80  # wider lines are no easier to read
LINE_EVERY_S = 1.0


class Screen:
    """Shows views and events; made by `open_screen`."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self.console = console
        self._live = live
        self._next_line_s = 0.0

    def show(self, view: View) -> None:
        """Show how things stand; may be called as often as anything changes."""
        if self._live is not None:
            self._live.update(live_view(view), refresh=True)
        elif view.elapsed_s >= self._next_line_s:
            self._next_line_s = view.elapsed_s + LINE_EVERY_S
            self.console.print(plain_line(view), markup=False, highlight=False, soft_wrap=True)

    def report(self, elapsed_s: float, event: str) -> None:
        """Tell of an event; in a terminal the view itself shows what became of each process."""
        if self._live is None:
            self.console.print(f"{elapsed_s:5.1f} s  {event}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def open_screen(console: Console | None = None) -> Iterator[Screen]:
    """Show things while the block runs; a live view is gone afterwards, and the cursor is back."""
    console = console or Console(highlight=False)
    console.width = min(console.width, WIDTH)
    if not console.is_terminal or console.is_dumb_terminal:
        yield Screen(console, None)
        return
    # No refreshing of its own: a thread would draw at moments when it is the workers' turn on the processor.
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield Screen(console, live)


def plain_line(view: View) -> str:
    """Return a view as one line of text."""
    counts = view.counts
    states = " ".join(f"{state} {counts.by_state.get(state, 0)}" for state in SHOWN)
    rate = "" if view.rate_per_s is None else f" rate {view.rate_per_s:.0f}/s"
    return (
        f"{view.elapsed_s:5.1f} s  emitted {counts.emitted} stored {counts.stored} "
        f"{states} quarantined {counts.dead}{rate}"
    )
