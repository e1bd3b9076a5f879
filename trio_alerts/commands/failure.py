"""What ended the program: its exit code, and the message about it."""

from collections.abc import Iterator
from dataclasses import dataclass

from trio_alerts.errors import AlertError, LedgerError, SchemaError, SettingsError, StartError

BUG = "bug"
INTERRUPTED = 130  # as shells count a process that SIGINT ended: 128 + 2


@dataclass(frozen=True)
class Failure:
    """How the program ends: `message` is empty if there is nothing to say, and `kind` is for programs."""

    exit_code: int
    kind: str
    message: str

    @property
    def is_bug(self) -> bool:
        """Whether a traceback is wanted."""
        return self.kind == BUG


def explain(error: BaseException) -> Failure:
    """Find what to report, in an error or a group of them, however nested.

    The gravest decides, in this order:
    1. Anything but an `AlertError` is a bug: traceback, exit code 1.
    2. An interrupt at the terminal: nothing to say.
    3. `AlertError`s by what must be fixed first: the index (3), where alerts went (5), a backend (4), the settings
       (2); then those of exit code 1, which often only follow from the others. All messages are reported, once each.
    """
    leaves = list(_leaves(error))
    for leaf in leaves:
        if not isinstance(leaf, AlertError | KeyboardInterrupt):
            return Failure(1, BUG, f"this is a bug: {type(leaf).__name__}: {leaf}")
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return Failure(INTERRUPTED, "interrupted", "")
    known = sorted((leaf for leaf in leaves if isinstance(leaf, AlertError)), key=_gravity)
    return Failure(known[0].exit_code, known[0].kind, "\n".join(dict.fromkeys(map(str, known))))


_GRAVEST_FIRST = [error.exit_code for error in (SchemaError, LedgerError, StartError, SettingsError, AlertError)]


def _gravity(error: AlertError) -> int:
    return _GRAVEST_FIRST.index(error.exit_code)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
