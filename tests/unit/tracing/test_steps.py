"""The spans of an alert, on fakes."""

from typing import Any

import trio
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trio.testing import MockClock

from tests.support.fakes.world import STREAM, World
from trio_alerts.alert import parse_entry
from trio_alerts.outcome import Accepted, Outcome, Refused, Retry
from trio_alerts.tracing.context import AlertIds
from trio_alerts.tracing.steps import Tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
NEW = ["parse", "persist", "notify webhook", "update"]


class Traced:
    """A world whose one process is traced."""

    def __init__(self, *outcomes: Outcome, **settings: Any) -> None:
        self.world = World(list(outcomes))
        self.pipeline = self.world.pipeline(**settings)
        self._exporter = InMemorySpanExporter()
        provider = TracerProvider(id_generator=AlertIds(), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        Tracing(provider.get_tracer("test")).trace(self.pipeline)

    async def serve(self, seconds: float = 1.0) -> None:
        """Carry what was emitted."""
        async with self.world.serving(self.pipeline):
            await trio.sleep(seconds)

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def below(self, root: ReadableSpan) -> list[str]:
        """Return the names of the spans in another, in the order of their ends."""
        return [span.name for span in self.spans if span.parent is not None and span.parent == root.context]

    @property
    def roots(self) -> list[ReadableSpan]:
        """The spans that lie in none of these."""
        ours = [span.context for span in self.spans]
        return [span for span in self.spans if span.parent not in ours]


async def test_each_step_is_a_span(autojump_clock: MockClock) -> None:
    """Four of them in one, in the trace that the producer named; its attributes say which alert, and how it ended."""
    traced = Traced()
    entry = traced.world.emit(trace_id=TRACE, severity="high", title="a secret")
    await traced.serve()

    (root,) = traced.roots
    assert (f"process {STREAM}", NEW) == (root.name, traced.below(root))
    assert {int(TRACE, 16)} == {span.context.trace_id for span in traced.spans if span.context}
    assert root.attributes is not None
    assert (entry, "high", "delivered") == tuple(
        root.attributes[f"trio_alerts.{name}"] for name in ("record_id", "severity", "state")
    )
    assert "secret" not in str([span.to_json() for span in traced.spans])


async def test_retries_are_in_the_same_trace(autojump_clock: MockClock) -> None:
    """Each is a root of its own, with the steps that it has; that it was claimed is none of them."""
    traced = Traced(Retry("busy", 503), Accepted(200), retry_schedule_s=(1.0,))
    traced.world.emit()
    await traced.serve(10)

    first, again = traced.roots
    assert [NEW, ["notify webhook", "update"]] == [traced.below(first), traced.below(again)]
    assert (f"process {STREAM}", "deliver") == (first.name, again.name)
    assert 1 == len({span.context.trace_id for span in traced.spans if span.context})


async def test_two_alerts_have_two_traces(autojump_clock: MockClock) -> None:
    """One that names its trace leaves nothing behind for the next that the same worker carries."""
    traced = Traced(workers=1)
    traced.world.emit(trace_id=TRACE)
    traced.world.emit(alert_id="b")
    await traced.serve()

    ids = [f"{span.context.trace_id:032x}" for span in traced.roots if span.context]
    assert TRACE == ids[0]
    assert 2 == len(set(ids))


async def test_what_no_receiver_took_is_an_error_of_that_step(autojump_clock: MockClock) -> None:
    """With the reason, as the record has it: bounded, on one line."""
    traced = Traced(Refused("no\n" + 1000 * "x", 400))
    traced.world.emit(alert_id="\x1b[31m" + 1000 * "a")
    await traced.serve()

    (notified,) = [span for span in traced.spans if span.name == "notify webhook"]
    assert notified.status.description is not None
    assert notified.status.description.startswith(r"no\nxxx")
    assert {"trio_alerts.channel": "webhook", "trio_alerts.outcome": "refused", "trio_alerts.status": 400} == dict(
        notified.attributes or {}
    )
    texts = [str(value) for span in traced.spans for value in (span.attributes or {}).values()]
    assert max(map(len, [*texts, notified.status.description])) < 300
    assert all(text.isprintable() for text in texts)


async def test_an_exception_shows_its_name_alone(autojump_clock: MockClock) -> None:
    """What it says may be a secret or a payload."""
    traced = Traced()

    def fail(_: object) -> Outcome:
        raise KeyError("hunter2")

    traced.world.channel.decide = fail
    traced.world.emit()
    await traced.serve()

    (notified,) = [span for span in traced.spans if span.name == "notify webhook"]
    assert "KeyError" == notified.status.description
    assert "hunter2" not in str([span.to_json() for span in traced.spans])


async def test_what_is_no_alert_has_a_span_of_its_end(autojump_clock: MockClock) -> None:
    """The parse failed, by its reason; the quarantine is a step."""
    traced = Traced()
    traced.world.server.add(STREAM, {b"event": b'{"title":"hunter2'})
    await traced.serve()

    (root,) = traced.roots
    assert ["parse", "quarantine"] == traced.below(root)
    (parsed,) = [span for span in traced.spans if span.name == "parse"]
    assert "bad_json" == parsed.status.description
    assert "hunter2" not in str([span.to_json() for span in traced.spans])


async def test_a_pipeline_that_is_not_traced_is_as_it_was() -> None:
    """Tracing is nothing of the interpreter's: a pipeline beside a traced one goes without."""
    Traced()
    pipeline = World().pipeline()

    async def carry(*_: object) -> None:
        """Stand for a worker's own."""

    assert carry is pipeline.traced(carry)
    assert parse_entry is pipeline.parse
