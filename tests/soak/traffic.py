"""Steady traffic for a long time, while workers are killed at random: one long cell of the crash matrix."""

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.crash.cell import KILLED, Cell, CellFailedError, RunningCell
from tests.soak.memory import Memory, memory_of
from tests.support.crew import Worker
from tests.support.receiver import Script, Step

SIZE = 3  # worker processes: two that are killed, and one that nobody kills, whose memory is what is judged
KILL_AFTER_S = (20.0, 60.0)  # between two kills
SAMPLE_EVERY_S = 10.0
TELL_EVERY_S = 60.0
GROWTH = 1.10  # what the survivor's memory may grow by, from the second quarter of the time to the last
BREATH_S = 0.02  # between two rounds of the producer: as even as a rate of 50/s can be

# Trimming, since a stream that grows would be all that Valkey's memory says. `trim_keep_s` is short, so that all of the
# soak but its first minute goes through it.
SETTINGS = {"workers": "16", "trim": "acked", "trim_keep_s": "60"}

# What the first channel's receiver does, with weights: mostly it accepts quickly. A reset comes in the head of an
# answer that accepts, a request that hangs is never answered, and a 500 may be a front's: all are in doubt.
ANSWERS = (
    (Step(delay_s=0.01), 900),
    (Step(delay_s=0.5), 50),
    (Step(500), 30),
    (Step(fault="reset"), 15),
    (Step(fault="hang"), 5),
)
SPARE = 1.25  # answers an alert, more than the retries need; after the last of them the receiver just accepts


@dataclass
class Soak:
    """Traffic, kills and samples, in one thread.

    Args:
        minutes: How long.
        rate: Alerts a second.
        seed: Chooses the receiver's answers, and whom to kill when.
        say: Called with a line each minute.

    Attributes:
        kills: How many workers were killed.
        peak: The survivor's highest resident memory, in bytes.
        took_s: How long the traffic took.
    """

    minutes: float
    rate: float
    seed: int
    say: Callable[[str], None]
    kills: int = 0
    peak: int = 0
    took_s: float = 0.0
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.minutes * 60)
        self._chance = random.Random(self.seed)
        self._count = round(self.memory.span_s * self.rate)

    def cell(self) -> Cell:
        """Return it as a cell, to be run and judged like any other."""
        steps, weights = [step for step, _ in ANSWERS], [weight for _, weight in ANSWERS]
        answers = self._chance.choices(steps, weights, k=round(SPARE * self._count))
        return Cell(
            name="soak",
            about="kill -9 to workers at random, under steady traffic",
            play=self._play,
            hook=Script([*answers, Step()]),
            settings=SETTINGS,
            size=SIZE,
            ends=KILLED,
            check=self._check,
        )

    def ratio(self) -> float:
        """Return the survivor's memory in the last quarter over that in the second one: the first is for warming up."""
        _, second, _, last = self.memory.quarters()["survivor"]
        return last / second

    def _play(self, cell: RunningCell) -> None:
        cell.begin()
        survivor, *_ = cell.crew.living
        began_s = time.monotonic()
        kill_s, sample_s, tell_s = self._chance.uniform(*KILL_AFTER_S), SAMPLE_EVERY_S, TELL_EVERY_S
        while (emitted := len(cell.producer.emitted)) < self._count:
            at_s = time.monotonic() - began_s
            cell.producer.add(min(int(at_s * self.rate) + 1, self._count) - emitted)
            if at_s >= kill_s:
                others = [worker for worker in cell.crew.living if worker is not survivor]
                self._chance.choice(others).signal(signal.SIGKILL)
                self.kills += 1
                kill_s += self._chance.uniform(*KILL_AFTER_S)
            if at_s >= sample_s:
                self._sample(cell, survivor, at_s)
                sample_s += SAMPLE_EVERY_S
            if at_s >= tell_s:
                self._tell(cell, at_s)
                tell_s += TELL_EVERY_S
            time.sleep(BREATH_S)
        self.took_s = time.monotonic() - began_s
        self._sample(cell, survivor, self.took_s)
        cell.finish()

    def _sample(self, cell: RunningCell, survivor: Worker, at_s: float) -> None:
        """Note the memory of all processes.

        Raises:
            CellFailedError: The survivor has ended.
        """
        if survivor not in cell.crew.living:
            raise CellFailedError("the worker that nobody killed has ended")
        for worker in cell.crew.living:
            self.memory.note("survivor" if worker is survivor else "others", at_s, worker.process.pid)
        self.memory.note("Valkey", at_s, cell.redis.pid)
        self.memory.note("OpenSearch", at_s, cell.opensearch.pid)
        self.memory.note("receiver", at_s, cell.servers.receiver.pid)
        self.peak = memory_of(survivor.process.pid).get("VmHWM", self.peak)

    def _tell(self, cell: RunningCell, at_s: float) -> None:
        totals = cell.servers.receiver.totals()
        resident = ", ".join(f"{who} {mib:.1f}" for who, mib in self.memory.last().items())
        self.say(
            f"{at_s / 60:5.1f} min: {len(cell.producer.emitted)} emitted, {totals.accepted} accepted, "
            f"{totals.requests} requests, {self.kills} kills; MiB: {resident}"
        )

    def _check(self, cell: RunningCell) -> str:
        if not self.kills:
            return "nobody was killed: this proves nothing"
        grown = self.ratio()
        return "" if grown <= GROWTH else f"memory is not flat: {grown:.3f} times that of the second quarter"
