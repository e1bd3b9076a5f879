"""The course of the demo: workers start, one is killed in the middle, everything drains, the workers stop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import trio

from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.demo.counts import pending_of, read_dead, read_records, take_counts
from trio_alerts.demo.crew import PROCESSES, Crew, Worker
from trio_alerts.demo.ledger import EntryCounts, Evidence, findings, rate_per_s
from trio_alerts.demo.receivers import CHAT, CHAT_PER_S, HANGING, STAND_IN, Receiver
from trio_alerts.demo.screen import Screen
from trio_alerts.demo.tables import Summary, View
from trio_alerts.ports.store import AlertStore

LOOK_EVERY_S = 0.2
LATELY_S = 2.0  # the rate that is shown is that of the last seconds
SETTLED_AFTER_S = 0.3  # three rounds of the slow receiver after the last worker process began to read
DRAINS_WITHIN_S = 17.0  # with 600 alerts it takes 9 s; what still waits for a retry by then is shown as retrying
GIVES_UP_AFTER_S = 60.0  # a machine that busy is slow, not wrong: whatever is in a worker's hands may still end
ALERTS_PER_S = 100  # beyond those 600 both grow with the number of alerts


@dataclass(kw_only=True)
class Story:
    """One performance: `total` entries will be emitted, malformed ones included, and `emitted` grows by their IDs."""

    total: int
    redis: RedisClient
    store: AlertStore
    crew: Crew
    receivers: Sequence[Receiver]
    emitted: Sequence[str]
    screen: Screen

    def __post_init__(self) -> None:
        self._by_name = {receiver.name: receiver for receiver in self.receivers}
        self._slow = self._by_name["slow"]
        self._longest_queue = 0
        self._began_s = trio.current_time()
        self._steady_from_s: float | None = None
        self._steady_until_s: float | None = None
        self._events: list[str] = []

    async def run(self, *, kill: bool) -> Summary:
        """Perform, and return the end.

        Raises:
            Unavailable: Redis or the store do not answer.
            WorkerDied: A worker process did not stop cleanly.
        """
        for _ in range(PROCESSES):
            worker = await self.crew.start()
            self._report(f"{worker.name} started (pid {worker.process.pid})")
        async with trio.open_nursery() as nursery:
            if kill:
                nursery.start_soon(self._replace_halfway, self.crew.workers[0])
            counts = await self._look()
            while not self._is_over(counts):
                await trio.sleep(LOOK_EVERY_S)
                counts = await self._look()
            nursery.cancel_scope.cancel()
        await self.crew.stop()
        return await self._sum_up()

    def _is_over(self, counts: EntryCounts) -> bool:
        elapsed_s = trio.current_time() - self._began_s - max(0, self.total - 600) / ALERTS_PER_S
        if len(self.emitted) == self.total and counts.is_quiet():
            waiting = sum(count for channel, count in counts.queues.items() if channel != HANGING)
            return elapsed_s > DRAINS_WITHIN_S or not (counts.by_state.get("retrying", 0) or waiting)
        return elapsed_s > GIVES_UP_AFTER_S

    async def _replace_halfway(self, victim: Worker) -> None:
        """Kill a worker when half of it is done. A look that takes long on a busy machine does not put it off."""
        await self._slow.once_seen(self.total // 2).wait()
        with trio.CancelScope(shield=True):  # the end of the story does not come between a death and its report
            await self._replace(victim)

    async def _replace(self, victim: Worker) -> None:
        await self.crew.kill(victim)
        self._steady_until_s = self._steady_until_s or trio.current_time()
        held = await pending_of(self.redis, victim.name)
        at_s = trio.current_time() - self._began_s
        victim.status = f"killed with SIGKILL at {at_s:.1f} s, {held} alerts in its hands"
        successor = await self.crew.start()
        successor.status = f"running, in the place of {victim.name}"
        event = (
            f"{victim.name}: SIGKILL at {at_s:.1f} s with {held} alerts in its hands; {successor.name} took its place"
        )
        self._events.append(event)
        self._report(event)

    async def _look(self) -> EntryCounts:
        counts = await take_counts(self.redis, self.store, self._by_name)
        now_s = trio.current_time()
        self._longest_queue = max(self._longest_queue, counts.queues.get(CHAT, 0))
        if self._steady_from_s is None and counts.consumers >= PROCESSES:
            self._steady_from_s = now_s + SETTLED_AFTER_S
        if self._steady_until_s is None and len(self.emitted) == self.total and not counts.unread:
            self._steady_until_s = now_s - LOOK_EVERY_S
        self.screen.show(
            View(
                elapsed_s=now_s - self._began_s,
                total=self.total,
                counts=counts,
                rate_per_s=rate_per_s(self._slow.first_seen_s, now_s - LATELY_S, now_s),
                books=[receiver.book for receiver in self.receivers],
                workers=[(worker.name, worker.process.pid, worker.status) for worker in self.crew.workers],
            )
        )
        return counts

    async def _sum_up(self) -> Summary:
        """Collect the evidence, now that nothing moves any more."""
        evidence = Evidence(
            counts=await self._look(),
            emitted=self.emitted,
            records=await read_records(self.store),
            dead=await read_dead(self.redis),
            books=[receiver.book for receiver in self.receivers],
        )
        return Summary(
            elapsed_s=trio.current_time() - self._began_s,
            evidence=evidence,
            faults=findings(evidence),
            rate_per_s=self._steady_rate_per_s(),
            events=[*self._events, *self._outcomes()],
        )

    def _outcomes(self) -> Iterator[str]:
        if self._longest_queue:
            yield f"{CHAT}: {CHAT_PER_S:.0f}/s at most; up to {self._longest_queue} waited, the most severe came first"
        if made_good := self._by_name[STAND_IN].book.accepted:
            yield f"{HANGING}: never answered; {STAND_IN} stood in for it with {made_good} alerts, nobody else waited"

    def _steady_rate_per_s(self) -> float | None:
        """The rate while all workers ran, none was killed and there was always something to do."""
        if self._steady_from_s is None or self._steady_until_s is None:
            return None
        return rate_per_s(self._slow.first_seen_s, self._steady_from_s, self._steady_until_s)

    def _report(self, event: str) -> None:
        self.screen.report(trio.current_time() - self._began_s, event)
