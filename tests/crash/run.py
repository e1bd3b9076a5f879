"""Runs one cell and judges it."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.cell import Cell, CellFailedError, Outcome, RunningCell
from tests.crash.servers import Servers
from tests.support.ledger import Balance
from tests.support.servers import UnavailableError


@dataclass
class CellResult:
    """What came of a cell: it is balanced if `faults` is empty."""

    cell: Cell
    balance: Balance
    drain_s: float | None
    notes: list[str]
    faults: list[str] = field(default_factory=list)
    folder: Path | None = None  # where the workers' logs are, if something was wrong


def run_cell(cell: Cell, servers: Servers) -> CellResult:
    """Run one cell to its end; whatever happens in it, others can run after it.

    Raises:
        UnavailableError: A server that it needs cannot be had on this machine.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"trio-alerts-crash-{cell.name}-"))
    try:
        result = _run(cell, servers, folder)
    except UnavailableError:
        shutil.rmtree(folder)
        raise
    except Exception as fault:  # noqa: BLE001 - a server that did not come back, say: it is this cell's result
        result = CellResult(cell, Balance(), None, [], [f"{type(fault).__name__}: {fault}"])
    if result.faults:
        result.folder = folder
    else:
        shutil.rmtree(folder)
    return result


def _run(cell: Cell, servers: Servers, folder: Path) -> CellResult:
    faults: list[str] = []
    with RunningCell(cell, servers, folder) as running:
        try:
            cell.play(running)
            outcome = running.outcome or running.finish()
        except CellFailedError as fault:
            faults.append(str(fault))
            outcome = running.give_up()
        faults += _faults(running, outcome)
        if running.forgotten:
            running.notes.append(f"{outcome.balance.unmarkable} repeats that no record can mark any more")
        return CellResult(cell, outcome.balance, outcome.drain_s, running.notes, faults)


def _faults(cell: RunningCell, outcome: Outcome) -> list[str]:
    """Say everything that must not be."""
    plan, found, said = cell.plan, outcome.balance, cell.crew.log()
    expected = {"failed": 0, "quarantined": 0, "held": 0, **plan.expected(cell)}
    wrong = {name: number for name, number in expected.items() if getattr(found, name) != number}
    unplanned = [code for code in cell.crew.ends if code not in plan.ends]
    candidates = [
        "it did not drain" if outcome.drain_s is None else "",
        f"the last workers ended with {outcome.codes}, not with 0" if any(outcome.codes) else "",
        *(f"{name}: {getattr(found, name)}, not {number}" for name, number in wrong.items()),
        *found.faults,
        f"processes ended with {unplanned}" if unplanned else "",
        "a traceback in a log" if "Traceback" in said else "",
        "the proxies spoiled nothing: this proves nothing" if cell.proxies and not cell.spoiled else "",
        plan.check(cell),
    ]
    return [fault for fault in candidates if fault]
