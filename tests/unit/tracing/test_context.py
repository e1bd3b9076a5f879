"""Which trace an alert belongs to."""

import datetime as dt
import json
from contextvars import copy_context

import pytest
from opentelemetry import trace

from tests.support.fakes.world import EVENT
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.tracing.context import AlertIds, Named, in_trace_of, named_in

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def trace_of(named: Named, record_id: str = "1-0") -> tuple[str, str]:
    """Return the trace and the parent of the first span."""

    def begin() -> tuple[str, str]:
        context = trace.get_current_span(in_trace_of(named, record_id, "d")).get_span_context()
        if context.is_valid:
            return f"{context.trace_id:032x}", f"{context.span_id:016x}"
        return f"{AlertIds().generate_trace_id():032x}", ""

    return copy_context().run(begin)


@pytest.mark.parametrize("traceparent", [PARENT, f"00-{TRACE}-{SPAN}-00", f"01-{TRACE}-{SPAN}-01-more"])
def test_the_producer_s_span_is_the_parent(traceparent: str) -> None:
    """What W3C Trace Context calls valid, sampled or not; it counts more than `trace_id`."""
    named = Named(trace_id="f" * 32, extra=json.dumps({"traceparent": traceparent}))

    assert (TRACE, SPAN) == trace_of(named)


def test_a_trace_id_alone_names_the_trace() -> None:
    """Its span is not known: the alert's own is a root of that trace."""
    assert (TRACE, "") == trace_of(Named(trace_id=TRACE.upper()))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"traceparent": ""},
        {"traceparent": 7},
        {"traceparent": None},
        {"traceparent": [PARENT]},
        {"traceparent": PARENT + "-more"},
        {"traceparent": PARENT.replace(TRACE, "0" * 32)},
        {"traceparent": PARENT.replace(SPAN, "0" * 16)},
        {"traceparent": "ff" + PARENT[2:]},
        {"traceparent": PARENT + "\r\nX-Evil: 1"},
        {"traceparent": "x" * 100_000},
        {"extra": {"traceparent": PARENT}},
    ],
    ids=str,
)
@pytest.mark.parametrize("trace_id", ["", "0" * 32, "abc", TRACE + "0", "x" * 32])
def test_what_makes_no_sense_counts_as_none(extra: dict[str, object], trace_id: str) -> None:
    """Then the trace is made from the record's ID: the same one at each retry, another one for each record."""
    named = Named(trace_id=trace_id, extra=json.dumps(extra))

    assert trace_of(Named()) == trace_of(named)
    assert trace_of(named) != trace_of(named, "2-0")
    assert "" == trace_of(named)[1]
    assert trace_of(named)[0] not in (TRACE, "0" * 32)


def test_it_is_read_from_what_is_kept_of_an_alert() -> None:
    """A new alert and the record of a retry have the same body; one that somebody changed by hand says nothing."""
    written = json.dumps(EVENT | {"traceparent": PARENT, "trace_id": "t"}).encode()
    alert = parse_entry(Entry("S", "1-0", {b"event": written}, "1-0"), dt.datetime.now(dt.UTC))
    named = named_in(alert.body)

    assert (EVENT["alert_id"], EVENT["rule_id"], EVENT["severity"], "t") == (
        named.alert_id,
        named.rule_id,
        named.severity,
        named.trace_id,
    )
    assert (TRACE, SPAN) == trace_of(named)
    assert Named() == named_in(b'{"trace_id":7}')
    assert Named() == named_in(b"\xff")
