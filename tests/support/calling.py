"""Calls the program in this process, with an environment and standard streams of its own."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from loguru import logger

from trio_alerts.__main__ import main


@dataclass(frozen=True)
class Called:
    """How a call ended, and what it printed."""

    exit_code: int
    out: str
    err: str


def call(*argv: str, stdin: bytes = b"", terminal: bool = False, **environ: str) -> Called:
    """Call the program; `environ` holds settings in lower case, as in `stream="Alerts"`.

    Args:
        argv: The arguments.
        stdin: What can be read from standard input.
        terminal: Whether a terminal, of 160 columns, is at its input and output.
        environ: All that its environment holds of settings.
    """
    out, err = _Text(terminal=terminal), _Text(terminal=terminal)
    with (
        patch.dict(os.environ, {f"TRIO_ALERTS_{name.upper()}": text for name, text in environ.items()}),
        patch.dict(os.environ, {"COLUMNS": "160", "TERM": "xterm", "NO_COLOR": "1"}),
        patch.object(sys, "stdin", _Text(stdin, terminal=terminal)),
        redirect_stdout(out),
        redirect_stderr(err),
        own_logging(),
    ):
        for name in [name for name in os.environ if name.startswith("TRIO_ALERTS_")]:
            if name.removeprefix("TRIO_ALERTS_").lower() not in environ:
                del os.environ[name]
        exit_code = main(argv)
    return Called(exit_code, out.text(), err.text())


@contextmanager
def own_logging() -> Iterator[None]:
    """Put the log back as a test found it: nothing of this program writes when none of it runs."""
    try:
        yield
    finally:
        logger.remove()


class _Text(io.TextIOWrapper):
    def __init__(self, text: bytes = b"", *, terminal: bool = False) -> None:
        super().__init__(io.BytesIO(text), encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        buffer = self.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode()
