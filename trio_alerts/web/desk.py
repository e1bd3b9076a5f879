"""What the console works with: the store, and Redis as long as it answers."""

from dataclasses import dataclass

import trio
from loguru import logger

from trio_alerts.backends.redis.dead_letters import RedisDeadLetters
from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.backends.redis.views import open_views
from trio_alerts.backoff import RetryPolicy
from trio_alerts.clock import ServerClock
from trio_alerts.deployment import refuse_foreign
from trio_alerts.errors import StartError, Unavailable
from trio_alerts.operations.records import Operator
from trio_alerts.operations.redeliver import Redelivery
from trio_alerts.ports.gates import Gates
from trio_alerts.ports.hints import Hints
from trio_alerts.ports.silences import Silences
from trio_alerts.ports.store import AlertStore
from trio_alerts.ports.stream import AlertStream
from trio_alerts.settings.settings import Settings

TRIED_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Redis:
    """What is in Redis."""

    stream: AlertStream
    hints: Hints
    silences: Silences
    gates: Gates
    dead_letters: RedisDeadLetters
    ledger: RedisLedger


class Desk:
    """Both backends. Records are read without Redis; a page that needs it says so while it is away.

    Attributes:
        settings: Of the deployment.
        store: Where records live.
        stopping: Set when the console is to stop: what would not end by itself ends then.
    """

    def __init__(self, settings: Settings, store: AlertStore) -> None:
        self.settings = settings
        self.store = store
        self.stopping = trio.Event()
        self._redis: Redis | None = None
        self._fault = "Redis was not reached yet"

    @property
    def redis(self) -> Redis:
        """What is in Redis.

        Raises:
            Unavailable: It was not reached since the start. (Later its client says so, by itself.)
        """
        if self._redis is None:
            raise Unavailable(self._fault)
        return self._redis

    async def operator(self, name: str) -> Operator:
        """Return what changes records in somebody's name.

        Raises:
            Unavailable: Redis does not answer.
        """
        redis, clock = self.redis, ServerClock()
        clock.set(await redis.stream.server_time())
        return Operator(name, redis.stream, self.store, redis.hints, clock)

    async def redelivery(self, name: str, *, dry_run: bool, through: tuple[str, ...] = ()) -> Redelivery:
        """Return what makes records due in somebody's name.

        Raises:
            Unavailable: Redis does not answer.
        """
        policy = RetryPolicy(self.settings.retry_schedule_s, self.settings.holding_channels)
        operator = await self.operator(name)
        return Redelivery(operator=operator, policy=policy, dry_run=dry_run, through=through)

    def use(self, redis: Redis) -> None:
        """Work with this from now on."""
        self._redis = redis

    async def reach_redis(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, again and again until it succeeds; has started when the first try has ended.

        Raises:
            SchemaError: The store belongs to another deployment than this Redis.
        """
        tried = False
        while True:
            try:
                async with open_views(self.settings) as views:
                    await refuse_foreign(views.stream, self.store)
                    stream = views.stream
                    self.use(
                        Redis(
                            stream=stream,
                            hints=stream.hints,
                            silences=stream.silences,
                            gates=stream.gates,
                            dead_letters=views.dead_letters,
                            ledger=views.ledger,
                        )
                    )
                    if not tried:
                        task_status.started()
                    await trio.sleep_forever()
            except StartError as fault:
                self._fault = str(fault)
                if not tried:
                    logger.warning("console: records can be read, and nothing else: {reason}", reason=fault)
                    task_status.started()
                tried = True
                await trio.sleep(TRIED_EVERY_S)
