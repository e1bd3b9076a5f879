"""The promises about gates: a rate is kept by all processes together, a breaker that is open lets probes through."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

import trio

from tests.simulation.held_back import CALLS, TROUBLED_S
from tests.simulation.schedule import OWNER
from tests.support.fakes.gates import FakeGates
from tests.support.fakes.hints import FakeHints
from tests.support.fakes.stream_server import FakeServer
from tests.support.fakes.world import GROUP, STREAM
from trio_alerts.pipeline.admission import ADMITTED_FOR_S
from trio_alerts.pipeline.bulkhead import FEWEST_WORKERS, SLOW_AFTER_S
from trio_alerts.ports.gates import PROBE_EVERY_S, Admitted, Rate
from trio_alerts.ports.hints import Taken
from trio_alerts.record import Record
from trio_alerts.settings.settings import ChannelSettings, Settings

if TYPE_CHECKING:
    from tests.simulation.incarnation import Incarnation
    from tests.simulation.promises import Promises

T = TypeVar("T")

KNOWN_WITHIN_S = 12.0  # an attempt that had begun may end, be claimed and sent; then every process knows
OVERTAKEN_AFTER_S = 5.0  # what has waited for so long is in its queue, and everybody who asks sees it there


@dataclass
class _Bucket:
    """Tokens of a rate, counted apart from the program."""

    rate: Rate
    tokens: float
    at_s: float


class WatchedGates(FakeGates):
    """The gates as one process asks them; each grant is noted."""

    def __init__(self, server: FakeServer, settings: Settings, promises: "Promises") -> None:
        super().__init__(server, settings)
        self._promises = promises

    async def serve(self, method: str, effect: Callable[[], T], *args: object) -> T:
        who = cast("Incarnation", OWNER.get())

        def watched() -> T:
            result = effect()
            if isinstance(result, Admitted):
                again = isinstance(effect, partial) and effect.keywords.get("again", False)
                self._promises.gates.granted(*args, again=again)  # type: ignore[arg-type]  # as `ask` has them
                if result.probe:
                    self._promises.gates.probe_granted(who, *args)  # type: ignore[arg-type]
            return result

        return await super().serve(method, watched, *args)


class WatchedHints(FakeHints):
    """The hints as one process writes and takes them; when each record came into a queue is noted."""

    def __init__(self, server: FakeServer, settings: Settings, promises: "Promises") -> None:
        super().__init__(server, settings)
        self._promises = promises

    async def serve(self, method: str, effect: Callable[[], T], *args: object) -> T:
        who = cast("Incarnation", OWNER.get())

        def watched() -> T:
            result = effect()
            self._promises.gates.note_queues()
            if isinstance(result, Taken):
                probe = isinstance(effect, partial) and effect.keywords.get("probe", False)
                self._promises.gates.taken(who, result.record_id, *args, probe=probe)  # type: ignore[arg-type]
            return result

        return await super().serve(method, watched if "queued" in method else effect, *args)


class GatePromises:
    """What must hold of gates and queues.

    Attributes:
        hints_lost_at_s: When hints were last deleted.
    """

    def __init__(self, promises: "Promises", server: FakeServer) -> None:
        self.hints_lost_at_s = -math.inf
        self._promises = promises
        self._server = server
        self._buckets: dict[str, _Bucket] = {}
        self._grants: Counter[str] = Counter()
        self._probed_at_s: dict[str, float] = {}
        self._granted_probe_s: dict[tuple[str, str], float] = {}  # when last, by process and channel
        self._probes: set[tuple[str, str]] = set()  # what was taken as one, by channel and record
        self._taken_at_s: dict[tuple[str, str], float] = {}  # when each left its queue, by channel and record
        self._queued_at_s: dict[tuple[str, str], float] = {}  # by channel and record
        self._under_way: dict[tuple[str, str, str], float] = {}  # when each began, by process, channel and record

    def lost(self) -> None:
        """Note that the server knows nothing of the gates any more, or that its clock was set."""
        self._buckets.clear()
        self._probed_at_s.clear()

    def hints_gone(self) -> None:
        """Note that every hint was deleted: what waits is in no queue until somebody puts it back."""
        self.hints_lost_at_s = trio.current_time()
        self._queued_at_s.clear()

    def note_queues(self) -> None:
        """Note what has come into queues, and what has left them."""
        queues = self._server.hints_of(GROUP).queues
        there = {(channel, record_id) for channel, queue in queues.items() for record_id in queue}
        now_s = trio.current_time()
        self._queued_at_s = {one: self._queued_at_s.get(one, now_s) for one in sorted(there)}

    def probe_granted(self, who: "Incarnation", channel: str, _: Rate | None = None) -> None:
        """Note that a process may try a channel whose breaker is open."""
        self._granted_probe_s[who.name, channel] = trio.current_time()

    def taken(self, who: "Incarnation", record_id: str, channel: str, _: float, *, probe: bool) -> None:
        """Check that nobody takes a probe out of a queue who was not granted one: all others go by severity."""
        self._probes.discard((channel, record_id))
        self._taken_at_s[channel, record_id] = trio.current_time()
        if not probe:
            return
        self._probes.add((channel, record_id))
        name = self._settings_of(channel, who).name
        granted_s = max(self._granted_probe_s.get((who.name, name), -math.inf), self._troubled_s(who))
        if trio.current_time() - granted_s > KNOWN_WITHIN_S:
            self._promises.breach("P8", f"{who.name} takes {record_id} to try {channel}, and was not granted that")

    def granted(self, channel: str, rate: Rate | None = None, *, again: bool = False) -> None:
        """Check that no more is granted than the rate allows, to all processes together.

        What is granted `again` was not used before: it counts once, from now on.
        """
        self._grants[channel] += 1 - again
        if rate is None:
            return
        now_s = trio.current_time()
        bucket = self._buckets.setdefault(channel, _Bucket(rate, rate.burst, now_s))
        bucket.tokens = min(rate.burst, bucket.tokens + (now_s - bucket.at_s) * rate.per_s + again) - 1
        bucket.at_s = now_s
        if bucket.tokens < -0.01:
            self._promises.breach(
                "P8", f"{channel} was granted more than {rate.per_s} a second and {rate.burst} at once"
            )

    def send_begins(self, who: "Incarnation", channel: str, record: Record) -> None:
        """Check that a send is granted, where it must be."""
        self._check_share(who, channel, record.id)
        settings = self._settings_of(channel, who)
        if settings.rate_per_s is not None:
            self._grants[channel] -= 1
            if self._grants[channel] < 0:
                self._promises.breach("P8", f"{who.name} sends {record.id} through {channel}, which granted nothing")
        gate = self._server.gates.get((STREAM, GROUP, settings.name))
        if gate is not None and gate.open_s is not None:
            self._check_probe(who, settings.name, self._server.time() - gate.open_s)
        elif settings.rate_per_s is not None:
            self._check_order(who, channel, record)

    def _settings_of(self, channel: str, who: "Incarnation") -> ChannelSettings:
        """Return how a channel is configured there, or was before it left."""
        known = (*who.pipeline.settings.channels, *self._promises.settings.channels)
        return next((one for one in known if channel in one.names), known[-1])  # the last one has a new name, too

    def send_ended(self, who: "Incarnation", channel: str, record_id: str) -> None:
        """Note the end of a send, whatever came of it."""
        self._under_way.pop((who.name, channel, record_id), None)

    def _check_share(self, who: "Incarnation", channel: str, record_id: str) -> None:
        """Check that a channel that hangs gets no more workers, once a quarter of them are with it."""
        settings, now_s = who.pipeline.settings, trio.current_time()
        known_s = now_s - SLOW_AFTER_S[1] - ADMITTED_FOR_S - CALLS * self._promises.network.latency_s
        since_s = who.configured_at_s  # a lone channel's sends are not counted, nor those of one that had left
        slow = sum(
            one[:2] == (who.name, channel) and since_s <= began_s < known_s for one, began_s in self._under_way.items()
        )
        bounded = len(settings.channels) > 1 and settings.workers >= FEWEST_WORKERS
        if bounded and slow >= max(1, settings.workers // 4) and who.resumed_at_s < known_s:
            self._promises.breach(
                "P7", f"{who.name} sends {record_id} to {channel}, which has {slow} workers and hangs"
            )
        self._under_way[who.name, channel, record_id] = now_s

    def _check_probe(self, who: "Incarnation", channel: str, open_for_s: float) -> None:
        now_s = trio.current_time()
        troubled_s = max(self._troubled_s(who), who.configured_at_s, self._promises.jumped_at_s)
        if open_for_s < KNOWN_WITHIN_S or now_s - troubled_s < KNOWN_WITHIN_S:
            return
        since_s = now_s - self._probed_at_s.get(channel, -math.inf)
        self._probed_at_s[channel] = now_s
        if since_s < PROBE_EVERY_S - KNOWN_WITHIN_S:
            self._promises.breach(
                "P8", f"{who.name} tries {channel} {since_s:.1f} s after the last one, its breaker open"
            )

    def _troubled_s(self, who: "Incarnation") -> float:
        """Return when something last kept a process from being on time."""
        return max(who.disturbed_at_s, who.resumed_at_s, self._promises.network.store_troubled_at_s)

    def _check_order(self, who: "Incarnation", channel: str, record: Record) -> None:
        """Check that nothing overtakes what is more severe and waits, but a probe whose breaker has closed since.

        What was taken out of the queue before may have waited for a worker.
        """
        taken_s = self._taken_at_s.pop((channel, record.id), trio.current_time())
        if (channel, record.id) in self._probes:
            return
        if trio.current_time() - self._promises.network.store_troubled_at_s < TROUBLED_S:
            return  # it may have got its worker before anything waited
        rank = record.fields()["severity_rank"]
        for queued in self._server.hints_of(GROUP).queues.get(channel, {}).values():
            since_s = taken_s - self._queued_at_s[channel, queued.record_id]
            if queued.severity_rank > rank and since_s > OVERTAKEN_AFTER_S:
                self._promises.breach(
                    "P8", f"{record.id} overtakes {queued.record_id}, in the queue for {since_s:.1f} s"
                )
