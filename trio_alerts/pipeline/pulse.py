"""The pulse: once a second a process notes, where its parent can read it, that its loop turns, and how it stands."""

import time

import trio

from trio_alerts.meter.cells import now_ms
from trio_alerts.meter.meter import Meter
from trio_alerts.pipeline.channel_gate import ChannelGate
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.record_ids import is_canary

EVERY_S = 1.0


async def beat(meter: Meter) -> None:
    """Note that the loop turns, from before anything is opened until cancelled, and since when this process lives."""
    meter.cells[meter.layout.started_s] = int(time.time())
    while True:
        meter.cells[meter.layout.beat] = now_ms()
        await trio.sleep(EVERY_S)


async def show_gauges(pipeline: Pipeline) -> None:
    """Note how the pipeline stands, until cancelled.

    An alert cannot go on while a backend is away: it is held from the end of the outage on.
    """
    cells, layout = pipeline.meter.cells, pipeline.meter.layout
    cells[layout.workers] = pipeline.settings.workers
    could_go_on_s = trio.current_time()
    while True:
        now_s = trio.current_time()
        outages = (pipeline.stream_outage, pipeline.store_outage)
        for place, outage in enumerate(outages):
            cells[layout.outages + place] = int(outage.under_way)
        if any(outage.under_way for outage in outages):
            could_go_on_s = now_s
        cells[layout.in_flight] = sum(not is_canary(one) for one in pipeline.in_flight.ids)
        oldest_s = pipeline.in_flight.oldest_since_s
        cells[layout.holding_since] = _ms(None if oldest_s is None else max(oldest_s, could_go_on_s), now_s)
        cells[layout.reading_since] = _ms(pipeline.read_since_s, now_s)
        for place, name in enumerate(layout.channels):
            gate = pipeline.channel_gates.get(name)  # None: it is configured no more
            failing_s = 0.0 if gate is None else _failing_s(name, gate, pipeline, now_s)
            cells[layout.open_breakers + place] = int(gate is not None and gate.view.open_s is not None)
            cells[layout.failing_ms + place] = round(failing_s * 1000)
        await trio.sleep(EVERY_S)


def _failing_s(channel: str, gate: ChannelGate, pipeline: Pipeline, now_s: float) -> float:
    """Return for how long nothing was accepted while attempts failed, as the one knows it who has seen more."""
    since_s = pipeline.health_of(channel).failing_since_s
    return max(gate.view.failing_s, 0.0 if since_s is None else now_s - since_s)


def _ms(since_s: float | None, now_s: float) -> int:
    """Return a time on trio's clock as one that other processes know; 0 if there is none."""
    return 0 if since_s is None else now_ms() - round((now_s - since_s) * 1000)
