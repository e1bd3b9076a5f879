"""Cells in which old records are deleted: who dies over it leaves the count exact, and nothing is sent again."""

import json
import signal
from functools import partial

from tests.crash.cell import ALERTS, KILLED, PER_S, Cell, CellFailedError, RunningCell
from tests.support.fakes.world import GROUP

KEEPS_S = 9.0  # the shortest that the quick settings allow
RETURNED = 20  # entries


def _killed_over_it(cell: RunningCell) -> None:
    """Every record is settled and its entry trimmed; processes die at the first records that they delete."""
    _until_delivered(cell)
    _trim(cell)
    cell.until_ended(2)
    cell.until(partial(_all_pruned, cell), f"all {ALERTS} records are deleted")
    cell.forgotten |= cell.producer.emitted.keys()
    _check_audit(cell)
    cell.notes.append(f"{cell.crew.ends.count(-signal.SIGKILL)} killed, {ALERTS} deleted and counted")


def _stream_restored(cell: RunningCell) -> None:
    """The stream is taken away, and comes back with entries whose records are deleted."""
    _until_delivered(cell)
    with cell.redis.client() as client:
        entries = client.xrange(cell.stream, count=RETURNED)
    _trim(cell)
    cell.until(partial(_all_pruned, cell), f"all {ALERTS} records are deleted")
    cell.forgotten |= cell.producer.emitted.keys() - {entry_id.decode() for entry_id, _ in entries}
    requests = cell.servers.receiver.totals().requests
    with cell.redis.client() as client, client.pipeline() as at_once:
        at_once.delete(cell.stream)
        for entry_id, fields in entries:
            at_once.xadd(cell.stream, fields, id=entry_id)
        at_once.execute()
    cell.until(lambda: len(cell.dead()) == RETURNED, f"all {RETURNED} are in the quarantine")
    if sent := cell.servers.receiver.totals().requests - requests:
        raise CellFailedError(f"{sent} were sent again")
    cell.notes.append(f"{RETURNED} came back")


def _until_delivered(cell: RunningCell) -> None:
    cell.begin()
    cell.emit(per_s=5 * PER_S)
    cell.until_emitted()
    cell.until_accepted(ALERTS + ALERTS // 3)
    cell.until(lambda: cell.pending() == 0, "all are acknowledged")


def _trim(cell: RunningCell) -> None:
    """Trim everything, as a producer's MAXLEN does in time."""
    with cell.redis.client() as client:
        client.xtrim(cell.stream, maxlen=0, approximate=False)
        if client.xpending(cell.stream, GROUP)["pending"]:
            raise CellFailedError("entries are pending")


def _all_pruned(cell: RunningCell) -> bool:
    return _stats(cell)["pruned"] == ALERTS and not cell.records()


def _stats(cell: RunningCell) -> dict[str, int]:
    figures: dict[str, int] = json.loads(cell.command("stats", "--json"))
    return figures


def _check_audit(cell: RunningCell) -> None:
    found = json.loads(cell.command("audit", "--json"))
    if (found["seen"], found["pruned"], found["balanced"]) != (ALERTS, ALERTS, True):
        raise CellFailedError(f"the audit says {found}")


CELLS = (
    Cell(
        name="prune-kill",
        about="kill -9 at `before_prune` and `after_prune`, while records are deleted for their age",
        play=_killed_over_it,
        faults=("before_prune:kill", "after_prune:kill", "after_prune:kill"),  # at least two of them get there
        settings={"keep_records_s": f"{KEEPS_S:g}"},
        ends=KILLED,
    ),
    Cell(
        name="prune-restored",
        about="DEL of the stream, which comes back with entries whose records were deleted for their age",
        play=_stream_restored,
        settings={"keep_records_s": f"{KEEPS_S:g}", "quarantine_halt": "1000"},
        expected=lambda _: {"quarantined": RETURNED},
    ),
)
