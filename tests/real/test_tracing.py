"""Tracing from end to end: what a collector gets, and that no collector holds anything up."""

import pytest

from tests.support.otlp import collecting, values
from tests.support.program import Site, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_each_step_is_a_span_of_the_producer_s_trace(
    small_site: Site, receiver: ReceiverServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the alert's `traceparent` to the receiver's; a retry is in the same trace; a stop sends what is left."""
    receiver.set_scripts({"*": Script([Step(503), Step(200)])})
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
        entry = small_site.emit(traceparent=PARENT, title="a secret title")
        with small_site.running(retry_schedule_s="0.1") as worker:
            small_site.until("delivered")
            assert 0 == stop(worker), small_site.log()
    spans = {span.span_id: span for span in collector.spans}
    assert {TRACE} == {span.trace_id.hex() for span in spans.values()}
    first, again = [span for span in spans.values() if span.parent_span_id.hex() == SPAN]
    assert [f"process {small_site.stream}", "deliver"] == [first.name, again.name]
    below = {
        root.name: [span.name for span in spans.values() if span.parent_span_id == root.span_id]
        for root in (first, again)
    }
    assert {
        first.name: ["parse", "persist", "notify webhook", "update"],
        again.name: ["notify webhook", "update"],
    } == below
    assert len(spans) == 2 + 4 + 2, "nothing else is a span"
    sent = [request.headers["traceparent"] for request in receiver.ledger().requests]
    notified = [span.span_id.hex() for span in spans.values() if span.name == "notify webhook"]
    assert [f"00-{TRACE}-{span}-01" for span in notified] == sent
    assert entry == values(first.attributes)["trio_alerts.record_id"]
    assert "trio-alerts" == collector.resource["service.name"]
    assert "secret" not in str(collector.requests)


@pytest.mark.parametrize(("status", "hangs"), [(500, False), (200, True)], ids=["refuses", "hangs"])
def test_a_collector_that_takes_nothing_delays_nothing(
    small_site: Site, receiver: ReceiverServer, monkeypatch: pytest.MonkeyPatch, status: int, *, hangs: bool
) -> None:
    """Alerts are delivered, the stop is clean, and that spans are dropped is said once, if at all."""
    with collecting(status, hangs=hangs) as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        for n in range(40):
            small_site.emit(alert_id=f"a-{n}")
        with small_site.running() as worker:
            wait_until(lambda: receiver.totals().accepted == 40, "all are delivered", small_site)
            small_site.until(*["delivered"] * 40)
            assert 0 == stop(worker), small_site.log()
    assert 1 == small_site.log().count("spans are dropped"), small_site.log()
