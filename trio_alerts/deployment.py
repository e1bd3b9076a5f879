"""Whose store this is: a store belongs to one deployment, which is one Redis and one group.

Two deployments on one store would send each other's alerts: a retry that is due in a record is due for the redriver of
either. So each deployment has an identity, made once and kept in both places. What they say at start, and its meaning:

    neither          a new deployment, or one from before there were identities: an identity is made
    Redis alone      the store is new, or from before: it becomes this deployment's
    both, the same   go on
    both, different  one of them is another deployment's: refuse
    the store alone  Redis lost its data, or is another one, and nobody can tell which: refuse

While running, an identity that is gone from Redis is written back: the process knows whose it is.
"""

import datetime as dt
from random import Random
from typing import Protocol

from trio_alerts.errors import SchemaError, StartError, Unavailable

ADOPT = "python -m trio_alerts adopt"


class DeploymentReader(Protocol):
    """A backend, or a view of one, that says whose it is."""

    async def deployment(self) -> str | None:
        """Return the identity of the deployment that it belongs to, if it has one yet.

        A store from before there were identities that is plainly not ours has a description of its owner instead.

        Raises:
            SchemaError: The streams belong to two of them.
        """


class DeploymentKeeper(DeploymentReader, Protocol):
    """A backend that a deployment can take possession of."""

    async def keep_deployment(self, identity: str) -> str:
        """Keep an identity, unless there is one; return the one that is kept: of two processes, one is first."""

    async def replace_deployment(self, identity: str) -> None:
        """Write another identity over the one that is kept: whoever works for the old one stops."""


def new_identity(group: str, now: dt.datetime, chance: Random) -> str:
    """Make an identity that no other deployment has, and that shows whose it is and since when (the server's time)."""
    return f"{group}-{now:%Y%m%d}-{chance.getrandbits(48):012x}"


async def refuse_foreign(stream: DeploymentReader, store: DeploymentReader) -> str | None:
    """Check that both belong together, without changing anything; return the deployment's identity, if it has one yet.

    Raises:
        SchemaError: They belong to different deployments, or only the store to one.
        StartError: One of them does not answer.
    """
    try:
        # The store first: an identity gets into Redis before it gets into the store.
        theirs = await store.deployment()
        ours = await stream.deployment()
    except Unavailable as cause:
        raise StartError(str(cause)) from None
    refuse_contradiction(theirs, ours)
    return ours


def refuse_contradiction(theirs: str | None, ours: str | None) -> None:
    """Check that the store (`theirs`) and Redis (`ours`) can belong to one deployment.

    Raises:
        SchemaError: They cannot.
    """
    if theirs is None or theirs == ours:
        return
    if ours is None:
        what = "and this Redis to none yet: it has lost its data, or it is not the Redis of that deployment"
    else:
        what = f"and this Redis to deployment {ours}: each would send the other's alerts"
    raise SchemaError(
        f"The store belongs to deployment {theirs}, {what}. Check `store_url`, `index`, `redis_url` and `group`. If "
        f"they are right, stop whatever else uses this store, and take it over with: {ADOPT} (it shows both, and asks)"
    )


async def take_possession(stream: DeploymentKeeper, store: DeploymentKeeper, identity: str) -> str:
    """Write the identity wherever there is none: the one that Redis keeps, or `identity` if it keeps none. Return it.

    Raises:
        SchemaError: Another deployment was faster.
        StartError: A backend does not answer.
    """
    try:
        ours = await stream.keep_deployment(identity)
        theirs = await store.keep_deployment(ours)
    except Unavailable as cause:
        raise StartError(str(cause)) from None
    refuse_contradiction(theirs, ours)
    return ours


def foreign_stream(theirs: str, ours: str) -> SchemaError:
    """Return the error of a process whose Redis belongs to another deployment by now."""
    return SchemaError(
        f"Redis belongs to deployment {theirs} now, and this process works for {ours}: somebody took the store over "
        "with `adopt`, or the address leads to another Redis. Start again."
    )
