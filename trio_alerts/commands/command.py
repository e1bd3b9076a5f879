"""What a command is, for the command line."""

import argparse
from collections.abc import Callable, Collection
from dataclasses import dataclass

from trio_alerts.settings.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Command:
    """One command.

    Args:
        execute: Does it, and returns the exit code; an `AlertError` that it raises is shown as its message.
        about: What `--help` says below the sentence: what to know before using it.
        examples: How it is called, one a line, without the program's name.
        operands: What it takes besides options, for the usage line.
        add_options: Adds its own options and operands.
        json: What it prints with `--json`.
        settings: The settings that `--help` explains, by section or name; None: all of them. It accepts all of them.
        service: It runs until it is stopped; what ends it then goes to the log, in the log's format.
    """

    execute: Callable[[argparse.Namespace, Settings], int]
    about: str
    examples: tuple[str, ...]
    json: str
    operands: tuple[str, ...] = ()
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _: None
    settings: Collection[str] | None = None
    service: bool = False
