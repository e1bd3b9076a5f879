"""How things stand, over the API."""

from trio_alerts.errors import Unavailable
from trio_alerts.operations.stats import RedisFigures, Stats, StoreFigures, look_at_redis, look_at_store, stats_of
from trio_alerts.web.api.endpoint import Call, Endpoint


async def _stats(call: Call) -> Stats:
    """Look at each backend on its own: if one is down, the figures of the other are still there."""
    faults: list[Unavailable] = []
    redis: RedisFigures | None = None
    store: StoreFigures | None = None
    try:
        redis = await look_at_redis(call.desk.redis.ledger, call.desk.settings.stream_names)
    except Unavailable as fault:
        faults.append(fault)
    try:
        store = await look_at_store(call.desk.store, redis)
    except Unavailable as fault:
        faults.append(fault)
    if redis is None and store is None:
        raise Unavailable("; ".join(map(str, faults)))
    return stats_of(redis, store)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/stats",
        about="How things stand; `missing` names a backend that does not answer",
        carry_out=_stats,
        answer=Stats,
    ),
)
