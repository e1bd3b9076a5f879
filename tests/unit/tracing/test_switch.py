"""When a process traces, and what it says if it cannot."""

import subprocess
import sys
from collections.abc import Mapping
from unittest.mock import patch

import pytest

from trio_alerts.tracing.switch import is_on, open_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "alerts"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:9/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:9/v1/metrics"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, True),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, False),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            True,
        ),
    ],
    ids=str,
)
def test_the_standard_variables_decide(environment: Mapping[str, str], *, expected: bool) -> None:
    """An endpoint switches it on, what the standard says switches it off."""
    assert expected is is_on(environment)


async def test_a_protocol_that_is_not_known_is_said(lines: list[str]) -> None:
    """Spans that go nowhere would be missed when they are needed."""
    async with open_tracing("me", ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}) as tracing:
        assert tracing is None
    assert ["WARNING tracing is off: its protocol is 'grpc', and only http/protobuf is known"] == lines


async def test_without_the_extra_alerts_go_on(lines: list[str]) -> None:
    """A fleet may have the variable in every environment: what is not installed is a warning, and no end."""
    hidden = ["opentelemetry.exporter.otlp.proto.http.trace_exporter", "trio_alerts.tracing.export"]
    with patch.dict(sys.modules, {hidden[0]: None}):
        sys.modules.pop(hidden[1], None)
        async with open_tracing("me", ENDPOINT) as tracing:
            assert tracing is None
    (line,) = lines
    assert line.startswith("WARNING tracing is off: ")
    assert line.endswith(": install trio-alerts[otel]")


def test_off_it_is_not_even_imported() -> None:
    """Whoever does not trace loads nothing that does; redis-py takes the API by itself, where it is installed."""
    program = "import sys, trio_alerts.assembly, trio_alerts.commands.run; print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)

    ours = {name for name in said.stdout.split() if name.startswith("trio_alerts.tracing.")}
    assert {"trio_alerts.tracing.switch"} == ours
    assert "opentelemetry.exporter.otlp.proto" not in said.stdout
