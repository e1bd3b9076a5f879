"""Which trace an alert belongs to: the producer's, if it names one, else one that its record makes."""

import hashlib
import re
from contextvars import ContextVar

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_W3C = TraceContextTextMapPropagator()
_HEX_128 = re.compile(r"[0-9a-fA-F]{32}")
_ROOT_ID: ContextVar[int | None] = ContextVar("root_id", default=None)


class Named(msgspec.Struct):
    """What an alert says of itself, and of its trace: some of a record's body."""

    alert_id: str = ""
    rule_id: str = ""
    severity: str = ""
    trace_id: str = ""
    extra: str = ""


class _Extra(msgspec.Struct):
    traceparent: str = ""


_BODY_DECODER = msgspec.json.Decoder(Named)
_EXTRA_DECODER = msgspec.json.Decoder(_Extra)


class AlertIds(RandomIdGenerator):
    """Gives a span without a parent the trace that `in_trace_of` chose."""

    def generate_trace_id(self) -> int:
        """See `RandomIdGenerator`."""
        return _ROOT_ID.get() or super().generate_trace_id()


def named_in(body: bytes) -> Named:
    """Return what the body of a record says; nothing if somebody changed it by hand."""
    try:
        return _BODY_DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeError):
        return Named()


def in_trace_of(named: Named, record_id: str, deployment: str) -> Context:
    """Return what the first span of an alert is begun in, and choose its trace.

    In this order: what its field `traceparent` names as the parent, by W3C Trace Context (it is no field of the schema,
    so it is in `extra`); its `trace_id`, if that has 32 hexadecimal digits; a trace that is made from the ID of its
    record, so that the retries of all processes are in the same one.
    """
    parent = _W3C.extract({"traceparent": _traceparent_in(named.extra)}, Context())
    if trace.get_current_span(parent).get_span_context().is_valid:
        return parent
    given = int(named.trace_id, 16) if _HEX_128.fullmatch(named.trace_id) else 0
    _ROOT_ID.set(given or _made_from(record_id, deployment))
    return Context()


def traceparent() -> str:
    """Return the header that makes the span under way the parent of what its reader does; empty: there is none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get("traceparent", "")


def _traceparent_in(extra: str) -> str:
    try:
        return _EXTRA_DECODER.decode(extra).traceparent if extra else ""
    except (msgspec.DecodeError, UnicodeError, RecursionError):  # it is no text: a field of the producer's own
        return ""


def _made_from(record_id: str, deployment: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{deployment} {record_id}".encode()).digest()[:16])
