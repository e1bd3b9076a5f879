"""Where spans go: OpenTelemetry's SDK, which sends them from a thread of its own. It is configured by `OTEL_*`."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio
from anyio import to_thread
from loguru import logger
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

import trio_alerts
from trio_alerts.text import one_line
from trio_alerts.tracing.context import AlertIds

FLUSH_S = 3.0  # how long a stop waits for the last spans: a collector takes them in milliseconds, or is away
_SHOWN = 300  # characters of what the SDK says: it may quote the answer of a collector


@asynccontextmanager
async def open_tracer(consumer: str, environment: Mapping[str, str]) -> AsyncIterator[Tracer]:
    """Give a tracer whose spans are sent in batches; behind the block the last ones are sent, within `FLUSH_S`.

    Nothing here waits for the collector: what it does not take in time is dropped, which is said once.
    """
    library = logging.getLogger("opentelemetry")
    once, propagate = _SaidOnce(), library.propagate
    library.addHandler(once)
    library.propagate = False
    provider = TracerProvider(
        resource=_resource(consumer, environment), id_generator=AlertIds(), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        yield provider.get_tracer("trio_alerts", trio_alerts.__version__)
    finally:
        with trio.move_on_after(FLUSH_S, shield=True):
            await to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)
        library.removeHandler(once)
        library.propagate = propagate


def _resource(consumer: str, environment: Mapping[str, str]) -> Resource:
    """Return what these spans come from; the environment may name the service otherwise."""
    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
    ours = {"service.version": trio_alerts.__version__, "service.instance.id": consumer}
    return Resource.create(ours if named else {SERVICE_NAME: "trio-alerts", **ours})


class _SaidOnce(logging.Handler):
    """Takes the SDK's warnings into our log, the first as a warning: it has one for each batch that is not taken."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        reason = one_line(record.getMessage()[:_SHOWN])
        if self._said:
            logger.debug("spans are dropped: {reason}", reason=reason)
            return
        self._said = True
        logger.warning("spans are dropped, or late: {reason} (said once; alerts do not wait for them)", reason=reason)
