"""The gates of all channels, as this process watches them: once a second it says what it saw, and hears the others."""

import trio
from loguru import logger

from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.ports.gates import PROBE_EVERY_S, GateView
from trio_alerts.text import in_words

EVERY_S = 1.0  # a row that opens a breaker takes 2 s: whoever had an acceptance has reported it by then
URGENT_AFTER_S = 0.1  # what cannot wait for a second: at most ten commands in one, however many limits there are


async def watch_gates(pipeline: Pipeline, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Exchange news once a second, until cancelled; started after the first time, whether it was answered or not."""
    await _exchange(pipeline)
    task_status.started()
    while True:
        await trio.sleep(URGENT_AFTER_S)
        with trio.move_on_after(EVERY_S - URGENT_AFTER_S):
            await pipeline.gate_news.changed()
        await _exchange(pipeline)


async def _exchange(pipeline: Pipeline) -> None:
    """Tell and hear. News that nobody heard are lost: the next attempts make others."""
    now_s = trio.current_time()
    gates = {gate.name: gate for gate in pipeline.channel_gates.values()}
    news = {name: its for name, gate in gates.items() if (its := gate.take_news(now_s)) is not None}
    try:
        views = await pipeline.gates.exchange(news, list(gates))
    except Unavailable as cause:
        logger.debug("the gates do not answer: {reason}", reason=cause)
        return
    for name, view in views.items():
        before = gates[name].view
        gates[name].saw(view, now_s)
        if view.changed:
            _log_change(name, before, view)


def _log_change(channel: str, before: GateView, view: GateView) -> None:
    if view.open_s is None:
        logger.info(
            "channel {channel} takes alerts again, after {_failing} and {attempts:,} failed attempts; those that wait "
            "are sent now",
            channel=channel,
            attempts=before.attempts,
            failing_s=round(before.failing_s, 1),
            _failing=in_words(before.failing_s),
        )
        return
    logger.error(
        "channel {channel} takes no alerts: {_why}; they wait from now on, and one is tried every {_wait}; "
        "the last answer: {reason}",
        _why=f"{view.row} in a row have failed" if view.row > 1 else "the service says so",
        channel=channel,
        wait_s=PROBE_EVERY_S,
        _wait=in_words(PROBE_EVERY_S),
        reason=view.reason,
        attempts=view.attempts,
    )
