"""The steps of an alert as spans: what a pipeline calls, wrapped when tracing is on."""

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from time import time_ns
from typing import Any, TypeVar

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from trio_alerts.alert import Alert, Entry, parse_entry
from trio_alerts.errors import ParseFault
from trio_alerts.http.response import AnswerParser
from trio_alerts.http.transport import TrioTransport
from trio_alerts.outcome import Accepted, Later, Outcome
from trio_alerts.pipeline.claim import Claim
from trio_alerts.pipeline.patient import PatientStore, PatientStream
from trio_alerts.pipeline.state import Carry, Pipeline
from trio_alerts.ports.channel import Channel, Message
from trio_alerts.ports.store import Conflict, Stored
from trio_alerts.record import Record
from trio_alerts.text import one_line
from trio_alerts.tracing.context import Named, in_trace_of, named_in, traceparent

_LONGEST = 256  # characters of an attribute: alerts and answers are written by others


T = TypeVar("T")


class Tracing:
    """Traces the alerts of one process.

    The spans of an alert lie in one that lasts as long as a worker carries it. What is done for many alerts at once,
    the bulk request, the batch of acknowledgements, has no span: each alert's step lasts until its part is done.
    """

    def __init__(self, tracer: Tracer) -> None:
        self.transport = _TracedTransport
        self._tracer = tracer

    def trace(self, pipeline: Pipeline) -> None:
        """Wrap what the workers of a pipeline call: from now on each step is a span."""
        stopping = pipeline.stopping
        pipeline.parse = _parse
        pipeline.traced = self._traced
        pipeline.store_before_send = _TracedStore("persist", pipeline.store, pipeline.store_outage, stopping)
        pipeline.store_after_send = _TracedStore("update", pipeline.store, pipeline.store_outage)
        pipeline.patient_stream = _TracedStream(pipeline.stream, pipeline.stream_outage)
        pipeline.channels = self.channels(pipeline.channels)

    def channels(self, channels: Mapping[str, Channel]) -> dict[str, Channel]:
        """Return channels, each attempt through which is a span."""
        return {name: _TracedChannel(name, channel) for name, channel in channels.items()}

    def _traced(self, carry: Carry) -> Carry:
        async def carry_in_span(work: Entry | Claim, pipeline: Pipeline) -> Entry | None:
            journey = _Journey(self._tracer, work, pipeline.deployment)
            _UNDER_WAY.set(journey)  # in this worker's context; the next alert takes its place
            try:
                return await carry(work, pipeline)
            finally:
                journey.end()

        return carry_in_span


class _Journey:
    """One alert while a worker carries it. Its span is begun once its trace is known: a new alert is parsed before."""

    def __init__(self, tracer: Tracer, work: Entry | Claim, deployment: str) -> None:
        self.tracer = tracer
        self.span: Span | None = None
        self._work = work
        self._deployment = deployment
        self._began_ns = time_ns()
        if isinstance(work, Claim):
            self.begin(named_in(work.stored.record.body))

    def begin(self, named: Named) -> Span:
        """Begin the span that all others lie in."""
        work = self._work
        context = in_trace_of(named, work.record_id, self._deployment)
        name = f"process {work.stream}" if isinstance(work, Entry) else "deliver"
        self.span = self.tracer.start_span(name, context, SpanKind.CONSUMER, start_time=self._began_ns)
        self.note("record_id", work.record_id)
        if isinstance(work, Entry):
            self.note("stream", work.stream)
            self.note("deliveries", work.deliveries)
        for name in ("alert_id", "rule_id", "severity"):
            if value := getattr(named, name):
                self.note(name, value)
        return self.span

    def note(self, name: str, value: str | int) -> None:
        """Say something of the alert."""
        if self.span is not None:
            _note(self.span, name, value)

    def end(self) -> None:
        """End its span, if there is one."""
        if self.span is not None:
            self.span.end()


_UNDER_WAY: ContextVar[_Journey | None] = ContextVar("journey", default=None)


@contextmanager
def _step(name: str, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """A block that is a step of the alert under way; of no alert, as when a retry is claimed, it has no span."""
    journey = _UNDER_WAY.get()
    if journey is None:
        yield INVALID_SPAN
        return
    context = set_span_in_context(journey.span or journey.begin(Named()))
    # Not by the SDK, which would take over the message of an exception, and its traceback.
    with journey.tracer.start_as_current_span(
        name, context, kind, record_exception=False, set_status_on_exception=False
    ) as span:
        try:
            yield span
        except BaseException as fault:
            span.set_status(Status(StatusCode.ERROR, type(fault).__name__))
            raise


def _parse(entry: Entry, now: dt.datetime) -> Alert:
    """Parse, and begin the span of the alert with what it says of its trace."""
    journey, began_ns = _UNDER_WAY.get(), time_ns()
    assert journey is not None  # noqa: S101 - workers alone parse
    try:
        alert = parse_entry(entry, now)
    except ParseFault as fault:
        with _step("parse") as span:
            span.set_status(Status(StatusCode.ERROR, fault.reason))
        raise
    journey.tracer.start_span(
        "parse", set_span_in_context(journey.begin(named_in(alert.body))), start_time=began_ns
    ).end()
    return alert


class _TracedStore(PatientStore):
    """The store of one step."""

    def __init__(self, step: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._step = step

    async def create(self, record: Record) -> Stored | Conflict:
        with _step(self._step) as span:
            return _noted(span, "create", await super().create(record))

    async def replace(self, record: Record, version: tuple[int, int]) -> Stored | Conflict:
        with _step(self._step) as span:
            return _noted(span, "replace", await super().replace(record, version))

    async def get(self, record_id: str) -> Stored | None:
        with _step(self._step) as span:
            return _noted(span, "get", await super().get(record_id))


class _TracedStream(PatientStream):
    async def quarantine(self, entry: Entry, reason: str, error: str) -> bool:
        with _step("quarantine") as span:
            _note(span, "reason", reason)
            return await super().quarantine(entry, reason, error)


class _TracedChannel:
    """A channel, each attempt through which is a span: the parent of what the receiver does with its request."""

    def __init__(self, name: str, channel: Channel) -> None:
        self.name = name
        self._channel = channel

    async def send(self, message: Message) -> Outcome | Later:
        """See the port."""
        with _step(f"notify {self.name}", SpanKind.CLIENT) as span:
            outcome = await self._channel.send(message)
            _note(span, "channel", self.name)
            _note(span, "outcome", type(outcome).__name__.lower())
            if outcome.status is not None:
                _note(span, "status", outcome.status)
            if not isinstance(outcome, Accepted):
                span.set_status(Status(StatusCode.ERROR, one_line(outcome.reason[:_LONGEST])))
            return outcome


class _TracedTransport(TrioTransport):
    """The transport of channels over HTTP: a request names the span under way in `traceparent`."""

    async def exchange(self, key: Any, data: bytes, *arguments: Any, **named: Any) -> AnswerParser:
        """See `TrioTransport`."""
        if parent := traceparent():
            first, _, rest = data.partition(b"\r\n")
            data = b"%b\r\ntraceparent: %b\r\n%b" % (first, parent.encode(), rest)
        return await super().exchange(key, data, *arguments, **named)


def _noted(span: Span, operation: str, answer: T) -> T:
    """Return an answer of the store, and say in spans what was asked and what the record is now."""
    _note(span, "operation", operation)
    journey = _UNDER_WAY.get()
    if journey is not None and isinstance(answer, Stored):
        journey.note("state", answer.record.delivery.state)
    return answer


def _note(span: Span, name: str, value: str | int) -> None:
    span.set_attribute(f"trio_alerts.{name}", one_line(value[:_LONGEST]) if isinstance(value, str) else value)
