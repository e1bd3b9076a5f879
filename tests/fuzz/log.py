"""Lines of the log: whatever text others wrote, in messages, fields and exceptions."""

import datetime as dt
import json
import math
from random import Random
from types import SimpleNamespace
from typing import Any

from tests.fuzz.target import Target
from trio_alerts.log import as_json, as_text

MOST_DEPTH = 3
NESTED = FAULTY = 0.3
_PIECES = (
    *("{}", "{0}", "{x!r}", "{", "}", "<red>", "</>", "\\", "%s", '"', "plain", " ", "é", "東京", "\U0001f525"),
    *("\n", "\r\n", "\x1b[2J", "\x00", "\u202e", "\ud800", "\u2028", "\x85"),
)


def text(random: Random) -> str:
    """Return a text of what breaks lines, formats, encodings and terminals."""
    return "".join(random.choices(_PIECES, k=random.randrange(8)))


def value(random: Random, depth: int = 0) -> object:
    """Return what a field may hold."""
    if depth < MOST_DEPTH and random.random() < NESTED:
        parts = [value(random, depth + 1) for _ in range(random.randrange(3))]
        return parts if random.random() < NESTED else {text(random): part for part in parts}
    number = 2 ** random.randrange(80)
    return random.choice(
        (text(random), number, number * 1e280, None, text(random).encode("utf-8", "replace"), math.nan)
    )


def lines_of_the_log(random: Random) -> None:
    """One record is one line in either format, and JSON reads it."""
    record: Any = {
        "time": dt.datetime.fromtimestamp(random.randrange(2**32), dt.UTC),
        "level": SimpleNamespace(name=random.choice(("INFO", "ERROR"))),
        "message": text(random),
        "process": SimpleNamespace(id=1),
        "extra": {name: value(random) for name in random.sample(("record_id", "level", "message", "pid"), k=3)},
        "exception": SimpleNamespace(value=ValueError(text(random))) if random.random() < FAULTY else None,
    }
    line = as_json(record)
    line.encode()
    assert "\n" not in line
    parsed = json.loads(line)
    assert isinstance(parsed["message"], str)
    assert (record["exception"] is None) == ("exception" not in parsed)
    first, *more = as_text(record).split("\n")
    assert first.isprintable(), first
    assert not more or record["exception"] is not None, more


TARGETS = [Target("lines of the log", lines_of_the_log)]
