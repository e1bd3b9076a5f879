"""Redis and the store as `/readyz` sees them: looked at every few seconds, over connections of their own."""

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace

import trio
from loguru import logger

from trio_alerts.backends.redis.canaries import RedisCanaries
from trio_alerts.backends.redis.client import open_client
from trio_alerts.backends.redis.hints import RedisHints
from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.errors import AlertError, SchemaError
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.settings import Settings

LOOK_EVERY_S = 2.5
BOUND_S = 3.0  # of each wait in a look: an outage is seen within LOOK_EVERY_S, two of these, and a moment
NO_RECORD = "0-0"  # the ID that no entry has: reading it asks the shard or the file, and finds nothing

StoreOpener = Callable[[Settings], AbstractAsyncContextManager[AlertStore]]


@dataclass
class Check:
    """Whether something is as it must be, since when, and what is wrong with it."""

    ok: bool = False
    reason: str = "not looked at yet"
    since: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))

    def note(self, reason: str) -> None:
        """Take in what a look found; empty: nothing is wrong."""
        if self.ok != (not reason):
            self.since = dt.datetime.now(dt.UTC)
        self.ok, self.reason = not reason, reason

    def as_json(self) -> dict[str, object]:
        """Return what the page says."""
        since = self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"ok": self.ok, "since": since} | ({} if self.ok else {"reason": self.reason})


@dataclass(frozen=True)
class RedisView:
    """What is asked of Redis."""

    ledger: RedisLedger
    hints: RedisHints
    canaries: RedisCanaries


class Backends:
    """Both backends, each of which may be away.

    Args:
        settings: Name them.
        open_store: Opens the store.

    Attributes:
        redis, store: To be asked; None while they do not answer.
        redis_check, store_check, schema_check: What the last looks found.
    """

    def __init__(self, settings: Settings, open_store: StoreOpener) -> None:
        self.redis: RedisView | None = None
        self.store: AlertStore | None = None
        self.redis_check, self.store_check, self.schema_check = Check(), Check(), Check()
        self._open_store = open_store
        self._settings = replace(
            settings,
            redis_timeout_s=min(settings.redis_timeout_s, BOUND_S),
            store_timeout_s=min(settings.store_timeout_s, BOUND_S),
        )

    async def watch_redis(self) -> None:
        """Look at Redis until cancelled."""
        await _watch(self._while_redis_answers, self.redis_check)

    async def watch_store(self) -> None:
        """Look at the store and its schema until cancelled."""
        await _watch(self._while_store_answers, self.store_check)

    async def _while_redis_answers(self) -> None:
        async with self._open_redis() as view:
            while True:
                await view.ledger.time()
                self.redis = view
                self.redis_check.note("")
                await trio.sleep(LOOK_EVERY_S)

    @asynccontextmanager
    async def _open_redis(self) -> AsyncIterator[RedisView]:
        async with open_client(self._settings) as client:
            try:
                yield RedisView(
                    RedisLedger(client, self._settings),
                    RedisHints(self._settings, client),
                    RedisCanaries(client, self._settings.group),
                )
            finally:
                self.redis = None

    async def _while_store_answers(self) -> None:
        async with self._open_store(self._settings) as store:
            try:
                while True:
                    await store.guard()
                    await store.get(NO_RECORD)
                    self.store = store  # first: who reads that all is well may ask it
                    self.store_check.note("")
                    self.schema_check.note("")
                    await trio.sleep(LOOK_EVERY_S)
            except SchemaError as fault:
                self.schema_check.note(str(fault))
                self.store_check.note("")  # it has answered
            finally:
                self.store = None


async def _watch(look: Callable[[], Awaitable[None]], check: Check) -> None:
    """Look again and again; after a look that failed, over a new connection."""
    while True:
        try:
            await look()
        except AlertError as fault:
            check.note(str(fault))
        except Exception as fault:  # noqa: BLE001 - who looks must go on looking
            logger.opt(exception=fault).error("a look at a backend failed unexpectedly, please report this bug")
            check.note(f"an unexpected answer ({type(fault).__name__})")
        await trio.sleep(LOOK_EVERY_S)
