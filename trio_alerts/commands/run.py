"""`run`: the worker."""

import argparse
import dataclasses
import gc
import resource
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import trio
from loguru import logger

from trio_alerts import __version__
from trio_alerts.assembly import StoreOpener, open_pipeline
from trio_alerts.commands.command import Command
from trio_alerts.meter.cells import Cells, SharedCells
from trio_alerts.meter.layout import Layout
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.pulse import beat
from trio_alerts.pipeline.service import serve, watch_signals
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import Settings, require_channels, warnings_about
from trio_alerts.settings.tables import as_toml, changed
from trio_alerts.stop_signals import child_number
from trio_alerts.store import open_store
from trio_alerts.supervisor import supervise, watch_parent
from trio_alerts.text import in_words

if TYPE_CHECKING:
    from trio_alerts.web.site import Site


def _execute(_: argparse.Namespace, settings: Settings) -> int:
    require_channels(settings)
    if child_number() is None:
        introduce(settings)
    if settings.processes > 1 and child_number() is None:
        Routing(settings)  # a mistake is reported once, not by every child
        return trio.run(_lead, settings)
    work(settings)
    return 0


async def _lead(settings: Settings) -> int:
    """Supervise worker processes, and serve for all of them what `http_bind` asks for."""
    cells = {} if settings.http_bind is None else SharedCells.for_children(Layout.of(settings), settings.processes)
    site = _site(settings, {f"worker process {number}": one.cells for number, one in cells.items()})
    command = [sys.executable, "-m", "trio_alerts", *sys.argv[1:]]
    async with trio.open_nursery() as nursery:
        if site is not None:
            await nursery.start(site.serve)
        code = await supervise(command, settings.processes, settings.grace_s, 2 * settings.store_timeout_s, cells)
        nursery.cancel_scope.cancel()
    return code


def _site(settings: Settings, processes: Mapping[str, Cells], open_store: StoreOpener = open_store) -> "Site | None":
    """Return what is served here, already bound; None: nothing."""
    if settings.http_bind is None or child_number() is not None:
        return None
    # Imported here: it needs a quarter of a second, and 20 MB, which whoever serves nothing would pay for.
    from trio_alerts.web.site import Site  # noqa: PLC0415

    return Site(settings.http_bind, settings, processes, open_store)


def work(settings: Settings, open_store: StoreOpener = open_store) -> None:
    """Carry alerts in this process until it is stopped; see `open_pipeline`."""
    settings = _own_consumer(settings)
    with logger.contextualize(consumer=settings.consumer):
        for warning in warnings_about(settings):
            logger.warning("{warning}", warning=warning)
        _allow_many_files()
        _spare_the_collector()
        meter = Meter.of(settings)
        trio.run(_run, settings, meter, _site(settings, {"this process": meter.cells}, open_store), open_store)


def introduce(settings: Settings) -> None:
    """Log what runs here, with what: hosts, and neither credentials nor the paths of receivers."""
    destinations = {channel.name: channel.destination for channel in settings.channels}
    others = {name: value for name, value in changed(settings).items() if name not in _INTRODUCED}
    each = "1 process" if settings.processes == 1 else f"{settings.processes} processes, each"
    logger.info(
        "trio-alerts {version}",
        version=__version__,
        streams=settings.stream_names,
        redis=str(settings.redis_url),
        group=settings.group,
        store=str(settings.store_url),
        destinations=destinations,
        processes=settings.processes,
        workers=settings.workers,
        settings=others,
        _below=(
            f"reads     {', '.join(settings.stream_names)} of {settings.redis_url} as group {settings.group}",
            f"records   in {settings.store_url}",
            f"notifies  {', '.join(f'{name} ({where})' for name, where in destinations.items())}",
            f"runs      {each} with {settings.workers} workers",
            f"keeps     {_kept(settings)}",
            *(f"set       {name} = {as_toml(value)}" for name, value in others.items()),
        ),
    )


def _kept(settings: Settings) -> str:
    """Say what grows: by default everything does."""
    keep_s, trims = settings.keep_records_s, settings.trim == "acked"
    entries = f"entries for {in_words(settings.trim_keep_s)} (trim = acked)" if trims else "every entry (trim = off)"
    if keep_s is None:
        return f"{entries}, and every record (no keep_records_s)"
    return f"{entries}, and records for {in_words(keep_s)}, once their entries are gone"


# What the lines and fields of the banner say already; secrets are not among the settings that `changed` returns.
_INTRODUCED = frozenset({"stream", "streams", "group", "consumer", "processes", "workers"})


async def _run(settings: Settings, meter: Meter, site: "Site | None", open_store: StoreOpener) -> None:
    """Serve until stopped; a stop that comes before anything is read ends whatever is being waited for."""
    pipeline: Pipeline | None = None

    def stop() -> None:
        if pipeline is not None and pipeline.reading:
            pipeline.stop()
        else:
            starting.cancel()

    with trio.CancelScope() as starting:
        async with trio.open_nursery() as nursery:
            await nursery.start(watch_signals if child_number() is None else watch_parent, stop)
            nursery.start_soon(beat, meter)
            if site is not None:
                await nursery.start(site.serve)
            async with open_pipeline(settings, meter, open_store) as pipeline:
                await serve(pipeline)
            nursery.cancel_scope.cancel()  # nobody waits for signals any more
    if starting.cancelled_caught:
        logger.info("stopped before anything was read")


def _own_consumer(settings: Settings) -> Settings:
    """Give each of several processes a consumer name of its own, also where the settings name one."""
    number = child_number()
    return settings if number is None else dataclasses.replace(settings, consumer=f"{settings.consumer}-{number}")


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


COMMAND = Command(
    execute=_execute,
    about="""\
Runs until SIGTERM, SIGINT or SIGHUP: then nothing new is read, what is being sent gets --grace-s to finish, and the
exit code is 0. A second signal stops it at once with exit code 1; other processes take over what was interrupted.

It needs Redis, a store and at least one channel. A problem with one of them ends it before anything is consumed:
2 settings, 3 the index, 4 a backend cannot be reached or refuses us. Exit code 1: a fault while running; 5: too many
entries in a row were quarantined.""",
    examples=(
        "run --webhook-url https://example.org/alerts",
        "run --config /etc/trio-alerts.toml --log-format json",
        "run --redis-url redis://10.0.0.5:6379/0 --store-url sqlite:///alerts.db --webhook-url http://10.0.0.9/hook",
    ),
    json="the same as --log-format json",
    service=True,
)
