"""A fleet in virtual time: do the processes, Redis nodes and shards that `bench.scale` plans carry their rate?

Nothing here talks to a server. The clock is trio's `MockClock`, and a core does one thing after the other, each for as
long as it was measured to take. Writes gather in the program's own `Batcher`, two requests of a process under way.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from random import Random
from statistics import median, quantiles

import trio
from trio.testing import MockClock

from trio_alerts.backends.opensearch.store import BULKS, MAX_BULK_BYTES, MAX_BULK_ITEMS
from trio_alerts.batcher import Batcher

STEPS = 3  # in which a process spends its CPU on an alert: before the create, before the send, after the answer
RTT_S = 0.001  # of a request, but for the work
SEED = 1
RISING = 1.5  # times the delay of the first half: a queue grows


@dataclass(frozen=True)
class Fleet:
    """What carries the alerts, and what one alert costs each: seconds of a core.

    Args:
        processes, workers: How many, and how many workers in all.
        nodes: Of Redis, each with its own stream.
        shards: Each with a copy on another core, which is written behind it.
    """

    processes: int
    workers: int
    nodes: int
    shards: int
    worker_s: float
    redis_s: float
    store_s: float


@dataclass(frozen=True)
class Delays:
    """How long alerts took beyond their receiver's time, in seconds; `rising`: the longer it goes on, the longer."""

    p50_s: float
    p99_s: float
    rising: bool


class _Core:
    def __init__(self) -> None:
        self._free_at_s = 0.0

    def done_at(self, work_s: float, since_s: float | None = None) -> float:
        """Return when some work will be done, which begins when all from before is."""
        begins_s = max(self._free_at_s, trio.current_time() if since_s is None else since_s)
        self._free_at_s = begins_s + work_s
        return self._free_at_s

    async def work(self, work_s: float) -> None:
        await trio.sleep_until(self.done_at(work_s))


class _Shards:
    def __init__(self, fleet: Fleet, random: Random) -> None:
        self._copies = [(_Core(), _Core()) for _ in range(fleet.shards)]
        self._write_s = fleet.store_s / 2  # an alert is written twice
        self._random = random

    async def write(self, items: Sequence[None]) -> list[bool]:
        """Write documents, each to the shard that its ID falls into, and then to the copy."""
        falls = Counter(self._random.choices(range(len(self._copies)), k=len(items)))
        done_s = trio.current_time()
        for shard, count in falls.items():
            first, second = self._copies[shard]
            done_s = max(done_s, second.done_at(count * self._write_s, first.done_at(count * self._write_s)))
        await trio.sleep_until(done_s + RTT_S)
        return [True] * len(items)


class _Process:
    def __init__(self, workers: int, shards: _Shards) -> None:
        self.core = _Core()
        self.workers = trio.CapacityLimiter(workers)
        self.writes = Batcher[None, bool](
            shards.write,
            max_items=MAX_BULK_ITEMS,
            max_bytes=MAX_BULK_BYTES,
            size_of=lambda _: 0,
            patience_s=float("inf"),
        )


def carry(fleet: Fleet, rate: float, alerts: int, receiver_s: float) -> Delays:
    """Let alerts come at a rate, at random moments, to receivers that take `receiver_s`; return how late they are."""
    return trio.run(_carry, fleet, rate, alerts, receiver_s, clock=MockClock(autojump_threshold=0))


async def _carry(fleet: Fleet, rate: float, alerts: int, receiver_s: float) -> Delays:
    random = Random(SEED)
    shards = _Shards(fleet, random)
    nodes = [_Core() for _ in range(fleet.nodes)]
    processes = [_Process(-(-fleet.workers // fleet.processes), shards) for _ in range(fleet.processes)]
    delays = [0.0] * alerts

    async def deliver(number: int, process: _Process, node: _Core) -> None:
        began_s = trio.current_time()
        async with process.workers:
            await node.work(fleet.redis_s)
            await process.core.work(fleet.worker_s / STEPS)
            await process.writes.submit(None)
            await process.core.work(fleet.worker_s / STEPS)
            await trio.sleep(receiver_s)
            await process.core.work(fleet.worker_s / STEPS)
            await process.writes.submit(None)
        delays[number] = trio.current_time() - began_s - receiver_s

    async with trio.open_nursery() as writing:
        for process in processes:
            for _ in range(BULKS):
                writing.start_soon(process.writes.run)
        async with trio.open_nursery() as arriving:
            for number, process, node in zip(range(alerts), cycle(processes), cycle(nodes), strict=False):
                await trio.sleep(random.expovariate(rate))
                arriving.start_soon(deliver, number, process, node)
        writing.cancel_scope.cancel()
    early, late = (median(islice(delays, first, first + alerts // 2)) for first in (0, alerts // 2))
    hundredths = quantiles(delays, n=100)
    return Delays(hundredths[49], hundredths[98], late > RISING * early)
