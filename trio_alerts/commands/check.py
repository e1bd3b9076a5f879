"""`check`: everything that `run` would refuse."""

import argparse
import datetime as dt
import os
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

import trio

from trio_alerts.assembly import make_channel, make_transport
from trio_alerts.backends.redis.stream import open_redis_stream
from trio_alerts.commands.command import Command
from trio_alerts.commands.output import print_json
from trio_alerts.deployment import refuse_foreign
from trio_alerts.errors import AlertError, StartError, Unavailable
from trio_alerts.pipeline.fault_points import FaultPoint
from trio_alerts.ports.channel import ConfiguredChannel
from trio_alerts.ports.store import AlertStore
from trio_alerts.ports.stream import AlertStream
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import Settings, require_channels, warnings_about
from trio_alerts.store import open_store

REACH_BOUND_S = 10.0  # for all channels together; `connect_timeout_s` can be a day


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    report = _Report(as_json=arguments.json)
    trio.run(_check, settings, report)
    return report.conclude()


async def _check(settings: Settings, report: "_Report") -> None:
    """Look at everything in the order in which `run` would, and go on after each problem."""
    report.note("settings", "can be read and do not contradict each other")
    for warning in warnings_about(settings):
        report.note("settings", f"warning: {warning}")
    with report.part("channels"):
        require_channels(settings)
        report.note("channels", ", ".join(channel.name for channel in settings.channels))
    with report.part("routes"):
        routing = Routing(settings)
        report.note(
            "routes",
            f"{len(settings.routes)}; every alert leads somewhere" if settings.routes else "all to every channel",
        )
        for warning in routing.warnings:
            report.note("routes", f"warning: {warning}")
    for name, why in await _unreachable(settings):
        report.note("channels", f"warning: {name} cannot be reached now; its alerts would be retried: {why}")
    with report.part("settings"):
        FaultPoint(os.environ.get("TRIO_ALERTS_FAULT", ""))
    stream: AlertStream | None = None
    store: AlertStore | None = None
    async with AsyncExitStack() as opened:
        with report.part("redis"):
            stream = await opened.enter_async_context(open_redis_stream(settings))
            report.note("redis", f"connected to {settings.redis_url!r}")
        with report.part("store"):
            store = await opened.enter_async_context(open_store(settings))
            report.note("store", f"{settings.store_url!r} can be used")
        if store is not None and stream is not None:
            with report.part("store"):
                identity = await refuse_foreign(stream, store)
                report.note(
                    "store", "would belong to a new deployment" if identity is None else f"of deployment {identity}"
                )
        for name, backend in (("store", store), ("redis", stream)):
            if backend is not None:
                with report.part(name):
                    for line in await backend.inspect():
                        report.note(name, line)


async def _unreachable(settings: Settings) -> list[tuple[str, str]]:
    """Return which channels no connection can be opened to, and why: here and now, so it is no reason not to start."""
    found: dict[str, str | None] = {}
    deadline = trio.current_time() + REACH_BOUND_S

    async def look(channel: ConfiguredChannel) -> None:
        found[channel.name] = await channel.why_unreachable(deadline)

    async with make_transport(settings) as transport, trio.open_nursery() as looks:
        for channel in settings.channels:
            looks.start_soon(look, make_channel(channel, transport, lambda: dt.datetime.now(dt.UTC)))
    return [(name, why) for name, why in sorted(found.items()) if why is not None]


class _Report:
    """Prints findings: what is right and what would be created to stdout, problems to stderr; or all as one object."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._findings: list[dict[str, object]] = []
        self._problems: list[AlertError] = []

    def note(self, part: str, text: str) -> None:
        self._findings.append({"part": part, "problem": False, "text": text})
        if not self._as_json:
            sys.stdout.write(f"{part:<9} {text}\n")

    @contextmanager
    def part(self, part: str) -> Iterator[None]:
        """Report the problem that ends the block, if there is one, and go on after it."""
        try:
            yield
        except AlertError as error:
            problem = StartError(str(error)) if isinstance(error, Unavailable) else error
            self._problems.append(problem)
            self._findings.append({"part": part, "problem": True, "text": str(problem)})
            if not self._as_json:
                sys.stdout.flush()  # in a terminal, both in the order in which they were found
                for line in str(problem).splitlines():
                    sys.stderr.write(f"{part:<9} PROBLEM: {line}\n")

    def conclude(self) -> int:
        """Return the exit code that `run` would end with: that of the first problem it would meet."""
        exit_code = self._problems[0].exit_code if self._problems else 0
        if self._as_json:
            print_json({"would_start": not self._problems, "exit_code": exit_code, "findings": self._findings})
        elif self._problems:
            sys.stderr.write(f"`run` would not start: exit code {exit_code}\n")
        else:
            sys.stdout.write("`run` would start\n")
        return exit_code


COMMAND = Command(
    execute=_execute,
    about="""\
Checks the settings, channels, routes, Redis with its group and permissions, and the store with its mapping. Nothing is
consumed, sent, created or changed; what `run` would create is listed. A channel that cannot be connected to now (its
name is unknown, its port closed, its certificate wrong) is a warning: its alerts would be retried.

It proves that every alert leads to a channel or to a route that suppresses it; if not, it shows one that would not. A
route that no alert reaches and a channel that no route names are problems, too; critical alerts that depend on one
of several channels are a warning.

All problems are reported, and the exit code is that of the first that `run` would meet: 2 settings, channels or routes,
then 4 a backend that cannot be reached, then 3 the index or 2 the group. Settings that cannot be read (2) end it at
once.""",
    examples=("check --config /etc/trio-alerts.toml",),
    json="one object, of everything that was found",
)
