"""The deployment's identity in Redis: a key beside each stream, so that one stream more or less changes nothing."""

from collections.abc import Sequence

from loguru import logger

from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.keys import deployment_key
from trio_alerts.deployment import foreign_stream
from trio_alerts.errors import SchemaError


class RedisDeployment:
    """The identity of the deployment that one group of some streams is."""

    def __init__(self, client: RedisClient, streams: Sequence[str], group: str) -> None:
        self._client = client
        self._keys = {stream: deployment_key(stream, group) for stream in sorted(streams)}
        self._kept: str | None = None

    async def read(self) -> str | None:
        """Return the identity; None: there is none.

        Raises:
            SchemaError: The streams belong to two deployments.
            Unavailable: It does not answer.
        """
        found = {stream: value for stream, key in self._keys.items() if (value := await self._get(key)) is not None}
        if len(set(found.values())) > 1:
            whose = ", ".join(f"{stream!r} to {value}" for stream, value in found.items())
            raise SchemaError(f"The streams belong to different deployments: {whose}. Run one deployment for each.")
        return next(iter(found.values()), None)

    async def keep(self, identity: str) -> str:
        """Write the identity where there is none; return the one that is there, of whoever was first.

        Raises:
            SchemaError, Unavailable: As `read`.
        """
        self._kept = await self._keep(identity)
        return self._kept

    async def write_back(self) -> None:
        """Keep on keeping what was kept; nothing if that was nothing.

        Raises:
            SchemaError: Another one is there by now.
            Unavailable: As `read`.
        """
        ours = self._kept
        if ours is None:
            return
        if await self.read() is None:
            logger.warning(
                "Redis lost its data: the identity of deployment {deployment} is written back", deployment=ours
            )
        if (theirs := await self._keep(ours)) != ours:
            raise foreign_stream(theirs, ours)

    async def replace(self, identity: str) -> None:
        """Write the identity over whatever is there."""
        for key in self._keys.values():
            await self._client.set(key, identity)

    async def _keep(self, identity: str) -> str:
        kept = await self.read() or identity
        for key in self._keys.values():
            if await self._get(key) is None:
                await self._client.set(key, kept, nx=True)
            kept = await self._get(key) or kept  # two processes that start at once meet at the first stream
        return await self.read() or kept

    async def _get(self, key: str) -> str | None:
        value = await self._client.get(key)
        return None if value is None else self._client.expect(bytes, value, "GET", key).decode(errors="replace")
