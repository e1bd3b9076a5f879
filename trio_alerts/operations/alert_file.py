"""Alerts in a file: a JSON array, one object, or JSON lines; the text shows which."""

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from trio_alerts.alert import Entry, parse_entry
from trio_alerts.errors import ParseFault

_BOM = b"\xef\xbb\xbf"  # what some editors put before UTF-8
_SPACE = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class FoundAlert:
    """A valid alert: where it stands in the file, and the JSON to send."""

    place: str
    alert_id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not a valid alert: where it stands, and why."""

    place: str
    reason: str


def read_alerts(text: bytes) -> tuple[list[FoundAlert], list[Problem]]:
    """Validate everything in a file as the pipeline would; an empty file holds neither alerts nor problems."""
    alerts: list[FoundAlert] = []
    problems: list[Problem] = []
    now = dt.datetime.now(dt.UTC)
    for piece in _pieces(text.removeprefix(_BOM)):
        if isinstance(piece, Problem):
            problems.append(piece)
            continue
        place, payload = piece
        # As an entry: also what only shows when the record is made, such as lone surrogates, is found.
        entry = Entry(stream="", id="0-0", fields={b"event": payload}, record_id="0-0")
        try:
            alert = parse_entry(entry, now)
        except ParseFault as fault:
            problems.append(Problem(place, str(fault)))
        else:
            alerts.append(FoundAlert(place, alert.event.alert_id, payload))
    return alerts, problems


def _pieces(text: bytes) -> Iterator[tuple[str, bytes] | Problem]:
    match text.lstrip(_SPACE)[:1]:
        case b"[":
            yield from _items(text)
        case b"{" if (whole := _one_object(text)) is not None:
            yield whole
        case _:
            yield from _lines(text)


def _items(text: bytes) -> Iterator[tuple[str, bytes] | Problem]:
    try:
        items = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        yield _malformed(text, error)
        return
    for index, item in enumerate(items):
        place = f"item [{index}]"
        try:
            yield place, msgspec.json.format(bytes(item), indent=-1)
        except (msgspec.DecodeError, RecursionError) as error:
            yield Problem(place, f"not JSON: {error}")


def _one_object(text: bytes) -> tuple[str, bytes] | Problem | None:
    """Return the one object that is the file, over several lines; None if these are JSON lines.

    Outcomes: the first line is complete: lines. The whole is one object: that. Some line is complete: lines, with a
    malformed one first. Nothing is complete: an object with a mistake in it.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if _is_complete(lines[0]):
        return None
    try:
        return "the object", msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError) as error:
        if len(lines) == 1 or any(line.lstrip().startswith(b"{") and _is_complete(line) for line in lines):
            return None
        return _malformed(text, error)


def _lines(text: bytes) -> Iterator[tuple[str, bytes]]:
    for number, line in enumerate(text.split(b"\n"), 1):
        payload = line.strip(_SPACE)
        if payload:
            yield f"line {number}", payload


def _is_complete(line: bytes) -> bool:
    try:
        msgspec.json.format(line, indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _malformed(text: bytes, error: Exception) -> Problem:
    """Say where a text of several lines stops being JSON: msgspec counts bytes, people count lines."""
    if isinstance(error, RecursionError):
        return Problem("the file", "the JSON is nested too deeply")
    byte = re.search(r"\(byte (\d+)\)", str(error))
    number = text[: int(byte[1])].count(b"\n") + 1 if byte else text.rstrip(_SPACE).count(b"\n") + 1
    return Problem(f"line {number}", f"not JSON: {error}")
