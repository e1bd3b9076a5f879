"""Steady traffic for a long time, while workers are killed at random: one long cell of the crash matrix."""

import datetime as dt
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from tests.crash.cell import KILLED, LOOK_S, Cell, CellFailedError, Outcome, RunningCell
from tests.soak.memory import Memory, memory_of
from tests.support.crew import Worker
from tests.support.fakes.world import GROUP
from tests.support.ledger import FINAL, balance
from tests.support.program import happens
from tests.support.receiver import Script, Step
from trio_alerts.channels.registry import channel_settings
from trio_alerts.ports.store import Counts, RecordFilter
from trio_alerts.record import Record
from trio_alerts.settings.sources import load_settings
from trio_alerts.store import open_store

SIZE = 3  # worker processes: two that are killed, and one that nobody kills, whose memory is what is judged
KILL_AFTER_S = (20.0, 60.0)  # between two kills
SAMPLE_EVERY_S = 10.0
TELL_EVERY_S = 60.0
DRAINS_WITHIN_S = 120.0  # the longest schedule of the traffic below takes a tenth of it
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
        cell.outcome = self._finish(cell)

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

    def _finish(self, cell: RunningCell) -> Outcome:
        """Drain, stop and balance, as `RunningCell.finish`, for more records than one look can hold."""
        since = time.monotonic()
        settled = happens(lambda: _settled(cell), DRAINS_WITHIN_S)
        drain_s = time.monotonic() - since if settled else None
        codes = cell.crew.stop()
        records, _ = _look(cell, len(cell.producer.emitted) + 1)
        requests = cell.servers.receiver.ledger().requests
        return Outcome(drain_s, codes, balance(cell.producer.emitted, records, cell.dead(), requests))

    def _check(self, cell: RunningCell) -> str:
        if not self.kills:
            return "nobody was killed: this proves nothing"
        grown = self.ratio()
        return "" if grown <= GROWTH else f"memory is not flat: {grown:.3f} times that of the second quarter"


def _settled(cell: RunningCell) -> bool:
    """Whether nothing is left to do for anybody, by counts alone."""
    time.sleep(LOOK_S)
    with cell.redis.client() as client:
        if client.xpending(cell.stream, GROUP)["pending"]:
            return False
    _, counts = _look(cell, 0)
    final = sum(counts.by_state.get(state, 0) for state in FINAL)
    return final == sum(counts.by_state.values()) and final + len(cell.dead()) >= len(cell.producer.emitted)


def _look(cell: RunningCell, most: int) -> tuple[dict[str, Record], Counts]:
    """Return at most so many records by ID, and how many there are in each state."""
    cell.opensearch.request("POST", f"/{cell.alias}/_refresh")
    where = {"store_url": cell.opensearch.url, "index": cell.alias, "stream": cell.stream}

    async def look() -> tuple[list[Record], Counts]:
        async with open_store(load_settings(where, {}, None, channel_settings)) as store:
            return await store.search(RecordFilter(), most), await store.counts(dt.datetime.now(dt.UTC))

    records, counts = trio.run(look)
    return {record.id: record for record in records}, counts
