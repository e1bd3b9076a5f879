"""What Redis and the store know of the whole deployment: asked only for scrapes, at most every few seconds."""

import datetime as dt
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import trio
from loguru import logger

from trio_alerts.backends.redis.standing import Standing
from trio_alerts.errors import AlertError
from trio_alerts.ports.store import Counts, pruned_records
from trio_alerts.settings.settings import Settings
from trio_alerts.web.backends import Backends

ASK_EVERY_S = 5.0
VITALS_EVERY_S = 60.0  # slow to find in a large store, so only while a record waits at all
WAITING = ("sending", "retrying", "waiting", "in_doubt")
WAIT_S = 2.0  # the longest that a scrape waits for fresh figures; then it makes do with the last ones
KEPT_S = 30.0  # older figures are left out: they would look as if all were well


@dataclass(frozen=True)
class RedisFigures:
    """What Redis said: how the streams stand, how many wait in each channel's queue, and its time."""

    standings: Sequence[Standing]
    queued: Mapping[str, int]
    now_s: float


@dataclass(frozen=True)
class StoreFigures:
    """What the store said: how many records are in which state, wait for a retry, and since when the oldest waits.

    `pruned` of them are deleted.
    """

    counts: Counts
    retrying: Mapping[str, int]
    waiting_since: dt.datetime | None
    pruned: int


class Figures:
    """The figures of the deployment.

    Args:
        backends: Are asked.
        settings: Says what is configured now.
    """

    def __init__(self, backends: Backends, settings: Callable[[], Settings]) -> None:
        self._backends = backends
        self._settings = settings
        self._asked, self._answered = trio.Event(), trio.Event()
        self._answered_at_s = -math.inf
        self._redis: tuple[float, RedisFigures] | None = None
        self._store: tuple[float, StoreFigures] | None = None
        self._vitals_at_s = -math.inf
        self._waiting_since: dt.datetime | None = None

    async def look(self) -> tuple[RedisFigures | None, StoreFigures | None]:
        """Return what Redis and what the store said lately; None: nothing for `KEPT_S`."""
        self._asked.set()
        if trio.current_time() - self._answered_at_s > ASK_EVERY_S:
            with trio.move_on_after(WAIT_S):
                await self._answered.wait()
        oldest_s = trio.current_time() - KEPT_S
        return (
            self._redis[1] if self._redis and self._redis[0] >= oldest_s else None,
            self._store[1] if self._store and self._store[0] >= oldest_s else None,
        )

    async def keep_asking(self) -> None:
        """Ask whenever somebody has looked, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            async with trio.open_nursery() as both:
                both.start_soon(_ask, self._ask_redis)
                both.start_soon(_ask, self._ask_store)
            self._answered_at_s = trio.current_time()
            self._answered.set()
            self._answered = trio.Event()
            await trio.sleep(ASK_EVERY_S)

    async def _ask_redis(self) -> None:
        view = self._backends.redis
        if view is None:
            return
        settings = self._settings()
        standings = [await view.ledger.standing(stream) for stream in settings.stream_names]
        channels = [name for channel in settings.channels for name in channel.names]
        queued = {name: head.waiting for name, head in (await view.hints.heads(channels)).items()}
        figures = RedisFigures(standings, queued, await view.ledger.time())
        self._redis = (trio.current_time(), figures)

    async def _ask_store(self) -> None:
        store = self._backends.store
        if store is None:
            return
        counts = await store.counts(dt.datetime.now(dt.UTC))
        retrying = await store.waiting()
        if not any(counts.by_state.get(state) for state in WAITING):
            self._waiting_since, self._vitals_at_s = None, -math.inf
        elif trio.current_time() - self._vitals_at_s >= VITALS_EVERY_S:
            self._waiting_since = (await store.vitals()).waiting_since
            self._vitals_at_s = trio.current_time()
        pruned = pruned_records(await store.pruned())
        self._store = (trio.current_time(), StoreFigures(counts, retrying, self._waiting_since, pruned))


async def _ask(question: Callable[[], Awaitable[None]]) -> None:
    """Ask one backend: nothing that it answers ends the process, which carries alerts."""
    try:
        await question()
    except AlertError as cause:
        logger.debug("no figures for /metrics: {reason}", reason=cause)
    except Exception as fault:  # noqa: BLE001 - as above
        logger.opt(exception=fault).error("no figures for /metrics, please report this bug")
