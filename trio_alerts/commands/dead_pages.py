"""How entries of the quarantine are printed."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence

import msgspec

from trio_alerts.backends.redis.dead_letters import Quarantined
from trio_alerts.text import one_line

COLUMNS = ("dead id", "record", "since", "reason", "deliveries", "bytes", "error")
MAY_BE_CUT = {"error": 1}

Fields = Sequence[tuple[bytes, bytes]]


def print_entries(entries: Sequence[tuple[str, Quarantined]], *, as_json: bool) -> None:
    """Print one line an entry: a table in a terminal, elsewhere columns separated by tabs, or JSON."""
    if as_json:
        for name, entry in entries:
            _write_json(_noted(name, entry))
        return
    rows = [_cells(name, entry) for name, entry in entries]
    if sys.stdout.isatty():
        from trio_alerts.commands.table import print_table  # noqa: PLC0415, rich: only a terminal needs it

        print_table(COLUMNS, rows, MAY_BE_CUT, noun=("entry", "entries"))
        return
    for row in (COLUMNS, *rows):
        sys.stdout.write("\t".join(row) + "\n")


def print_entry(name: str, entry: Quarantined, fields: Fields, *, as_json: bool) -> None:
    """Print one entry: what was noted about it, and every field as its producer wrote it."""
    if as_json:
        _write_json(_noted(name, entry) | {"fields": [[_text(field), _text(value)] for field, value in fields]})
        return
    noted = _noted(name, entry)
    width = max(map(len, noted))
    for key, value in noted.items():
        sys.stdout.write(f"{key:<{width}}  {one_line(str(value))}\n")
    for field, value in fields:
        sys.stdout.write(f"\nfield {one_line(_text(field))}:\n")
        sys.stdout.writelines(f"  {line}\n" for line in _readable(value))


def _noted(name: str, entry: Quarantined) -> dict[str, object]:
    return {"dead_id": name} | {key: value for key, value in dataclasses.asdict(entry).items() if key != "id"}


def _cells(name: str, entry: Quarantined) -> tuple[str, ...]:
    cells = (name, entry.record_id, entry.at, entry.reason, entry.deliveries, entry.size, entry.error)
    return tuple(one_line(str(cell)) if cell != "" else "-" for cell in cells)


def _readable(value: bytes) -> Iterator[str]:
    """Lay JSON out over lines; show anything else as it is, line by line."""
    text = _text(value)
    with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        text = msgspec.json.format(value, indent=2).decode()
    for line in text.splitlines() or [""]:
        yield one_line(line)


def _text(value: bytes) -> str:
    r"""Return bytes as text; what is no UTF-8 is spelled out, as in `\xff`."""
    return value.decode(errors="backslashreplace")


def _write_json(entry: dict[str, object]) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(entry) + b"\n")  # UTF-8 in every locale
