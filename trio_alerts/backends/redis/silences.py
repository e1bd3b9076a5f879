"""The silences in Redis: one hash, a field each, and the version of all of them beside it."""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence

import msgspec
from loguru import logger

from trio_alerts.backends.redis.answers import ServerTime
from trio_alerts.backends.redis.client import RedisClient, opener
from trio_alerts.backends.redis.keys import silences_key
from trio_alerts.ports.silences import Silence, SilenceList

_VERSION = b"version"  # no ID: these are hexadecimal
_DECODER = msgspec.json.Decoder(Silence)


class RedisSilences:
    """Implements `Silences`; beside the alphabetically first stream, so that their order changes nothing."""

    def __init__(self, client: RedisClient, streams: Sequence[str], group: str) -> None:
        self._client = client
        self._key = silences_key(min(streams), group)

    async def latest(self, known: str | None = None) -> SilenceList | None:
        """See the port. One small command, as long as the version stays the same."""
        if known is not None:
            version = await self._client.hget(self._key, _VERSION)
            if known == _text(self._client.expect(bytes, version or b"", "HGET", self._key)):
                return None
        answer = await self._client.hgetall(self._key)  # one command: the silences of that version, and no others
        fields = self._client.expect(dict[bytes, bytes], answer, "HGETALL", self._key)
        version = fields.pop(_VERSION, b"")
        return SilenceList(_text(version), tuple(_readable(fields)))

    async def add(self, silence: Silence, forgotten: Sequence[str] = ()) -> bool:
        return await self._write(silence, 0, forgotten)

    async def replace(self, silence: Silence) -> bool:
        return await self._write(silence, 1)

    async def now(self) -> dt.datetime:
        time = self._client.expect(ServerTime, await self._client.time(), "TIME")
        return dt.datetime.fromtimestamp(time.since_epoch_s, dt.UTC)

    async def _write(self, silence: Silence, exists: int, forgotten: Sequence[str] = ()) -> bool:
        document = msgspec.json.encode(silence)
        return bool(await self._client.run_script(int, _WRITE, (self._key,), silence.id, document, exists, *forgotten))


open_silences = opener(lambda client, settings: RedisSilences(client, settings.stream_names, settings.group))


def _readable(fields: Mapping[bytes, bytes]) -> Iterator[Silence]:
    for name, document in sorted(fields.items()):
        try:
            silence = _DECODER.decode(document)
        except (msgspec.DecodeError, UnicodeError) as fault:
            logger.error(
                "silence {silence!r} cannot be read and silences nothing: {error}", silence=_text(name), error=fault
            )
            continue
        if silence.id.encode() == name:
            yield silence
        else:
            logger.error("silence {silence!r} says that it is another one, and silences nothing", silence=_text(name))


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


# ARGV[1]: the ID, ARGV[2]: the silence, ARGV[3]: 1 if one of this ID must exist, 0 if it must not; then IDs to forget.
# The version is the server's time, in microseconds: a hash that was lost and begun again never has an old one.
_WRITE = """
if redis.call('HEXISTS', KEYS[1], ARGV[1]) ~= tonumber(ARGV[3]) then return 0 end
for number = 4, #ARGV do redis.call('HDEL', KEYS[1], ARGV[number]) end  -- refused behind HSET, it would be half added
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local time = redis.call('TIME')
local before = tonumber(redis.call('HGET', KEYS[1], 'version') or 0) or 0
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', math.max(time[1] * 1000000 + time[2], before + 1)))
return 1
"""
