"""Cells in which several things go wrong at once, chosen by a seed."""

import os
import random
import signal
import time

from tests.crash.cell import Cell, RunningCell, Spoiled
from tests.crash.outages_of_the_store import NO_BACKEND, OVERLOADED
from tests.crash.proxy import FAITHFUL, Behaviour
from tests.support.fakes.world import GROUP
from tests.support.receiver import Script, Step

ROUNDS = 12
LONGEST_S = 2.5  # of one round: more than claim_idle_s, redis_timeout_s and store_timeout_s
SEED = "CRASH_SEED"  # this environment variable chooses another history than chance

HELD, LOSING = Behaviour(held=True), Behaviour(loses=0.1)
BEHAVIOURS: dict[Spoiled, tuple[Behaviour, ...]] = {
    "redis": (HELD, LOSING, Behaviour(delay_s=0.2)),
    "store": (HELD, LOSING, Behaviour(delay_s=0.2), Behaviour(answers=OVERLOADED), Behaviour(answers=NO_BACKEND)),
    "hook": (HELD, LOSING, Behaviour(delay_s=0.2)),
}


def _chaos(cell: RunningCell) -> None:
    seed = os.environ.get(SEED) or str(random.randrange(1_000_000))
    cell.notes.append(f"{SEED}={seed}")
    chance = random.Random(seed)
    cell.begin()
    cell.emit(per_s=20)
    for _ in range(ROUNDS):
        spoiled = chance.sample(list(BEHAVIOURS), k=chance.randint(0, 2))
        for name in spoiled:
            cell.proxies[name].behave(chance.choice(BEHAVIOURS[name]))
        disruption = chance.choice((_kill, _stop, _pause, _set_back, _cut, _nothing))
        disruption(cell, chance)
        time.sleep(chance.uniform(0.2, LONGEST_S))
        for name in spoiled:
            cell.proxies[name].behave(FAITHFUL)
    cell.until(lambda: cell.crew.ready, "all workers read")
    cell.notes.append(f"{len(cell.crew.ends)} workers ended")


def _kill(cell: RunningCell, chance: random.Random) -> None:
    chance.choice(cell.crew.living).signal(signal.SIGKILL)


def _stop(cell: RunningCell, chance: random.Random) -> None:
    """Softly: one that is still starting would die of it, and a second time would mean at once."""
    able = [worker for worker in cell.crew.living if worker.ready and signal.SIGTERM not in worker.signals]
    if able:
        chance.choice(able).signal(signal.SIGTERM)


def _pause(cell: RunningCell, chance: random.Random) -> None:
    worker = chance.choice(cell.crew.living)
    worker.signal(signal.SIGSTOP)
    time.sleep(chance.uniform(0.2, LONGEST_S))
    worker.signal(signal.SIGCONT)


def _set_back(cell: RunningCell, chance: random.Random) -> None:
    """To an earlier ID only: what an operator skips, nobody reports."""
    with cell.redis.client() as client:
        last = client.xinfo_groups(cell.stream)[0]["last-delivered-id"].decode()
        read = [entry_id.decode() for entry_id, _ in client.xrange(cell.stream, max=last)]
        client.xgroup_setid(cell.stream, GROUP, chance.choice(["0", *read[-50:]]))


def _cut(cell: RunningCell, chance: random.Random) -> None:
    cell.proxies[chance.choice(list(BEHAVIOURS))].cut()


def _nothing(cell: RunningCell, chance: random.Random) -> None:
    pass


# A stop may be cut by the grace time (0), a start may find its backends unreachable (4), a kill is a kill.
ENDS = (-signal.SIGKILL, 0, 4)

CELLS = tuple(
    Cell(
        name=f"chaos-{number}",
        about="kills, stops, pauses, SETID, outages and lost answers at once, by chance",
        play=_chaos,
        through=("redis", "store", "hook"),
        hook=Script([Step(503), Step(delay_s=0.1), Step(delay_s=0.1), Step(fault="reset"), Step(delay_s=0.1)]),
        settings={"retry_schedule_s": ",".join(["0.5"] * 40), "max_deliveries": "50"},
        ends=ENDS,
    )
    for number in (1, 2, 3)
)
