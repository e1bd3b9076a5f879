"""Cells in which the store gets a new index while alerts come."""

import signal

from tests.crash.cell import Cell, CellFailedError, RunningCell
from trio_alerts.pipeline.fault_points import MIGRATION

STEPS = MIGRATION[:-1]


def _killed_at_each_step(cell: RunningCell) -> None:
    """`migrate` dies once it has named, created, copied, blocked, caught up, verified, moved the alias."""
    cell.begin()
    cell.emit(per_s=8)
    cell.until_accepted(20)
    for step in STEPS:
        _killed(cell, step)
    cell.notes.append(f"{len(STEPS)} calls killed")


def _two_at_once(cell: RunningCell) -> None:
    """One that was cut in its last step is undone; then two work on the same migration, and a second one follows."""
    cell.begin()
    cell.emit(per_s=10)
    cell.until_accepted(20)
    _killed(cell, "migrate_verified")
    cell.command("migrate", "--abort")
    calls = [cell.start("migrate") for _ in range(2)]
    ends = [(call.communicate()[1].decode(), call.returncode) for call in calls]
    if any(code for _, code in ends):
        raise CellFailedError(f"two at once ended with {ends}")
    cell.command("migrate")
    cell.notes.append("1 aborted, 2 at once, 1 more")


def _killed(cell: RunningCell, step: str) -> None:
    call = cell.start("migrate", fault=f"{step}:kill")
    logged = call.communicate()[1].decode()
    if call.returncode != -signal.SIGKILL:
        raise CellFailedError(f"not killed at {step}: {call.returncode}, {logged}")


def _balanced(cell: RunningCell) -> str:
    """The program's own ledger has to balance as well, and whoever wrote to the old index has gone over."""
    call = cell.start("audit", "--deep")
    printed, logged = (part.decode() for part in call.communicate())
    status, behind = cell.opensearch.request("GET", f"/{cell.alias}")
    if status != 200 or f"{cell.alias}-000001" in behind:
        return f"the alias leads to {behind}"
    return f"audit ended with {call.returncode}: {printed} {logged}" if call.returncode else ""


CELLS = (
    Cell(
        name="migrate-killed",
        about="a new index; kill -9 to `migrate` at each of its steps",
        play=_killed_at_each_step,
        check=_balanced,
    ),
    Cell(
        name="migrate-at-once",
        about="`migrate` killed while writes wait, `--abort`, two `migrate` at once, and one more",
        play=_two_at_once,
        check=_balanced,
    ),
)
