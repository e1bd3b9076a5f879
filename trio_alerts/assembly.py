"""Puts one process together: from settings to a pipeline whose backends are open."""

import datetime as dt
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TypeAlias

from trio_alerts.backends.redis.stream import open_redis_stream
from trio_alerts.channels.registry import Equipment, load_kind
from trio_alerts.clock import ServerClock
from trio_alerts.http.networks import AllowedNetworks
from trio_alerts.http.transport import TrioTransport
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.fault_points import FaultPoint
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.channel import ConfiguredChannel
from trio_alerts.ports.store import AlertStore
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import ChannelSettings, Settings
from trio_alerts.store import open_store
from trio_alerts.tracing.switch import open_tracing

StoreOpener: TypeAlias = Callable[[Settings], AbstractAsyncContextManager[AlertStore]]


@asynccontextmanager
async def open_pipeline(
    settings: Settings, meter: Meter, open_store: StoreOpener = open_store
) -> AsyncIterator[Pipeline]:
    """Open everything that `run` needs, and close it afterwards; the benchmark has an `open_store` of its own.

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
        stream.acks.on_batch.append(meter.batches("redis"))
        if writes := getattr(store, "writes", None):  # the benchmark's own store has no batches
            writes.on_batch.append(meter.batches("store"))
        transport = make_transport(settings, tracing.transport if tracing else TrioTransport)
        opened.push_async_callback(transport.aclose)
        pipeline = Pipeline(
            settings=settings,
            stream=stream,
            upkeep=stream.upkeep,
            store=store,
            silences=stream.silences,
            hints=stream.hints,
            gates=stream.gates,
            channels=make_channels(settings, transport, clock.now),
            routing=routing,
            clock=clock,
            fault_point=fault_point,
            meter=meter,
        )
        if tracing:
            tracing.trace(pipeline)
        yield pipeline


def make_transport(settings: Settings, kind: type[TrioTransport] = TrioTransport) -> TrioTransport:
    """Make the transport that all channels share; the caller closes it."""
    return kind(networks=AllowedNetworks.of(settings.networks), connect_timeout_s=settings.connect_timeout_s)


def make_channels(
    settings: Settings, transport: TrioTransport, now: Callable[[], dt.datetime]
) -> dict[str, ConfiguredChannel]:
    """Make every channel, by each of the names that records may know it by."""
    channels: dict[str, ConfiguredChannel] = {}
    for one in settings.channels:
        channels |= dict.fromkeys(one.names, make_channel(one, transport, now))
    return channels


def make_channel(
    channel: ChannelSettings, transport: TrioTransport, now: Callable[[], dt.datetime]
) -> ConfiguredChannel:
    """Make a channel of any kind from its settings; see `Equipment`."""
    return load_kind(channel.kind).channel(channel, Equipment(transport, now))
