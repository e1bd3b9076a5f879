"""The keep-alive: a slow receiver must never be mistaken for a dead worker."""

import trio

from trio_alerts.errors import Unavailable
from trio_alerts.pipeline.state import Pipeline


async def keep_alive(pipeline: Pipeline) -> None:
    """Renew, on the server, what has been held for longer than `keepalive_s`; until it is cancelled."""
    interval_s = pipeline.settings.keepalive_s / 2  # so that no entry is ever idle for longer than 1.5 keepalive_s
    while True:
        await trio.sleep(interval_s)
        try:
            await renew(pipeline, pipeline.settings.keepalive_s)
        except Unavailable as cause:
            pipeline.stream_outage.began(cause)


async def renew(pipeline: Pipeline, held_for_s: float) -> None:
    """Renew every entry that has been held for that long. Those that others own by now stay theirs.

    Raises:
        Unavailable: The server did not answer; the next round tries again.
    """
    if entries := pipeline.in_flight.older_than(held_for_s):
        await pipeline.stream.renew(entries)
