"""Minutes of disruptions of every kind to processes, Redis, store and receivers: one long cell of the crash matrix."""

import math
import os
import random
import signal
import sqlite3
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Literal

from tests.crash.cell import Cell, RunningCell, Spoiled
from tests.crash.gates import forget
from tests.crash.outages_of_the_store import NO_BACKEND, OVERLOADED, SIGN_IN
from tests.crash.proxy import FAITHFUL, Behaviour
from tests.support.crew import Worker
from tests.support.program import children
from tests.support.receiver import Script, Step
from trio_alerts.errors import StartError

PROCESSES = 3
LONGEST_S = 4.0  # of one disruption: twice the time-outs of Redis and of the store, and more than claim_idle_s
CALM_S = (0.5, 3.0)  # between two disruptions
STALL_S = 90.0  # docs/reliability.md promises it: from XADD to the last acceptance, harm included
FORGET_EVERY_S = STALL_S  # at most: what waits just then is found by the next sweep, up to a minute later
SETTINGS = {
    "processes": str(PROCESSES),
    "workers": "16",
    "retry_schedule_s": ",".join(["0.5"] * 60),
    "max_deliveries": "20",  # an alert may be in the hands of several processes that are killed
}
# With weights. A reset comes in the head of an answer that accepts, a request that hangs has none. No 429: what it asks
# for, a minute of quiet, is no stall.
ANSWERS = (
    (Step(delay_s=0.02), 700),
    (Step(delay_s=1.0), 50),
    (Step(500), 50),
    (Step(503), 100),
    (Step(fault="reset"), 50),
    (Step(fault="hang"), 30),
)
NONSENSE = (*(Behaviour(answers=answer) for answer in (SIGN_IN, OVERLOADED, NO_BACKEND)), Behaviour(held=True))
THROUGH: dict[str, tuple[Spoiled, ...]] = {"sqlite": (), "opensearch": ("store",)}
# Killed, stopped, stopped before Python had begun with our first line, and started while Redis was away.
ENDS = (-signal.SIGKILL, 0, -signal.SIGTERM, StartError.exit_code)

Disruption = Callable[[RunningCell], None]


@dataclass
class Storm:
    """Traffic and disruptions.

    Args:
        seconds: How long.
        rate: Alerts a second.
        seed: Chooses the disruptions, their order and times, and what receivers answer.
        store: Where records live.
        say: Called with a line for each disruption.

    Attributes:
        disruptions: How often each was done.
        longest_s: From an alert's XADD to its last acceptance, the longest of all.
        median_s: The median of the same.
    """

    seconds: float
    rate: float
    seed: int
    store: Literal["sqlite", "opensearch"]
    say: Callable[[str], None]
    disruptions: Counter[str] = field(default_factory=Counter)
    longest_s: float = 0.0
    median_s: float = 0.0

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed)
        self._forgotten_s = -math.inf  # monotonic

    def cell(self) -> Cell:
        """Return it as a cell, to be run and judged like any other."""
        steps, weights = [step for step, _ in ANSWERS], [weight for _, weight in ANSWERS]
        return Cell(
            name="chaos",
            about="kills, pauses, stops, outages and flaky receivers at once",
            play=self._play,
            through=THROUGH[self.store],
            hook=Script([*self._chance.choices(steps, weights, k=round(2 * self.seconds * self.rate)), Step()]),
            settings=SETTINGS,
            size=1,
            ends=ENDS,
            store=self.store,
            check=self._check,
        )

    def _play(self, cell: RunningCell) -> None:
        cell.begin()
        began_s = time.monotonic()
        traffic = threading.Thread(target=self._emit, args=(cell, began_s + self.seconds), daemon=True)
        traffic.start()
        left: list[Disruption] = []
        while (at_s := time.monotonic() - began_s) < self.seconds:
            left = left or self._chance.sample(self._all(), k=len(self._all()))  # each as often as every other
            disruption = left.pop()
            if disruption == self._forget_hints and time.monotonic() - self._forgotten_s < FORGET_EVERY_S:
                continue
            name = _name_of(disruption)
            self.disruptions[name] += 1
            self.say(f"{at_s:5.1f} s: {name}; {len(cell.producer.emitted)} emitted")
            disruption(cell)
            time.sleep(self._chance.uniform(*CALM_S))
        traffic.join()
        cell.until(lambda: cell.crew.ready, "the processes read")
        cell.finish()

    def _emit(self, cell: RunningCell, until_s: float) -> None:
        while time.monotonic() < until_s:
            cell.producer.add(1, 1 / self.rate)

    def _all(self) -> list[Disruption]:
        spoil = self._spoil_the_store if self.store == "opensearch" else self._lock_the_store
        processes = [self._kill_a_process, self._pause_a_process, self._stop_a_process]
        group = [self._kill_the_parent, self._stop_the_parent, self._stop_the_group]
        return [*processes, *group, self._pause_redis, self._kill_redis, self._forget_hints, spoil]

    def _while(self) -> None:
        time.sleep(self._chance.uniform(0.5, LONGEST_S))

    # -- disruptions --

    def _kill_a_process(self, cell: RunningCell) -> None:
        self._signal_one(cell, signal.SIGKILL)

    def _stop_a_process(self, cell: RunningCell) -> None:
        self._signal_one(cell, signal.SIGTERM)

    def _pause_a_process(self, cell: RunningCell) -> None:
        pid = self._signal_one(cell, signal.SIGSTOP)
        self._while()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def _kill_the_parent(self, cell: RunningCell) -> None:
        self._working_parent(cell).signal(signal.SIGKILL)

    def _stop_the_parent(self, cell: RunningCell) -> None:
        self._working_parent(cell).signal(signal.SIGTERM)

    def _stop_the_group(self, cell: RunningCell) -> None:
        self._working_parent(cell).signal_group(signal.SIGTERM)

    def _working_parent(self, cell: RunningCell) -> Worker:
        """Return the parent process once its processes read, and nobody has stopped it.

        A second signal would mean at once; and where nobody ever gets as far as to read, nothing can be delivered.
        """
        cell.until(
            lambda: any(worker.ready and signal.SIGTERM not in worker.signals for worker in cell.crew.living),
            "a process that works",
        )
        return cell.oldest()

    def _pause_redis(self, cell: RunningCell) -> None:
        cell.redis.pause()
        self._while()
        cell.redis.resume()

    def _kill_redis(self, cell: RunningCell) -> None:
        cell.redis.kill()
        self._while()
        cell.redis.start()

    def _forget_hints(self, cell: RunningCell) -> None:
        self._forgotten_s = time.monotonic()
        forget(cell)

    def _lock_the_store(self, cell: RunningCell) -> None:
        with closing(sqlite3.connect(cell.folder / "alerts.db", timeout=LONGEST_S, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            self._while()
            other.execute("ROLLBACK")

    def _spoil_the_store(self, cell: RunningCell) -> None:
        cell.proxies["store"].behave(self._chance.choice(NONSENSE))
        self._while()
        cell.proxies["store"].behave(FAITHFUL)

    def _signal_one(self, cell: RunningCell, number: signal.Signals) -> int:
        """Send a signal to one of the processes that carry alerts; return its ID.

        Not while its parent stops, which would rightly end with 1: what that process had was not finished.
        """
        pids: list[int] = []

        def found() -> bool:
            parents = [worker for worker in cell.crew.living if signal.SIGTERM not in worker.signals]
            pids[:] = [pid for parent in parents for pid in children(parent.process.pid)]
            return bool(pids)

        cell.until(found, "a process that carries alerts")
        pid = self._chance.choice(pids)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    # -- how it went --

    def _check(self, cell: RunningCell) -> str:
        accepted: dict[str, dict[str, float]] = {}
        for request in cell.servers.receiver.ledger().requests:
            if request.accepted:
                accepted.setdefault(request.webhook_id or "", {}).setdefault(request.path, request.at_s)
        took_s = {
            entry_id: max(accepted[entry_id].values()) - at_s
            for entry_id, at_s in cell.producer.emitted_at.items()
            if entry_id in accepted
        }
        self.median_s = statistics.median(took_s.values()) if took_s else 0.0
        slowest = max(took_s, key=took_s.__getitem__, default="")
        self.longest_s = took_s.get(slowest, 0.0)
        if self.longest_s > STALL_S:
            return f"{slowest} took {self.longest_s:.1f} s, more than {STALL_S:g} s"
        idle = set(map(_name_of, self._all())) - self.disruptions.keys()
        return f"never done: {', '.join(sorted(idle))}" if idle and self.seconds >= 120 else ""


def _name_of(disruption: Disruption) -> str:
    return disruption.__name__.strip("_").replace("_", " ")
