"""Which of several errors decides about the exit code, and what is told."""

import pytest

from trio_alerts.commands.failure import Failure, explain
from trio_alerts.errors import (
    Interrupted,
    LedgerError,
    QuarantineHalt,
    SchemaError,
    SettingsError,
    StartError,
    Unavailable,
)


def group(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("nursery", [BaseExceptionGroup("inner", errors)])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SettingsError("s"), Failure(2, "s")),
        (SchemaError("m"), Failure(3, "m")),
        (StartError("r"), Failure(4, "r")),
        (LedgerError("l"), Failure(5, "l")),
        (Interrupted("twice"), Failure(1, "twice")),
        (KeyboardInterrupt(), Failure(130, "")),
        (group(SchemaError("m")), Failure(3, "m")),
        (group(Unavailable("u"), QuarantineHalt("q"), SchemaError("m")), Failure(3, "m\nq\nu")),
        (group(StartError("b"), StartError("a"), StartError("b")), Failure(4, "b\na")),
        (group(Unavailable("u"), KeyboardInterrupt()), Failure(130, "")),
        (group(SchemaError("m"), KeyError("k")), Failure(1, "this is a bug: KeyError: 'k'", is_bug=True)),
        (group(KeyboardInterrupt(), KeyError("k")), Failure(1, "this is a bug: KeyError: 'k'", is_bug=True)),
        (ZeroDivisionError("z"), Failure(1, "this is a bug: ZeroDivisionError: z", is_bug=True)),
    ],
)
def test_gravest_error_decides(error: BaseException, expected: Failure) -> None:
    """A bug, an interrupt, then 3, 5, 4, 2, 1; every message once, the gravest first, however groups are nested."""
    assert expected == explain(error)
