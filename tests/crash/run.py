"""Runs one cell and judges it."""

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.ledger import Balance
from tests.crash.plant import Plant
from tests.crash.scene import Cell, CellFailedError, Outcome, Scene
from tests.support.servers import UnavailableError

NAMED = 5  # IDs that are named of each kind of fault; the rest is counted


@dataclass
class Result:
    """What came of a cell: it is balanced if `faults` is empty."""

    cell: Cell
    balance: Balance
    drain_s: float | None
    notes: list[str]
    faults: list[str] = field(default_factory=list)
    folder: Path | None = None  # where the workers' logs are, if something was wrong


def run_cell(cell: Cell, plant: Plant) -> Result:
    """Run one cell to its end; whatever happens in it, others can run after it.

    Raises:
        UnavailableError: A server that it needs cannot be had on this machine.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"trio-alerts-crash-{cell.name}-"))
    try:
        result = _run(cell, plant, folder)
    except UnavailableError:
        shutil.rmtree(folder)
        raise
    except Exception as fault:  # noqa: BLE001 - a server that did not come back, say: it is this cell's result
        result = Result(cell, Balance(), None, [], [f"{type(fault).__name__}: {fault}"])
    if result.faults:
        result.folder = folder
    else:
        shutil.rmtree(folder)
    return result


def _run(cell: Cell, plant: Plant, folder: Path) -> Result:
    faults: list[str] = []
    with Scene(cell, plant, folder) as scene:
        try:
            cell.play(scene)
            outcome = scene.outcome or scene.finish()
        except CellFailedError as fault:
            faults.append(str(fault))
            outcome = scene.give_up()
        faults += _faults(scene, outcome)
        if scene.forgotten:
            scene.notes.append(f"{outcome.balance.unmarkable} repeats that no record can mark any more")
        return Result(cell, outcome.balance, outcome.drain_s, scene.notes, faults)


def _faults(scene: Scene, outcome: Outcome) -> list[str]:
    """Say everything that must not be."""
    cell, found, said = scene.cell, outcome.balance, scene.crew.log()
    expected = {"failed": 0, "quarantined": 0, "held": 0, **cell.expected(scene)}
    wrong = {name: number for name, number in expected.items() if getattr(found, name) != number}
    unplanned = [code for code in scene.crew.ends if code not in cell.ends]
    candidates = [
        "it did not drain" if outcome.drain_s is None else "",
        f"the last workers ended with {outcome.codes}, not with 0" if any(outcome.codes) else "",
        *(f"{name}: {getattr(found, name)}, not {number}" for name, number in wrong.items()),
        "" if found.sum == found.emitted else f"{found.emitted} were emitted, and {found.sum} are accounted for",
        f"lost: {_named(found.lost)}" if found.lost else "",
        f"duplicates not marked: {_named([*found.unmarked])}" if found.unmarked else "",
        f"never emitted: {_named(found.stray)}" if found.stray else "",
        f"processes ended with {unplanned}" if unplanned else "",
        "a traceback in a log" if "Traceback" in said else "",
        "the proxies spoiled nothing: this proves nothing" if scene.proxies and not scene.spoiled else "",
        cell.check(scene),
    ]
    return [fault for fault in candidates if fault]


def _named(ids: list[str]) -> str:
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return ", ".join(ids[:NAMED]) + more
