"""Records as a table in a terminal, as wide as the terminal is."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_GAP = 2
_NARROWEST = 6  # of a column that is cut: below, it says nothing
_COLOURS = {
    "delivered": "green",
    "retrying": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "in_doubt": "red",
    "quarantined": "red",
}


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    shares: Mapping[str, int],
    noun: tuple[str, str],
) -> None:
    """Print rows of cells that hold nothing but printable characters.

    Args:
        columns: Their names. What is in a column "state" is coloured.
        rows: As many cells each as there are columns.
        shares: The columns that may be cut, and how they share the space that the others leave.
        noun: What a row is: one, and several.
    """
    console = Console()
    widths = _widths(columns, rows, shares, console.width)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for name in columns:
        table.add_column(name, width=widths[name], no_wrap=True, overflow="ellipsis")
    for row in rows:
        cells = zip(columns, row, strict=True)
        table.add_row(*(Text(cell, _COLOURS.get(cell, "") if name == "state" else "") for name, cell in cells))
    # Where even that is too wide, the terminal breaks the lines: an ID that is cut could not be copied.
    console.width = max(console.width, sum(widths.values()) + _GAP * len(columns))
    console.print(table, crop=False)
    console.print(Text(f"1 {noun[0]}" if len(rows) == 1 else f"{len(rows):,} {noun[1]}", "dim"))


def _widths(
    columns: Sequence[str], rows: Sequence[Sequence[str]], shares: Mapping[str, int], whole: int
) -> dict[str, int]:
    wanted = {name: max(map(cell_len, (name, *cells))) for name, *cells in zip(columns, *rows, strict=True)}
    left = whole - _GAP * len(columns) - sum(width for name, width in wanted.items() if name not in shares)
    parts = sum(shares.values())
    widths = dict(wanted)
    # What one does not need, the next ones get: so those come first that need little of their share.
    for name in sorted(shares, key=lambda name: wanted[name] / shares[name]):
        widths[name] = min(wanted[name], max(_NARROWEST, left * shares[name] // parts))
        left -= widths[name]
        parts -= shares[name]
    return widths
