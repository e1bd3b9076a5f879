"""Cells in which alerts are silenced, and what was kept back is sent after all: in the end, all of it is delivered."""

import json
import signal
import time

from tests.crash.cell import ALERTS, KILLED, Cell, CellFailedError, RunningCell
from tests.support.fakes.world import GROUP
from trio_alerts.backends.redis.keys import silences_key

KNOWN_WITHIN_S = 1.5  # by every process; half a second of it is the machine's
TRIES = 8  # to set a silence, each killed at another moment


def _killed_before_it_is_acknowledged(cell: RunningCell) -> None:
    """Three workers die between the record of a silenced alert and its XACK: it is not sent, and not lost."""
    cell.begin()
    silence_id = _silenced(cell)
    for ends in (2, 3):
        cell.emit(ALERTS // 2)
        cell.until_ended(ends)
        cell.until_emitted()
    cell.until(lambda: _kept_back(cell) == ALERTS, "all are suppressed")
    if sent := cell.servers.receiver.totals().requests:
        raise CellFailedError(f"{sent} requests, although all alerts are silenced")
    _undo(cell, silence_id)
    cell.notes.append(f"{cell.crew.ends.count(-signal.SIGKILL)} killed, {ALERTS} suppressed, then sent")


def _killed_at_the_write(cell: RunningCell) -> None:
    """`silence add` dies before its write or right after it: the silence is there, whole, or it is not."""
    cell.begin()
    cell.emit(per_s=30)
    for number in range(TRIES):
        _add_and_kill(cell, number)
    cell.until_emitted()
    found = [json.loads(line) for line in cell.command("silence", "list", "--json").splitlines()]
    if any(one["matchers"] != ["severity = high"] for one in found):
        raise CellFailedError(f"not what was set: {found}")
    cell.until(lambda: cell.pending() == 0, "all are acknowledged")
    kept = [record.delivery.suppressed_by for record in cell.records().values() if record.delivery.suppressed_by]
    if strangers := {*kept} - {f"silence:{one['id']}" for one in found}:
        raise CellFailedError(f"kept back by {strangers}, which nobody set")
    _undo(cell, *(one["id"] for one in found))
    cell.notes.append(f"{len(found)} of {TRIES} were set, {len(kept)} suppressed, then sent")


def _lost(cell: RunningCell) -> None:
    """Redis loses the silences: nothing is kept back any more, and what was can still be sent."""
    cell.begin()
    silence_id = _silenced(cell)
    cell.emit(ALERTS // 2)
    cell.until_emitted()
    cell.until(lambda: _kept_back(cell) == ALERTS // 2, "the first half is suppressed")
    with cell.redis.client() as client:
        client.delete(silences_key(cell.stream, GROUP))
    time.sleep(KNOWN_WITHIN_S)
    cell.emit(ALERTS // 2)
    cell.until_emitted()
    cell.until_accepted(ALERTS // 2)
    cell.until(lambda: cell.pending() == 0, "the second half is acknowledged")
    if (kept := _kept_back(cell)) != ALERTS // 2:
        raise CellFailedError(f"{kept} suppressed, {kept - ALERTS // 2} of them by a silence that is lost")
    cell.command("redeliver", "--suppressed-by", f"silence:{silence_id}")
    cell.notes.append(f"{kept} suppressed, then sent")


def _silenced(cell: RunningCell, *matchers: str) -> str:
    """Set a silence, and wait until every process knows it; return its ID."""
    which = matchers or ("--all-alerts",)
    silence_id, _, _ = cell.command("silence", "add", *which, "--for", "1h", "--why", "a drill").partition(":")
    time.sleep(KNOWN_WITHIN_S)
    return silence_id


def _add_and_kill(cell: RunningCell, number: int) -> None:
    """Kill `silence add` right after its write, or at some moment before that if the number is even."""
    held = _held(cell)
    adding = cell.start("silence", "add", "severity = high", "--for", "1h", "--why", f"try {number}")
    if number % 2:
        cell.until(lambda: _held(cell) > held, "it is written")
    else:
        time.sleep(0.3 + 0.1 * number)
    adding.kill()
    adding.wait()


def _held(cell: RunningCell) -> int:
    with cell.redis.client() as client:
        return int(client.hlen(silences_key(cell.stream, GROUP)))


def _kept_back(cell: RunningCell) -> int:
    """Return how many alerts are suppressed and acknowledged."""
    if cell.pending():
        return -1
    return sum(record.delivery.state == "suppressed" for record in cell.records().values())


def _undo(cell: RunningCell, *silence_ids: str) -> None:
    for silence_id in silence_ids:
        cell.command("silence", "end", silence_id)
    for silence_id in silence_ids:
        cell.command("redeliver", "--suppressed-by", f"silence:{silence_id}")


def _repeats(cell: RunningCell) -> str:
    return f"{cell.repeats} repeats" if cell.repeats else ""


CELLS = (
    Cell(
        name="silence-kill",
        about="kill -9 between the record of a silenced alert and its XACK; then the silence is undone",
        play=_killed_before_it_is_acknowledged,
        faults=("after_persist:kill:10", "after_persist:kill:20", "after_persist:kill:5"),
        ends=KILLED,
        check=_repeats,  # nothing was sent while processes died
    ),
    Cell(
        name="silence-add-kill",
        about="kill -9 to `silence add`, eight times; then what was set is undone",
        play=_killed_at_the_write,
        check=_repeats,
    ),
    Cell(
        name="silence-lost",
        about="DEL of the silences in the middle of the traffic; then what they kept back is sent",
        play=_lost,
        check=_repeats,
    ),
)
