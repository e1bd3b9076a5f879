"""Whether this process traces: as the standard `OTEL_*` variables of its environment say. Imports no OpenTelemetry."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from loguru import logger

if TYPE_CHECKING:
    from trio_alerts.tracing.steps import Tracing

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"


@asynccontextmanager
async def open_tracing(consumer: str, environment: Mapping[str, str]) -> AsyncIterator["Tracing | None"]:
    """Give what traces the alerts of this process, and send what is left of the spans afterwards; None: it is off.

    That it was asked for and cannot be had is a warning: no alert depends on it.

    Cancellation: the last spans are sent all the same, in a bounded time.
    """
    if not is_on(environment):
        yield None
        return
    try:
        from trio_alerts.tracing.export import open_tracer  # noqa: PLC0415 - costs time and memory where it is on
        from trio_alerts.tracing.steps import Tracing  # noqa: PLC0415
    except ModuleNotFoundError as missing:
        logger.warning("tracing is off: {error}", error=f"{missing}: install trio-alerts[otel]")
        yield None
        return
    async with open_tracer(consumer, environment) as tracer:
        yield Tracing(tracer)


def is_on(environment: Mapping[str, str]) -> bool:
    """Tell whether the environment names an endpoint, and neither disables tracing nor asks for what is not here."""
    endpoint = _first(environment, _ENDPOINTS)
    if not endpoint or environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() != "otlp":
        return False
    protocol = _first(environment, _PROTOCOLS) or PROTOCOL
    if protocol != PROTOCOL:
        logger.warning("tracing is off: {error}", error=f"its protocol is {protocol!r}, and only {PROTOCOL} is known")
        return False
    return True


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := environment.get(name, "").strip())), "")
