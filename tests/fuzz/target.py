"""What a fuzz target is: one function that makes one input from a source of chance, and checks what becomes of it."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Target:
    """One border of the program, fed with generated input.

    Args:
        name: For `--only` and for messages, such as `receiver answers`.
        case: Makes one input from `random`, gives it to the real code and raises `AssertionError` when a promise
            breaks. Any other exception that gets out is a crash, and a failure as well. It runs no real server, waits
            only in virtual time and does the same again with the same seed.
        share: How many cases of this target are run for each case of a target with share 1.
    """

    name: str
    case: Callable[[Random], None]
    share: int = 1


@dataclass(frozen=True)
class Failed:
    """A case that broke a promise; `error` is its traceback, as text that one process can pass to another."""

    target: str
    seed: int
    error: str


def run_case(target: Target, seed: int) -> Failed | None:
    """Run the case of one seed; None if every promise was kept."""
    try:
        target.case(Random(f"{target.name} {seed}"))
    except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - whatever gets out of the program is a finding
        return Failed(target.name, seed, "".join(traceback.format_exception(error)))
    return None
