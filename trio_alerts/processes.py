"""The processes of `run`: one that works alone, or a parent and the children that work for it."""

import dataclasses
import datetime as dt
import gc
import resource
import sys
from collections.abc import Callable
from typing import Protocol

import trio
from anyio import to_thread
from loguru import logger

from trio_alerts.assembly import Outlets, Reconfigure, StoreOpener, open_pipeline
from trio_alerts.meter.cells import SharedCells, now_ms
from trio_alerts.meter.layout import Layout
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.outage import Signal
from trio_alerts.pipeline.pulse import beat
from trio_alerts.pipeline.service import serve, watch_signals
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.reloads import Reloads
from trio_alerts.routing.routes import Routing
from trio_alerts.service_manager import ServiceManager
from trio_alerts.settings.changes import taken_up
from trio_alerts.settings.settings import Settings, warnings_about
from trio_alerts.shared_settings import Shared, SharedSettings, inherited_settings
from trio_alerts.stop_signals import child_number
from trio_alerts.store import open_store
from trio_alerts.supervisor import Family, watch_parent
from trio_alerts.web.health import Health


def lead(reloads: Reloads) -> int:
    """Supervise worker processes until a signal, and serve for all of them what `http_bind` asks for."""
    return trio.run(_lead, reloads, ServiceManager())


def work(reloads: Reloads, open_store: StoreOpener = open_store) -> None:
    """Carry alerts in this process alone until it is stopped; see `open_pipeline`."""
    settings = reloads.settings
    meter = Meter.of(settings, Layout.of(settings))
    health = Health(meter.layout, {"this process": meter.cells}, settings)
    _work(settings, meter, _Alone(reloads, health, open_store), open_store)


def work_for_parent(settings: Settings) -> None:
    """Carry alerts in this child of a `Family` until its parent stops it."""
    # Each has a consumer name of its own, also where the settings name one.
    settings = dataclasses.replace(settings, consumer=f"{settings.consumer}-{child_number()}")
    shared = inherited_settings()
    layout = shared.layout if shared else Layout.of(settings)
    _work(settings, Meter.of(settings, layout), _Child(), open_store)


async def _lead(reloads: Reloads, manager: ServiceManager) -> int:
    settings, layout = reloads.settings, Layout.of(reloads.settings)
    cells = SharedCells.for_children(layout, settings.processes)
    health = Health(layout, {f"worker process {number}": one.cells for number, one in cells.items()}, settings)
    family = Family(
        [sys.executable, "-m", "trio_alerts", *sys.argv[1:]],
        settings.processes,
        settings.grace_s,
        2 * settings.store_timeout_s,
        cells,
        SharedSettings(Shared(settings, layout)),
        reloads.ask,
        manager.stopping,
    )
    outlets = Outlets(lambda: dt.datetime.now(dt.UTC))

    async def use(new: Settings) -> None:
        """Find whatever is wrong, as the children would; then they all take it up."""
        await to_thread.run_sync(Routing, new)
        outlets.make(new)
        layout.add(channel.name for channel in new.channels)
        family.reconfigure(Shared(new, layout))

    async with trio.open_nursery() as nursery:
        await _show(nursery, reloads, health, manager, open_store)
        nursery.start_soon(reloads.keep_reloading, use, manager)
        code = await family.supervise()
        nursery.cancel_scope.cancel()
    await outlets.aclose()
    return code


async def _show(
    nursery: trio.Nursery, reloads: Reloads, health: Health, manager: ServiceManager, open_store: StoreOpener
) -> None:
    """Let others see how this process and its children are: who asks over HTTP, and the service manager."""
    if reloads.settings.http_bind is not None:
        # Imported here: it needs a quarter of a second, and 20 MB, which whoever serves nothing would pay for.
        from trio_alerts.web.site import Site  # noqa: PLC0415

        await nursery.start(Site(reloads.settings.http_bind, reloads, health, open_store).serve)
    nursery.start_soon(
        manager.keep_informed, health.all_read, lambda: health.problems(now_ms()), lambda: reloads.status
    )


class _Role(Protocol):
    """Whom a process that works listens to."""

    async def listen(self, nursery: trio.Nursery, stop: Callable[[], None]) -> None:
        """Listen from now on, with tasks in a nursery."""

    async def keep_reloading(self, pipeline: Pipeline, reconfigure: Reconfigure) -> None:
        """Reload whenever somebody asks for it, until cancelled."""


class _Alone:
    """To signals; and it shows itself how it is."""

    def __init__(self, reloads: Reloads, health: Health, open_store: StoreOpener) -> None:
        self._reloads = reloads
        self._health = health
        self._open_store = open_store
        self._manager = ServiceManager()

    async def listen(self, nursery: trio.Nursery, stop: Callable[[], None]) -> None:
        def stop_and_say_so() -> None:
            self._manager.stopping()
            stop()

        await nursery.start(watch_signals, stop_and_say_so, self._reloads.ask)
        await _show(nursery, self._reloads, self._health, self._manager, self._open_store)

    async def keep_reloading(self, _: Pipeline, reconfigure: Reconfigure) -> None:
        await self._reloads.keep_reloading(reconfigure, self._manager)


class _Child:
    """To its parent, which has found the settings good: who cannot take them up must not go on with others."""

    def __init__(self) -> None:
        self._told = Signal()

    async def listen(self, nursery: trio.Nursery, stop: Callable[[], None]) -> None:
        await nursery.start(watch_parent, stop, self._told.set)

    async def keep_reloading(self, pipeline: Pipeline, reconfigure: Reconfigure) -> None:
        while True:
            await self._told.changed()
            try:
                shared = await to_thread.run_sync(inherited_settings)
                if shared is None:
                    continue  # it is of another version than its parent: the next start is near
                pipeline.meter.layout.channels = shared.layout.channels
                await reconfigure(taken_up(pipeline.settings, shared.settings))
                logger.debug("took up what its parent has read")
            except Exception as fault:  # noqa: BLE001 - the service raises it once what is under way has ended
                logger.error("what its parent has read cannot be taken up here: it stops, and is replaced")
                pipeline.faults.append(fault)
                pipeline.stop()
                return


def _work(settings: Settings, meter: Meter, role: _Role, open_store: StoreOpener) -> None:
    with logger.contextualize(consumer=settings.consumer):
        for warning in warnings_about(settings):
            logger.warning("{warning}", warning=warning)
        _allow_many_files()
        _spare_the_collector()
        trio.run(_run, settings, meter, role, open_store)


async def _run(settings: Settings, meter: Meter, role: _Role, open_store: StoreOpener) -> None:
    """Serve until stopped; a stop that comes before anything is read ends whatever is being waited for."""
    pipeline: Pipeline | None = None

    def stop() -> None:
        if pipeline is not None and pipeline.reading:
            pipeline.stop()
        else:
            starting.cancel()

    with trio.CancelScope() as starting:
        async with trio.open_nursery() as nursery:
            await role.listen(nursery, stop)
            nursery.start_soon(beat, meter)
            opened = open_pipeline(settings, meter, open_store)
            async with opened as (pipeline, reconfigure), trio.open_nursery() as service:
                await service.start(serve, pipeline)
                nursery.start_soon(role.keep_reloading, pipeline, reconfigure)
            nursery.cancel_scope.cancel()  # nobody waits for signals any more
    if starting.cancelled_caught:
        logger.info("stopped before anything was read")


def _allow_many_files() -> None:
    """Every waiting receiver holds a connection open: use what the system allows without asking."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _spare_the_collector() -> None:
    """Keep the cyclic collector from visiting what lives as long as the process.

    An alert makes no cycles: what a worker made is freed by its reference count. What waits with each worker is seldom
    worth a visit; measured with 512 workers this saves 7 % of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 50)
