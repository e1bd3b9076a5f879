"""The cell in which a canary is under way: its worker dies at each of its steps, and so does who tends it."""

import dataclasses
import signal
from typing import Any

from tests.crash.cell import KILLED, Cell, RunningCell
from tests.support.fakes.world import GROUP
from tests.support.servers.process import free_port
from trio_alerts.backends.redis.keys import canaries_key, canary_key
from trio_alerts.delivery import SINK
from trio_alerts.ports.store import RecordFilter
from trio_alerts.record_ids import CANARY_FIELD

POINTS = ("after_read", "after_persist", "after_send", "after_update", "after_ack")
EVERY_S = 5


def _killed(cell: RunningCell) -> None:
    """Nothing but a canary is under way while five processes die; two more die while alerts come."""
    address = f"127.0.0.1:{free_port()}"
    cell.plan = dataclasses.replace(cell.plan, settings={"canary_every_s": str(EVERY_S), "http_bind": address})
    cell.begin()
    cell.producer.shares = True
    survivor = cell.folder / f"worker-{len(POINTS) + 1}.log"
    cell.until(lambda: survivor.exists() and cell.crew.ready, "the first process without a fault reads")
    cell.emit(per_s=20)  # for 12 s, in which two canaries are written
    for number in (1, 2):
        _until_another_came_through(cell)
        cell.kill_all()
        cell.until_accepted(60 * number)
    cell.until_emitted()
    _until_another_came_through(cell)
    cell.notes.append(f"{cell.crew.ends.count(-signal.SIGKILL)} killed")


def _until_another_came_through(cell: RunningCell) -> None:
    before = _came_through(cell)
    cell.until(lambda: _came_through(cell) != before, "another canary comes through")


def _came_through(cell: RunningCell) -> Any:
    with cell.redis.client() as client:
        return client.hget(canary_key(cell.stream, GROUP), "through")


def _nothing_grows(cell: RunningCell) -> str:
    """Of all canaries there is one at most, which was under way at the stop."""
    with cell.redis.client() as client:
        found: Any = client.xrange(cell.stream)
        entries = sum(CANARY_FIELD in fields for _, fields in found)
        notes = int(client.hlen(canaries_key(cell.stream)))
    records = len(cell.records(RecordFilter(channel=(SINK,), canaries=True)))
    left = f"{entries} entries, {notes} notes and {records} records of canaries are left"
    return "" if max(entries, notes, records) <= 1 else left


CELLS = (
    Cell(
        name="kill-canary",
        about="kill -9 at five steps of a canary, and twice while it is tended",
        play=_killed,
        faults=tuple(f"{point}:kill" for point in POINTS),
        size=1,
        ends=KILLED,
        check=_nothing_grows,
    ),
)
