"""One history: a plan is carried out, the promises are checked, and at the end everything must come to rest."""

import dataclasses
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import cast

import trio
from loguru import logger

from tests.simulation.canaries import Keepers
from tests.simulation.configuration import configured
from tests.simulation.history import History
from tests.simulation.incarnation import Incarnation, Surroundings
from tests.simulation.network import Backend, Killed, Network, Nonsense
from tests.simulation.operators import Operators
from tests.simulation.plan import EPOCH_S, FALLBACK, PRIMARIES, RENAMED, Event, Plan
from tests.simulation.promises import Promises, WatchedStore
from tests.simulation.receiver import Receiver
from tests.simulation.schedule import OWNER, FreezingQueue, run_repeatably, scheduler_fingerprint
from tests.support.fakes.channel import FakeChannel
from tests.support.fakes.stream_server import FakeServer
from tests.support.fakes.world import GROUP, STREAM
from trio_alerts.errors import AlertError, SchemaError, StartError
from trio_alerts.outcome import Accepted, Outcome
from trio_alerts.ports.channel import Message
from trio_alerts.settings.settings import ChannelSettings, RouteSettings, Settings

REST_S = 240.0  # how long it may take, with all faults gone, until nothing moves any more
RESTART_S = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a history. `broken` is empty when every promise was kept."""

    plan: Plan
    broken: str
    steps: int
    digest: str
    ended_at_s: float
    history: History = field(repr=False)


def simulate(plan: Plan, *, log: bool = False) -> Report:
    """Carry out a plan. With `log`, the history has the program's log lines in it."""
    history = History()
    logger.remove()
    if log:
        logger.add(lambda message: _remark(history, str(message)), level="DEBUG", format="{message}", colorize=False)
    try:
        return run_repeatably(plan.chance, Simulation(plan, history).run)
    finally:
        logger.remove()


def settings_of(plan: Plan) -> Settings:
    """Return the settings before any change: everything is short, in the proportions of the defaults."""
    names, after_s = PRIMARIES[: plan.channels], plan.fallback_after_s or None
    fallback = (FALLBACK,) if after_s else ()
    send_timeout_s = 9.0 if plan.long_sends else 2.5
    return Settings(
        consumer="nobody",
        workers=plan.workers,
        batch=plan.batch,
        block_s=2.0,
        redis_timeout_s=2.0,
        store_timeout_s=3.0,
        keepalive_s=2.0,
        claim_idle_s=6.0,
        claim_every_s=1.0,
        redrive_every_s=1.0,
        connect_timeout_s=0.5,
        send_timeout_s=send_timeout_s,
        lease_s=2 * (send_timeout_s + 1.0) + 1.0,
        grace_s=4.0,
        retry_schedule_s=(1.0, 2.0, 4.0),
        quarantine_halt=1_000,
        max_deliveries=5,
        keep_records_s=plan.keep_records_s or None,
        channels=tuple(
            ChannelSettings(
                name=name,
                in_doubt_policy="hold" if name in plan.hold else "resend",
                rate_per_s=(plan.rate_per_s or None) if name == PRIMARIES[0] else None,
                burst=plan.burst if plan.rate_per_s and name == PRIMARIES[0] else None,
            )
            for name in plan.receivers
        ),
        routes=(
            RouteSettings(name="maintenance", match={"view": ("Maintenance",)}, suppress=True),
            RouteSettings(
                name="page",
                match={"severity": ("critical",)},
                channels=names,
                fallback=fallback,
                fallback_after_s=after_s,
            ),
            RouteSettings(name="rest", channels=names[:1], fallback=fallback, fallback_after_s=after_s),
        ),
    )


class Simulation:
    """A world and what happens in it.

    Attributes:
        living: The process in each slot, if there is one just now.
    """

    def __init__(self, plan: Plan, history: History) -> None:
        self.plan = plan
        self.history = history
        self.living: dict[int, Incarnation] = {}
        self._settings = settings_of(plan)
        self._restart_s = [RESTART_S] * plan.slots
        self._course = trio.CancelScope()  # what happens, up to the first broken promise
        self._ending = trio.Event()

    async def run(self) -> Report:
        """Let it all happen."""
        async with trio.open_nursery() as wires, trio.open_nursery() as events, trio.open_nursery() as processes:
            self._build(wires)
            self._events = events
            for slot in range(self.plan.slots):
                processes.start_soon(self._keep_running, slot)
            if self.plan.lagging:
                events.start_soon(self._refresh)
            if self.plan.canaries:
                events.start_soon(self._keepers.run)
            events.start_soon(self._end_early)
            with self._course:
                await self._play()
                await self._come_to_rest()
            self._finish()
            events.cancel_scope.cancel()
            if self.plan.canaries and not self.promises.broken:
                await self._keepers.end()
            for nursery in (processes, events, wires):
                nursery.cancel_scope.cancel()
        self.history.note("scheduler", "ends", scheduler_fingerprint())
        return Report(
            self.plan, self.promises.broken, len(self.history), self.history.digest(), trio.current_time(), self.history
        )

    def _build(self, wires: trio.Nursery) -> None:
        plan, settings = self.plan, self._settings
        self.server, self.store = FakeServer(), WatchedStore(lagging=plan.lagging)
        self.server.jump(EPOCH_S)
        timeouts_s: dict[Backend, float] = {"stream": settings.redis_timeout_s, "store": settings.store_timeout_s}
        self.network = Network(
            Random(plan.chance + 2), self.history, wires, plan.latency_s, timeouts_s, plan.refuses_every_s
        )
        self.network.changed = self.server.changed
        self.server.wire = self.store.wire = self.network
        hold = (*plan.hold, *(RENAMED,) * (plan.receivers[-1] in plan.hold))
        self.promises = Promises(settings, hold, self.server, self.store, self.history)
        self.promises.network = self.network
        self.store.promises = self.promises
        self.store.refuses = lambda record: self.promises.ledger[record.id].kind == "refused"
        self.network.before_effect = self._before_effect
        self.network.after_effect = self.promises.after_effect
        slowest_s = 1.1 * settings.send_timeout_s
        self.receivers = {
            name: Receiver(name, self.network, self.promises, self.history, slowest_s)
            for name in (*plan.receivers, RENAMED)
        }
        self.receivers[RENAMED].moods = self.receivers[plan.receivers[-1]].moods  # the same one
        self._operators = Operators(self.server, self.store, self.promises, self.history, Random(plan.chance + 1))
        chance = Random(plan.chance + 3)
        self._keepers = Keepers(self.server, self.store, settings, self.promises, self.history, chance)
        self._around = Surroundings(
            self.server,
            self.store,
            self.network,
            self.receivers,
            self.promises,
            self.history,
            FreezingQueue.install(),
            plan.bulk,
            plan.upgraded_from_s,
        )

    def _before_effect(self, who: Incarnation, call: object) -> None:
        self.store.caller = who
        self.store.writer = who if OWNER.get() is who and not who.dead else None
        self.promises.before_effect(who, call)

    # --- processes ---------------------------------------------------------------------------------------------------

    async def _keep_running(self, slot: int) -> None:
        """Start a process, and another one whenever it has ended."""
        number = 0
        while not self._ending.is_set():
            number += 1
            name = f"p{slot}" if self.plan.fixed_names else f"p{slot}.{number}"
            chance = Random(f"{self.plan.chance}/{slot}/{number}")
            settings = dataclasses.replace(self._configured(trio.current_time()), consumer=name)
            who = Incarnation(slot, settings, self._around, chance)
            self.living[slot] = self.promises.living[name] = who
            await who.live()
            self._check_end(who)
            del self.living[slot], self.promises.living[name]
            with trio.move_on_after(self._restart_s[slot]):
                await self._ending.wait()
            self._restart_s[slot] = RESTART_S

    def _configured(self, born_at_s: float) -> Settings:
        return configured(self._settings, self.plan, born_at_s, final=born_at_s >= self.promises.healed_at_s)

    def _check_end(self, who: Incarnation) -> None:
        bugs = [fault for fault in who.ended_by if not isinstance(fault, AlertError | Killed | Nonsense)]
        if bugs:
            self.promises.breach("P4", f"{who.name} failed unexpectedly: {bugs!r}")
        if any(isinstance(fault, SchemaError) for fault in who.ended_by):
            self._adopt(who)
        settings = self._settings
        if who.stopped_at_s > who.disturbed_at_s and not who.ended_by:
            longest_s = settings.grace_s + 4.0 + 4 * settings.store_timeout_s
            took_s = trio.current_time() - who.stopped_at_s
            if took_s > longest_s:
                self.promises.breach("P6", f"{who.name} took {took_s:.3f} s to stop")

    def _adopt(self, who: Incarnation) -> None:
        """An operator sees that the server has lost its data, and says that it is the same deployment.

        It may have lost them between the first starts of two processes, which then gave it two identities.
        """
        if not self.promises.flushed:
            self.promises.breach("P4", f"{who.name} took its own store for another deployment's: {who.ended_by!r}")
        elif self.store.owner is not None:
            self.server.owners[STREAM, GROUP] = self.store.owner

    async def _start_neighbour(self, event: Event) -> None:
        """Another deployment, such as staging with our store's address, must find out before it does anything."""
        if self.store.owner is None:
            return  # it could not know
        settings, server = dataclasses.replace(self._settings, consumer="neighbour"), self.server
        if event.how == "group":
            settings = dataclasses.replace(settings, group="another")
        else:
            server = FakeServer()
            server.jump(EPOCH_S)
            server.wire = self.network
        receivers = {name: FakeChannel(name) for name in self.receivers}
        for receiver in receivers.values():
            receiver.decide = self._sent_by_neighbour
        around = dataclasses.replace(self._around, server=server, receivers=receivers)
        who = Incarnation(event.slot, settings, around, Random(f"{self.plan.chance}/neighbour/{event.at_s}"))
        await who.live()
        if not who.ended_by or not all(isinstance(fault, SchemaError | StartError) for fault in who.ended_by):
            self.promises.breach("P4", f"another deployment ran on our store, and ended with {who.ended_by!r}")

    def _sent_by_neighbour(self, message: Message) -> Outcome:
        self.promises.breach("P3", f"another deployment sent {message.id}, from our store")
        return Accepted(200)

    # --- the plan ----------------------------------------------------------------------------------------------------

    async def _play(self) -> None:
        ends_s = 0.0
        for event in self.plan.events:
            await trio.sleep_until(event.at_s)
            self._happen(event)
            ends_s = max(ends_s, event.at_s + max(0.0, min(event.lasts_s, 90.0)))
        await trio.sleep_until(ends_s)

    def _happen(self, event: Event) -> None:
        details = [f"{name}={getattr(event, name)}" for name, usual in _USUAL.items() if getattr(event, name) != usual]
        self.history.note("world", event.what, *details)
        who = self.living.get(event.slot)
        if hasattr(self._operators, event.what):
            getattr(self._operators, event.what)(event)
        elif event.what == "weather":
            self._events.start_soon(self._for_a_while, self.network.weather, event)
        elif event.what == "mood":
            receiver = self.receivers.get(event.target)  # a history may be made smaller by leaving it out
            self._events.start_soon(self._for_a_while, receiver.moods if receiver else [], event)
        elif event.what == "impatient":
            self._events.start_soon(self._lose_patience, event)
        elif event.what == "neighbour":
            self._events.start_soon(self._start_neighbour, event)
        elif event.what == "migrate":
            self._events.start_soon(self._migrate, event)
        elif event.what == "freeze":
            self.network.frozen_until_s = trio.current_time() + event.lasts_s
            self.promises.gates.hints_lost_at_s = self.network.frozen_until_s  # until then none could be written
        elif event.what == "disconnect":
            for process in self.living.values():
                process.disconnect(cast("Backend", event.target))
        elif event.what == "stop_all":
            for slot, process in self.living.items():
                self._do_to(process, Event(event.at_s, "stop", slot, event.lasts_s))
        elif who is not None:
            self._do_to(who, event)

    def _do_to(self, who: Incarnation, event: Event) -> None:
        if event.what in ("kill", "kill_on", "stop", "stop_on"):
            self._restart_s[event.slot] = max(RESTART_S, event.lasts_s)
        match event.what:
            case "kill":
                who.kill()
            case "kill_on" | "stop_on":
                who.traps.append(event)
            case "stop":
                who.stop()
            case "reload":
                born_at_s = math.inf if event.how == "new" else -math.inf
                who.reload(configured(self._settings, self.plan, born_at_s, final=False))
            case "pause":
                who.pause()
                self._events.start_soon(self._later, event.lasts_s, who.resume)
            case "hard_stop":
                who.stop()
                self._events.start_soon(self._later, event.lasts_s, who.stop_now)

    async def _migrate(self, event: Event) -> None:
        """To the processes it is an outage of writes; after it no version that they have read is of any use."""
        blocked = Event(event.at_s, "weather", -1, event.lasts_s, "store", "read_only")
        await self._for_a_while(self.network.weather, blocked)
        self.store.begin_anew()

    async def _for_a_while(self, going_on: list[Event], event: Event) -> None:
        going_on.append(event)
        await trio.sleep(event.lasts_s)
        with suppress(ValueError):
            going_on.remove(event)

    async def _lose_patience(self, event: Event) -> None:
        with trio.move_on_after(event.lasts_s):
            while True:
                await trio.sleep(event.number)
                who = self.living.get(event.slot)
                if who is not None:
                    who.kill("by an impatient supervisor")

    async def _later(self, seconds: float, what: Callable[[], None]) -> None:
        await trio.sleep(seconds)
        what()

    async def _refresh(self) -> None:
        while True:
            await trio.sleep(1.0)
            self.store.refresh()

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _end_early(self) -> None:
        await self.promises.over.wait()
        self._course.cancel()

    async def _come_to_rest(self) -> None:
        """End every fault, and wait until nothing moves; then stop everybody softly."""
        self.history.note("world", "heals")
        self.promises.healed_at_s = trio.current_time()
        self._keepers.every_s = None
        self.network.weather.clear()
        self.network.frozen_until_s = 0.0
        for receiver in self.receivers.values():
            receiver.moods.clear()
        for who in self.living.values():
            who.traps.clear()
            who.resume()
            if any(event.what == "reload" for event in self.plan.events):
                who.reload(self._configured(self.promises.healed_at_s))
            is_last = who.pipeline.settings.channels == self._configured(self.promises.healed_at_s).channels
            if not (who.newer and is_last):  # the upgrade goes on to its end, and so does the change
                who.stop()
        rate = self.plan.rate_per_s
        tokens_s = 2 * len(self.store.records) / rate if rate else 0.0  # over slow links an alert may spend two
        rest_by_s = trio.current_time() + REST_S + tokens_s
        while unfinished := self.promises.unfinished():
            self.promises.held_back.check_lateness()
            if trio.current_time() > rest_by_s:
                self.promises.breach("P1", f"after {REST_S + tokens_s:g} s without faults, {unfinished}")
                return
            await trio.sleep(1.0)
        self._ending.set()
        for who in self.living.values():
            who.stop()
        stop_by_s = trio.current_time() + 20.0
        while self.living:
            if trio.current_time() > stop_by_s:
                self.promises.breach("P6", f"{', '.join(who.name for who in self.living.values())} did not stop")
                return
            await trio.sleep(0.5)

    def _finish(self) -> None:
        self._ending.set()
        if not self.promises.broken:
            self.promises.check_ledger()
        for who in list(self.living.values()):
            who.resume()
            who.kill("the end")


_USUAL = {name: getattr(Event(0.0, "emit"), name) for name in Event.__struct_fields__[2:]}


def _remark(history: History, line: str) -> None:
    who = OWNER.get()
    history.remark(who.name if isinstance(who, Incarnation) else "log", f"| {line.strip()}")
