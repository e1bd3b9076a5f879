"""Cells in which gates are closed: by a rate, and by a breaker that opens; and Redis forgets gates and hints."""

import signal
import time
from collections import deque

from tests.crash.cell import ALERTS, KILLED, Cell, RunningCell
from tests.support.fakes.world import GROUP
from tests.support.receiver import Script, Step
from trio_alerts.backends.redis.keys import due_key, gate_key, probe_key, queue_key
from trio_alerts.pipeline.admission import ADMITTED_FOR_S
from trio_alerts.ports.gates import PROBE_EVERY_S

RATE_PER_S, BURST = 40, 5
OPENED = "channel hook takes no alerts"
DOWN, WELL = Script([Step(503)]), Script([Step(200, delay_s=0.03)])
PROBES = 3  # at most: in all the time that a breaker is open in a cell, and one that was under way at a kill


def forget(cell: RunningCell) -> int:
    """Delete what Redis knows of gates and hints; return how many keys there were."""
    keys = [due_key(cell.stream, GROUP)]
    for channel in ("hook", "steady"):
        keys += [key_of(cell.stream, GROUP, channel) for key_of in (gate_key, queue_key, probe_key)]
    with cell.redis.client() as client:
        return int(client.delete(*keys))


def _until_open(cell: RunningCell) -> None:
    cell.until(lambda: OPENED in cell.crew.log(), "the breaker opens")
    time.sleep(2.0)  # all have heard of it, and what was under way has ended


def _limited(cell: RunningCell) -> None:
    """Half of the alerts wait at any time; the workers that let them wait, and those that drain them, die."""
    cell.begin()
    cell.emit()
    for number in (1, 2, 3):
        cell.until_accepted(50 * number)
        cell.oldest().signal(signal.SIGKILL)
        cell.until_ended(number)
    cell.notes.append("3 killed")


def _kept_its_rate(cell: RunningCell) -> str:
    """In no second may the receiver be sent more than the rate and the burst; a grant may be a second old."""
    most = RATE_PER_S * (1.0 + ADMITTED_FOR_S) + BURST
    times = sorted(one.at_s for one in cell.servers.receiver.ledger().requests if one.path == "/hook")
    window: deque[float] = deque()
    busiest = 0
    for at_s in times:
        window.append(at_s)
        while at_s - window[0] > 1.0:
            window.popleft()
        busiest = max(busiest, len(window))
    cell.notes.append(f"at most {busiest} sent in a second")
    waited = sum(bool(channel.log) for record in cell.records().values() for channel in record.delivery.channels)
    if len(times) < 2 or times[-1] - times[0] < 0.8 * ALERTS / RATE_PER_S:
        return f"all {waited} were sent at once: this proves nothing"
    return "" if busiest <= most else f"{busiest} were sent in a second, with a rate of {RATE_PER_S}/s"


def _opened(cell: RunningCell) -> None:
    """The breaker opens; all workers die while it is open, and again while the probe is under way: half open."""
    _begin_down(cell)
    cell.kill_all()
    cell.servers.receiver.set_scripts({"/hook": Script([Step(fault="hang")])})
    before = _sent(cell)
    cell.until(lambda: _sent(cell) > before, "a probe is sent")
    cell.kill_all()
    cell.notes += ["4 killed", f"{_sent(cell) - before} sent while it was open"]
    cell.servers.receiver.set_scripts({"/hook": WELL})


def _begin_down(cell: RunningCell) -> None:
    cell.servers.receiver.set_scripts({"/hook": DOWN})
    cell.begin()
    cell.emit()
    _until_open(cell)
    cell.until_emitted()


def _sent(cell: RunningCell) -> int:
    return sum(request.path == "/hook" for request in cell.servers.receiver.ledger().requests)


def _few_probes(cell: RunningCell) -> str:
    sent = _noted(cell, "sent while it was open")
    return "" if 1 <= sent <= PROBES else f"{sent} were sent while the breaker was open, and not 1 to {PROBES}"


def _forgotten(cell: RunningCell) -> None:
    """The breaker opens, and Redis loses its gates and all hints: only the records know what waits."""
    _begin_down(cell)
    gone = forget(cell)
    cell.servers.receiver.set_scripts({"/hook": WELL})
    cell.notes.append(f"{gone} keys deleted")


def _was_something(cell: RunningCell) -> str:
    deleted = _noted(cell, "keys deleted")
    return "" if deleted >= 3 else f"{deleted} keys were there: this proves nothing"


def _noted(cell: RunningCell, what: str) -> int:
    return next(int(note.split()[0]) for note in cell.notes if note.endswith(what))


CELLS = (
    Cell(
        name="gate-rate",
        about=f"the first channel takes {RATE_PER_S}/s, twice that is offered; kill -9 to one worker after the other",
        play=_limited,
        limit=f"rate_per_s = {RATE_PER_S}\nburst = {BURST}",
        ends=KILLED,
        check=_kept_its_rate,
    ),
    Cell(
        name="gate-breaker",
        about=f"503 until the breaker opens; kill -9 to all workers then, and at the probe, {PROBE_EVERY_S:g} s later",
        play=_opened,
        ends=KILLED,
        check=_few_probes,
    ),
    Cell(
        name="redis-del-gates",
        about="DEL of every gate and every hint while a breaker is open and everything waits",
        play=_forgotten,
        check=_was_something,
    ),
)
