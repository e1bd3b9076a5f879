"""All that an operator sees of Redis, over one connection."""

from dataclasses import dataclass

from trio_alerts.backends.redis.client import opener
from trio_alerts.backends.redis.dead_letters import RedisDeadLetters
from trio_alerts.backends.redis.standing import RedisLedger
from trio_alerts.backends.redis.stream import RedisStream


@dataclass(frozen=True)
class RedisViews:
    """The stream, which is not read here, and what stands beside it."""

    stream: RedisStream
    dead_letters: RedisDeadLetters
    ledger: RedisLedger


open_views = opener(
    lambda client, settings: RedisViews(
        RedisStream(settings, client, client), RedisDeadLetters(client), RedisLedger(client, settings)
    )
)
