"""A store taken over by a Redis that it did not belong to."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from random import SystemRandom

from trio_alerts.backends.redis.standing import RedisLedger, Standing
from trio_alerts.clock import ServerClock
from trio_alerts.deployment import new_identity
from trio_alerts.ports.store import AlertStore, Counts
from trio_alerts.ports.stream import AlertStream


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Whose the store (`theirs`) and Redis (`ours`) are, and what is in them."""

    theirs: str
    ours: str | None
    counts: Counts
    standings: Sequence[Standing]


async def find_contradiction(store: AlertStore, ledger: RedisLedger, streams: Sequence[str]) -> Contradiction | None:
    """Look at both; None if they belong together, or the store to no deployment yet.

    Raises:
        Unavailable: One of them does not answer.
    """
    theirs, ours = await store.deployment(), await ledger.deployment()
    if theirs is None or theirs == ours:
        return None
    standings = [await ledger.standing(name) for name in streams]
    clock = ServerClock()
    clock.set(await ledger.time())
    return Contradiction(theirs, ours, await store.counts(clock.now()), standings)


async def adopt(store: AlertStore, stream: AlertStream, group: str) -> str:
    """Give both a new identity, so that whoever works for an old one stops; return it.

    Raises:
        Unavailable: One of them does not answer: as long as they differ, no process starts.
    """
    now = dt.datetime.fromtimestamp(await stream.server_time(), dt.UTC)
    identity = new_identity(group, now, SystemRandom())
    # Redis first: interrupted in between, they still differ, and no process starts.
    await stream.replace_deployment(identity)
    await store.replace_deployment(identity)
    return identity
