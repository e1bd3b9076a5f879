"""Puts one process together: from settings to a pipeline whose backends are open."""

import datetime as dt
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from anyio import to_thread

from trio_alerts.backends.redis.stream import open_redis_stream
from trio_alerts.channels.registry import Equipment, load_kind
from trio_alerts.clock import ServerClock
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.transport import TrioTransport
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.fault_points import FaultPoint
from trio_alerts.pipeline.retired import Close
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.channel import ConfiguredChannel
from trio_alerts.ports.store import AlertStore
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import ChannelSettings, Settings
from trio_alerts.store import open_store
from trio_alerts.tracing.switch import open_tracing

if TYPE_CHECKING:
    from trio_alerts.tracing.steps import Tracing

StoreOpener: TypeAlias = Callable[[Settings], AbstractAsyncContextManager[AlertStore]]
Reconfigure: TypeAlias = Callable[[Settings], Awaitable[None]]


@asynccontextmanager
async def open_pipeline(
    settings: Settings, meter: Meter, open_store: StoreOpener = open_store
) -> AsyncIterator[tuple[Pipeline, Reconfigure]]:
    """Open everything that `run` needs, and close it afterwards; the benchmark has an `open_store` of its own.

    Gives the pipeline, and what lets it take up other settings: wholly or, with a SettingsError, not at all.

    Raises:
        SettingsError: A route leads nowhere, or the fault point makes no sense.
        StartError: A backend cannot be reached or refuses us.
    """
    routing = Routing(settings)
    fault_point = FaultPoint(os.environ.get("TRIO_ALERTS_FAULT", ""))
    clock = ServerClock()
    async with AsyncExitStack() as opened:
        tracing = await opened.enter_async_context(open_tracing(settings.consumer, os.environ))
        stream = await opened.enter_async_context(open_redis_stream(settings))
        store = await opened.enter_async_context(open_store(settings))
        if writes := getattr(store, "writes", None):  # the benchmark's own store has no batches
            writes.on_batch.append(meter.batches("store"))
        outlets = Outlets(clock.now, tracing)
        opened.push_async_callback(outlets.aclose)
        channels, _ = outlets.make(settings)
        pipeline = Pipeline(
            settings=settings,
            stream=stream,
            upkeep=stream.upkeep,
            store=store,
            silences=stream.silences,
            hints=stream.hints,
            gates=stream.gates,
            channels=channels,
            routing=routing,
            clock=clock,
            fault_point=fault_point,
            meter=meter,
        )
        if tracing:
            tracing.trace(pipeline)
        yield pipeline, partial(outlets.reconfigure, pipeline)


class Outlets:
    """The channels of one process, and the transport that they share; what has not changed is made once.

    Args:
        now: The time, for channels.
        tracing: Traces attempts and requests, if it is on.
    """

    def __init__(self, now: Callable[[], dt.datetime], tracing: "Tracing | None" = None) -> None:
        self._now = now
        self._tracing = tracing
        self._settings = Settings()
        self._transport: TrioTransport | None = None
        self._open: set[TrioTransport] = set()
        self._channels: Mapping[str, ConfiguredChannel] = {}

    async def reconfigure(self, pipeline: Pipeline, settings: Settings) -> None:
        """Let a pipeline take up other channels and routes, wholly or, with an error, not at all.

        Raises:
            SettingsError: A route or a channel is wrong.
        """
        routing = await to_thread.run_sync(Routing, settings)  # to prove it takes its time
        channels, close = self.make(settings)
        traced = self._tracing.channels(channels) if self._tracing else channels
        pipeline.reconfigure(settings, traced, routing, close)

    def make(self, settings: Settings) -> tuple[Mapping[str, ConfiguredChannel], Close | None]:
        """Return the channels, by each of their names, and what closes a transport that none of them uses any more.

        Raises:
            SettingsError: One cannot be made; then nothing has changed.
        """
        before, transport = self._transport, self._transport
        if transport is None or settings.networks != self._settings.networks:
            transport = make_transport(settings, self._tracing.transport if self._tracing else TrioTransport)
        channels: dict[str, ConfiguredChannel] = {}
        for one in settings.channels:
            is_kept = transport is before and one in self._settings.channels
            channel = self._channels[one.name] if is_kept else make_channel(one, transport, self._now)
            channels |= dict.fromkeys(one.names, channel)
        self._settings, self._transport, self._channels = settings, transport, channels
        self._open.add(transport)
        return channels, None if before in (None, transport) else partial(self._close, before)

    async def aclose(self) -> None:
        """Close all idle connections; see `TrioTransport`."""
        for transport in list(self._open):
            await self._close(transport)

    async def _close(self, transport: TrioTransport) -> None:
        self._open.discard(transport)
        await transport.aclose()


def make_transport(settings: Settings, kind: type[TrioTransport] = TrioTransport) -> TrioTransport:
    """Make the transport that all channels share; the caller closes it."""
    return kind(networks=AllowedNetworks.of(settings.networks), connect_timeout_s=settings.connect_timeout_s)


def make_channel(
    channel: ChannelSettings, transport: TrioTransport, now: Callable[[], dt.datetime]
) -> ConfiguredChannel:
    """Make a channel of any kind from its settings; see `Equipment`."""
    return load_kind(channel.kind).channel(channel, Equipment(transport, now))
