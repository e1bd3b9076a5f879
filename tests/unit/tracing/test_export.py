"""Where spans go: how long a stop waits for them, and what is said of those that are dropped."""

import logging
import threading
from collections.abc import Mapping
from unittest.mock import patch

import pytest
import trio
from opentelemetry.sdk.trace import TracerProvider

from trio_alerts.tracing import export
from trio_alerts.tracing.export import open_tracer


async def test_a_stop_does_not_wait_for_a_collector_that_hangs() -> None:
    """After the bound it goes on; what was not sent is lost."""
    shutdown = TracerProvider.shutdown
    answers, answered = threading.Event(), threading.Event()

    def hang(provider: TracerProvider) -> None:
        if answers.wait(30):
            shutdown(provider)
            answered.set()

    with patch.object(TracerProvider, "shutdown", hang), patch.object(export, "FLUSH_S", 0.01):
        async with open_tracer("me", {}):
            pass
        assert not answered.is_set()
        answers.set()
        assert answered.wait(30)


async def test_a_cancellation_sends_what_is_left_all_the_same() -> None:
    """The last alerts before a hard stop are those that somebody will look for."""
    with patch.object(TracerProvider, "shutdown", autospec=True, side_effect=TracerProvider.shutdown) as shutdown:
        with trio.CancelScope() as scope:
            async with open_tracer("me", {}):
                scope.cancel()
        shutdown.assert_called_once()


async def test_dropped_spans_are_said_once(logged: list[str], caplog: pytest.LogCaptureFixture) -> None:
    """The SDK warns of each batch, and may quote an answer: the first is a warning, bounded and on one line."""
    library = logging.getLogger("opentelemetry.exporter")
    async with open_tracer("me", {}):
        library.error("Failed to export: %s", "\x1b[31m" + 1000 * "x")
        library.warning("Queue full")

    first, second = logged
    assert first.startswith(r"WARNING spans are dropped, or late: Failed to export: \x1b[31mxxx")
    assert first.endswith("(said once; alerts do not wait for them)")
    assert len(first) < 400
    assert "DEBUG spans are dropped: Queue full" == second
    assert [] == caplog.records, "else they would come a second time, as a library's"
    assert logging.getLogger("opentelemetry").propagate


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "trio-alerts"),
        ({"OTEL_SERVICE_NAME": "pages"}, "pages"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=pages,a=b"}, "pages"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=b"}, "trio-alerts"),
    ],
    ids=str,
)
async def test_spans_say_what_they_come_from(
    environment: Mapping[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service, unless the environment names it; which version and which consumer."""
    for name, text in environment.items():
        monkeypatch.setenv(name, text)
    async with open_tracer("me", environment) as tracer:
        span = tracer.start_span("one")

    resource = getattr(span, "resource").attributes  # noqa: B009 - the API's type of a span has none
    assert (expected, "me") == (resource["service.name"], resource["service.instance.id"])
