"""Cells in which worker processes are killed, stopped and paused."""

import signal
import time
from collections.abc import Callable, Mapping
from functools import partial

from tests.crash.cell import ALERTS, KILLED, PER_S, Cell, RunningCell
from tests.support.crew import Worker
from tests.support.receiver import Script, Step
from trio_alerts.pipeline.fault_points import MIGRATION, POINTS

ACCEPTANCE = "after_acceptance"  # a sibling must take more than a second, or nobody gets there
FALLBACK = "before_fallback"  # nobody gets there as long as primaries accept
NOTE = "after_note"  # nobody gets there while all is delivered at once
PRUNING = ("before_prune", "after_prune")  # nobody gets there while nothing is old
GATED = ("after_gate", "after_waiting")  # nobody gets there without a rate
HELD = 3  # workers of a process, each with an alert half delivered: too few for shares
LONE = ALERTS - ALERTS // 3  # alerts that only the first channel gets, and a fallback if it takes none
PAUSE_S = 4.0  # of a process: more than twice claim_idle_s


def _killed_at_its_point(cell: RunningCell) -> None:
    """Two workers die in the first half; one of their successors dies in the second."""
    cell.begin()
    cell.emit(ALERTS // 2)
    cell.until_ended(2)
    cell.until_emitted()
    cell.emit(ALERTS // 2)
    cell.until_ended(3)
    cell.notes.append(f"{cell.crew.ends.count(-signal.SIGKILL)} killed")


def _at_point(point: str) -> Cell:
    if point == "after_claim":  # somebody must leave something to claim
        faults: tuple[str, ...] = ("after_read:kill:10", "after_claim:kill", "after_claim:kill")
    else:
        faults = (f"{point}:kill:10", f"{point}:kill:20", f"{point}:kill:5")
    gated = point in GATED
    return Cell(
        name=f"kill-{point.replace('_', '-')}",
        about=f"kill -9 at `{point}`" + (", with a rate of half of what comes" if gated else ""),
        play=_killed_at_its_point,
        faults=faults,
        ends=KILLED,
        limit=f"rate_per_s = {PER_S / 2}" if gated else "",
        hook=Script([Step(503)] * (point == NOTE) + [Step(200, delay_s=0.03)], each="id"),
    )


def _killed_at_its_acceptances(cell: RunningCell) -> None:
    """Every worker holds an alert that the first channel has accepted, while the second takes its time."""
    cell.servers.receiver.set_scripts({"/hook": cell.plan.hook, "/steady": Script([Step(200, delay_s=1.8)])})
    cell.begin()
    cell.producer.add(3 * HELD)
    cell.until_ended(1)
    cell.servers.receiver.set_scripts({"/hook": cell.plan.hook})
    cell.emit(ALERTS - 3 * HELD)
    cell.notes.append(f"1 killed, {HELD} half delivered")


def _killed_at_random(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for number in range(1, 7):
        cell.until(lambda: cell.crew.ready, "all workers read")
        time.sleep(0.1 * number)  # each kill at another moment of the new worker's life
        cell.oldest().signal(signal.SIGKILL)
        cell.until_gone(number)
    cell.until_ended(6)
    cell.notes.append("6 killed")


def _all_killed(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for round_ in (1, 2):
        cell.until_accepted(40 * round_)
        cell.until(lambda: cell.crew.ready, "all workers read")
        cell.kill_all()
    cell.notes.append("4 killed")


def _killed_in_retries(cell: RunningCell) -> None:
    """Every first attempt is refused for now; both workers die when the second ones are under way."""
    cell.begin()
    cell.emit(per_s=400)
    cell.until_emitted()
    cell.until_requested(ALERTS + ALERTS // 3 + 40)
    cell.kill_all()
    cell.notes.append("2 killed")


def _killed_in_fallbacks(cell: RunningCell) -> None:
    """The first channel is down; both workers die when its alerts go to the third one."""
    cell.servers.receiver.set_scripts({"/hook": cell.plan.hook, "/spare": Script([Step(200, delay_s=0.2)])})
    cell.begin()
    cell.emit(per_s=400)
    cell.until_emitted()
    cell.until(lambda: _sent_to(cell, "spare") >= LONE // 4, "the fallbacks are under way")
    cell.kill_all()
    # Now it refuses for good: its breaker closes, and what waits for it fails.
    cell.servers.receiver.set_scripts({"/hook": Script([Step(410)]), "/spare": Script([Step(200, delay_s=0.2)])})
    cell.notes.append("2 killed")


def _sent_to(cell: RunningCell, channel: str) -> int:
    """Count the alerts that a channel's receiver was sent."""
    requests = cell.servers.receiver.ledger().requests
    return len({request.webhook_id for request in requests if request.path == f"/{channel}"})


def _fell_back(cell: RunningCell) -> str:
    """Whatever only the dead channel had must reach the third; what the second accepted need not, but for the dead."""
    count = _sent_to(cell, "spare")
    cell.notes.append(f"{count} sent to the fallback")
    return "" if LONE <= count < ALERTS else f"{count} were sent to the fallback: it must be {LONE}, or few more"


def _stopped(cell: RunningCell, stop: Callable[[Worker, signal.Signals], None] = Worker.signal) -> None:
    cell.begin()
    cell.emit()
    for number in range(1, 5):
        cell.until_accepted(30 * number)
        stop(cell.oldest(), signal.SIGTERM)
        cell.until_ended(number)
    cell.notes.append("4 stopped")


def _stopped_at_once(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for number in range(1, 5):
        cell.until_accepted(20 * number)
        worker = cell.oldest()
        worker.signal(signal.SIGTERM)
        cell.until_said(worker, "stopping")
        worker.signal(signal.SIGTERM)
        cell.until_ended(number)
    cell.notes.append(f"4 stopped, {cell.crew.ends.count(1)} of them at once")


def _paused(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for number in (1, 2):
        cell.until_accepted(40 * number)
        worker = cell.crew.living[number - 1]
        worker.signal(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        worker.signal(signal.SIGCONT)
    cell.notes.append(f"each paused for {PAUSE_S:g} s")


def _poisoned(cell: RunningCell) -> None:
    """One entry ends every process that works on it; 63 harmless ones are in flight beside it."""
    cell.begin()
    cell.producer.add(31)
    cell.producer.add(1, poison=True)
    cell.producer.add(32)
    cell.until_ended(5)
    cell.emit(ALERTS - 64)
    cell.notes.append(f"{len(cell.crew.ends)} killed by it")


def _held(cell: RunningCell) -> Mapping[str, int]:
    """Every alert of a cut attempt waits for a human; which ones these are, the records say."""
    return {"held": sum(record.delivery.state == "in_doubt" for record in cell.records().values())}


def _none_repeated(cell: RunningCell) -> str:
    """The channel that holds never gets an alert twice."""
    if cell.repeats:
        return f"{cell.repeats} repeats, although the policy is to hold"
    held = _held(cell)["held"]
    cell.notes.append(f"{held} held for a human")
    return "" if held else "nothing was held: this proves nothing"


BUSY = Script([Step(200, delay_s=0.3)])

CELLS = (
    *(_at_point(point) for point in POINTS if point not in (ACCEPTANCE, FALLBACK, *PRUNING, *MIGRATION)),
    Cell(
        name="kill-after-acceptance",
        about=f'kill -9 at `{ACCEPTANCE}`, with `in_doubt_policy = "hold"` for the first channel, which had accepted',
        play=_killed_at_its_acceptances,
        faults=(f"{ACCEPTANCE}:kill:{HELD}",),
        settings={"in_doubt_policy": "hold", "workers": str(HELD)},
        size=1,
        ends=KILLED,
        check=lambda cell: f"{cell.repeats} repeats of what was accepted" if cell.repeats else "",
    ),
    Cell(name="kill-random", about="kill -9 at any moment, six times", play=_killed_at_random, ends=KILLED),
    Cell(name="kill-all", about="kill -9 to all workers at once, twice", play=_all_killed, ends=KILLED),
    Cell(
        name="kill-in-retries",
        about="kill -9 to all workers while retries are under way",
        play=_killed_in_retries,
        ends=KILLED,
        hook=Script([Step(503), Step(200, delay_s=0.2)], each="id"),
        settings={"workers": "32", "retry_schedule_s": "2,1,1,1,1"},
    ),
    Cell(
        name="kill-hold",
        about='kill -9 at `after_send`, with `in_doubt_policy = "hold"` for the first channel',
        play=_killed_at_its_point,
        faults=("after_send:kill:10", "after_send:kill:20", "after_send:kill:5"),
        settings={"in_doubt_policy": "hold"},
        ends=KILLED,
        expected=_held,
        check=_none_repeated,
    ),
    Cell(
        name="kill-in-fallbacks",
        about="the first channel down, kill -9 to all workers while its alerts go to a fallback",
        play=_killed_in_fallbacks,
        ends=KILLED,
        hook=Script([Step(503)]),
        settings={"workers": "32", "retry_schedule_s": "1,1,1"},
        fallback_after_s=2.0,
        expected=lambda cell: {"failed": ALERTS // 3},  # the second accepted it; nobody made good the first one's part
        check=_fell_back,
    ),
    Cell(
        name="kill-before-fallback",
        about=f"the first channel refuses for good; kill -9 at `{FALLBACK}`",
        play=_killed_at_its_point,
        faults=(f"{FALLBACK}:kill:10", f"{FALLBACK}:kill:20", f"{FALLBACK}:kill:5"),
        ends=KILLED,
        hook=Script([Step(410)]),
        fallback_after_s=600.0,  # only the failures engage it
        expected=lambda cell: {"failed": ALERTS // 3},
        check=_fell_back,
    ),
    Cell(
        name="kill-at-refusal",
        about="the first channel refuses for good; kill -9 at `after_send` and `after_update`",
        play=_killed_at_its_point,
        faults=("after_send:kill:10", "after_update:kill:20", "after_update:kill:5"),
        ends=KILLED,
        hook=Script([Step(410)]),
        fallback_after_s=600.0,
        expected=lambda cell: {"failed": ALERTS // 3},
        check=_fell_back,
    ),
    Cell(name="sigterm", about="SIGTERM to one worker after the other", play=_stopped, hook=BUSY, ends=(0,)),
    Cell(
        name="sigterm-twice",
        about="SIGTERM twice to one worker after the other",
        play=_stopped_at_once,
        hook=BUSY,
        ends=(0, 1),
    ),
    Cell(
        name="sigterm-group",
        about="two processes with children; SIGTERM to one with its children after the other",
        play=partial(_stopped, stop=Worker.signal_group),
        hook=BUSY,
        ends=(0,),
        settings={"processes": "2"},
        check=lambda cell: f"{cell.repeats} repeats" if cell.repeats else "",  # no send was cut
    ),
    Cell(
        name="sigstop",
        about="SIGSTOP, and SIGCONT after more than `claim_idle_s`",
        play=_paused,
        hook=Script([Step(200, delay_s=0.1)]),
    ),
    Cell(
        name="poison",
        about="one entry crashes every worker that parses it, 63 harmless ones in flight beside it",
        play=_poisoned,
        ends=KILLED,
        module="tests.crash.poisoned",
        settings={"workers": "64"},
        hook=Script([Step(200, delay_s=1.0)]),
        expected=lambda cell: {"quarantined": 1},
    ),
    Cell(
        name="poison-sent",
        about="one alert crashes every worker that sends it, 63 harmless ones in flight beside it",
        play=_poisoned,
        ends=KILLED,
        module="tests.crash.poisoned_sends",
        settings={"workers": "64"},
        hook=Script([Step(200, delay_s=1.0)]),
        expected=lambda cell: {"failed": 1},
    ),
)
