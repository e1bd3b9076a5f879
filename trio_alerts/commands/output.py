"""Rows and documents on standard output, notes on standard error."""

import sys
from collections.abc import Iterable, Mapping, Sequence

import msgspec


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]], shares: Mapping[str, int], noun: tuple[str, str]
) -> None:
    """Print a table in a terminal (see `print_table`); elsewhere lines of cells, separated by tabs, the names first."""
    if sys.stdout.isatty():
        from trio_alerts.commands.table import print_table  # noqa: PLC0415, rich: only a terminal needs it

        print_table(columns, rows, shares, noun)
    else:
        print_lines((columns, *rows))


def print_lines(rows: Iterable[Sequence[str]]) -> None:
    """Print cells, separated by tabs, a line a row."""
    sys.stdout.writelines("\t".join(row) + "\n" for row in rows)


def print_json(document: object) -> None:
    """Print a document on a line of its own, in UTF-8 whatever the locale; `msgspec.Raw` as it is."""
    sys.stdout.buffer.write(msgspec.json.encode(document) + b"\n")


def print_note(text: str, *, as_json: bool, **fields: object) -> None:
    """Tell on standard error what is no part of the data: a line, or an object with these fields and the text."""
    sys.stdout.flush()
    sys.stderr.write(f"{msgspec.json.encode({'message': text, **fields}).decode() if as_json else text}\n")
    sys.stderr.flush()
