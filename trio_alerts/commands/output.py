"""Rows and documents on standard output."""

import sys
from collections.abc import Mapping, Sequence

import msgspec


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]], shares: Mapping[str, int], noun: tuple[str, str]
) -> None:
    """Print a table in a terminal (see `print_table`); elsewhere lines of cells, separated by tabs, the names first."""
    if sys.stdout.isatty():
        from trio_alerts.commands.table import print_table  # noqa: PLC0415, rich: only a terminal needs it

        print_table(columns, rows, shares, noun)
    else:
        sys.stdout.writelines("\t".join(row) + "\n" for row in (columns, *rows))


def print_json(document: object) -> None:
    """Print a document on a line of its own, in UTF-8 whatever the locale; `msgspec.Raw` as it is."""
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")
