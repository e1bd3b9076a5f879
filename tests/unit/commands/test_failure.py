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
        (SettingsError("s"), Failure(2, "settings", "s")),
        (SchemaError("m"), Failure(3, "schema", "m")),
        (StartError("r"), Failure(4, "backend", "r")),
        (LedgerError("l"), Failure(5, "ledger", "l")),
        (Interrupted("twice"), Failure(1, "interrupted", "twice")),
        (KeyboardInterrupt(), Failure(130, "interrupted", "")),
        (group(SchemaError("m")), Failure(3, "schema", "m")),
        (group(Unavailable("u"), QuarantineHalt("q"), SchemaError("m")), Failure(3, "schema", "m\nq\nu")),
        (group(StartError("b"), StartError("a"), StartError("b")), Failure(4, "backend", "b\na")),
        (group(Unavailable("u"), KeyboardInterrupt()), Failure(130, "interrupted", "")),
        (group(SchemaError("m"), KeyError("k")), Failure(1, "bug", "this is a bug: KeyError: 'k'")),
        (group(KeyboardInterrupt(), KeyError("k")), Failure(1, "bug", "this is a bug: KeyError: 'k'")),
        (ZeroDivisionError("z"), Failure(1, "bug", "this is a bug: ZeroDivisionError: z")),
    ],
)
def test_gravest_error_decides(error: BaseException, expected: Failure) -> None:
    """A bug, an interrupt, then 3, 5, 4, 2, 1; every message once, the gravest first, however groups are nested."""
    assert expected == explain(error)
