"""Logging: to stderr, one record a line, as text for people or as JSON for machines.

A message says everything that a reader needs; text shows it alone. The named values of a message, and what `bind` and
`contextualize` add, are fields of their own in JSON; `docs/logs.toml` has the name of each. One that begins with `_` is
the words for what another field gives as a figure or a list: it is only for the message. `_below` is lines that text
shows below it.
"""

import contextlib
import datetime as dt
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
from loguru import logger

from trio_alerts.journal import is_journal, with_level
from trio_alerts.log_sink import LogSink
from trio_alerts.text import one_line

if TYPE_CHECKING:
    from loguru import Message, Record

LogFormat = Literal["text", "json"]
LEVELS = ("debug", "info", "warning", "error")

_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}  # ANSI; INFO stays as it is
_ENCODER = msgspec.json.Encoder(enc_hook=str)


def set_up_logging(log_format: LogFormat, level: str = "info") -> None:
    """Log to stderr. May be called again: the last call counts.

    Values of variables are never shown: they can be secrets, or payloads.

    Args:
        log_format: `text`, coloured in a terminal, or `json`: one object a line. The journal of systemd gets the level
            of each line in its own form, and sets the time itself.
        level: The lowest of `LEVELS` to show.
    """
    logger.remove()
    logger.add(
        _Stderr(log_format), level=level.upper(), format="{message}", colorize=False, backtrace=False, diagnose=False
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _FromLibraries) for handler in root.handlers):
        root.addHandler(_FromLibraries())


def print_error(text: str) -> None:
    """Print the final error of a command to stderr, after what was logged. Nothing is logged after it."""
    logger.remove()
    stderr = _Stderr("text")
    stderr.write_text(text, "ERROR")
    stderr.stop()


class _Stderr:
    """Stderr as a log handler that a slow reader does not block.

    A stream without a descriptor, as tests have, is written to as it is.
    """

    def __init__(self, log_format: LogFormat) -> None:
        self._sink: LogSink | None = None
        self._to_journal = False
        with contextlib.suppress(AttributeError, OSError, ValueError):
            self._sink = LogSink(sys.stderr.fileno(), _report_dropped)
            self._to_journal = is_journal(sys.stderr.fileno())
        self._render: Callable[[Record], str] = as_json if log_format == "json" else as_text
        if self._to_journal and log_format == "text":
            self._render = _without_time

    def write(self, message: "Message") -> None:
        self.write_text(self._render(message.record) + "\n", message.record["level"].name)

    def write_text(self, text: str, level: str) -> None:
        if self._to_journal:
            text = with_level(text, level)
        if self._sink is not None:
            self._sink.write(text)
        else:
            sys.stderr.write(text)

    def stop(self) -> None:
        if self._sink is not None:
            self._sink.stop()


def _report_dropped(lines: int) -> None:
    logger.warning("{lines} log lines were dropped: stderr was not read in time", lines=lines)


def as_text(record: "Record") -> str:
    """Return a record as a line for people, and the traceback below it."""
    level = record["level"].name
    line = f"{_time(record)} {_without_time(record)}"
    if level in _COLOURS and sys.stderr.isatty() and not os.environ.get("NO_COLOR"):
        first, *below = line.split("\n", 1)
        line = "\n".join((f"\x1b[{_COLOURS[level]}m{first}\x1b[0m", *below))
    return line


def _without_time(record: "Record") -> str:
    line = f"{record['level'].name:<8} {one_line(record['message'])}"
    below = "".join(f"\n    {one_line(one)}" for one in record["extra"].get("_below", ()))
    return line + below + _traceback(record, before="\n").rstrip("\n")


def as_json(record: "Record") -> str:
    """Return a record as one line for machines."""
    fields: dict[str, object] = {
        "time": _time(record),
        "level": record["level"].name.lower(),
        "message": record["message"],
        "pid": record["process"].id,
    }
    # A field that is named like one of ours does not hide it.
    fields |= {
        f"{name}_" if name in fields else name: _shown(value)
        for name, value in record["extra"].items()
        if not name.startswith("_")
    }
    if record["exception"] is not None:
        fields["exception"] = _traceback(record)
    try:
        return _ENCODER.encode(fields).decode()
    except (UnicodeEncodeError, TypeError, ValueError, RecursionError):
        # Lone surrogates, keys that are not text, cycles: better spelled out than lost.
        return _ENCODER.encode(_spelled_out(fields)).decode()


def _shown(value: object) -> object:
    # An address would be written field by field, the user included: it is what it shows of itself.
    return str(value) if is_dataclass(value) else value


def _spelled_out(fields: Mapping[str, object]) -> dict[str, str]:
    return {
        name.encode(errors="backslashreplace").decode(): str(value).encode(errors="backslashreplace").decode()
        for name, value in fields.items()
    }


def _time(record: "Record") -> str:
    return record["time"].astimezone(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _traceback(record: "Record", before: str = "") -> str:
    exception = record["exception"]
    if exception is None or exception.value is None:
        return ""
    return before + "".join(traceback.format_exception(exception.value))


class _FromLibraries(logging.Handler):
    """Takes the warnings of libraries from `logging` into our log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        logger.log(
            "ERROR" if record.levelno >= logging.ERROR else "WARNING",
            "{library}: {reason}",
            library=record.name,
            reason=record.getMessage(),
        )
