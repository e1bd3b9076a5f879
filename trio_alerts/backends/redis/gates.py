"""The gates in Redis: a hash for each channel, and two scripts that look and act at once, on the server's time."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta
from redis.typing import EncodableT

from trio_alerts.backends.redis.answers import List
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.backends.redis.keys import gate_key
from trio_alerts.ports.gates import (
    LONGEST_LIMIT_S,
    PROBE_EVERY_S,
    PROBE_SLACK_S,
    ROW,
    ROW_LASTS_S,
    Admitted,
    Closed,
    GateView,
    News,
    Rate,
    Why,
)
from trio_alerts.settings.settings import Settings

_Microseconds = Annotated[int, Meta(ge=-1, lt=2**53)]
_WHYS: tuple[Why, ...] = ("limit", "breaker", "rate")


class _Answer(List):
    """0: admitted, 1: as a probe; above, why a gate is closed, by its number, and for how long."""

    number: Annotated[int, Meta(ge=0, le=len(_WHYS) + 1)]
    for_us: _Microseconds


class _State(List):
    """A gate as a `GateView` shows it; `open_us` is -1 if the breaker is not open."""

    row: int
    failing_us: _Microseconds
    attempts: int
    open_us: _Microseconds
    limited_us: _Microseconds
    reason: bytes
    changed: int


class RedisGates:
    """Implements `Gates`; beside the alphabetically first stream, so that their order changes nothing."""

    def __init__(self, client: RedisClient, settings: Settings) -> None:
        self._client = client
        self._stream, self._group = min(settings.stream_names), settings.group
        attempt_s = settings.connect_timeout_s + settings.send_timeout_s
        self._probe_us = _us(max(attempt_s + PROBE_SLACK_S, PROBE_EVERY_S))

    async def ask(
        self, channel: str, rate: Rate | None = None, *, probe: bool = False, again: bool = False
    ) -> Closed | Admitted:
        """See the port. A step is rounded up: the rate is never more than it says."""
        step_us, burst = (math.ceil(1e6 / rate.per_s - 1e-6), rate.burst) if rate else (0, 0)
        arguments = (self._probe_us, int(probe), step_us, burst, int(again))
        answer = await self._client.run_script(_Answer, _ASK, self._keys(channel), *arguments)
        if answer.number <= 1:
            return Admitted(probe=answer.number == 1)
        return Closed(_WHYS[answer.number - 2], answer.for_us / 1e6)

    async def exchange(self, news: Mapping[str, News], channels: Sequence[str]) -> dict[str, GateView]:
        """See the port. What is reported costs a few more commands inside of the script."""
        if not channels:
            return {}
        arguments: list[EncodableT] = []
        for channel in channels:
            its = _arguments(news[channel]) if channel in news else []
            arguments += [len(its), *its]
        states = await self._client.run_script(list[_State], _EXCHANGE, self._keys(*channels), *arguments)
        if len(states) != len(channels):
            raise self._client.misunderstood(("EVAL", _EXCHANGE, 0), states)
        return {channel: _view(state) for channel, state in zip(channels, states, strict=True)}

    def _keys(self, *channels: str) -> list[str]:
        return [gate_key(self._stream, self._group, channel) for channel in channels]


def _arguments(news: News) -> list[EncodableT]:
    limited_us = _us(min(news.limited_s, LONGEST_LIMIT_S))
    flags = (int(news.accepted), int(news.stopped))
    return [*flags, news.attempts, news.reason, limited_us, *news.failed[:ROW]]


def _view(state: _State) -> GateView:
    return GateView(
        row=state.row,
        failing_s=state.failing_us / 1e6,
        attempts=state.attempts,
        open_s=None if state.open_us < 0 else state.open_us / 1e6,
        limited_s=state.limited_us / 1e6,
        reason=state.reason.decode(errors="replace"),
        changed=bool(state.changed),
    )


def _us(seconds: float) -> int:
    return round(seconds * 1e6)


# Fields of a gate: `tat`, when the burst that was spent is earned again (GCRA); `until`, when the service wants
# something again; of the failures since the last acceptance `first`, `attempts`, `reason`, `row`, how many different
# alerts they are of, and `f:ID` for each of these; `open`, since when the breaker is, and `probe`, when the next
# probe may go out. All times are the server's, in microseconds. One that lies further ahead than it can was written
# before the clock was set back (or `tat`, under a lower rate): it means nothing any more, or for `tat` that the burst
# was spent just now.
_CLOCK = f"""
local LONGEST, EVERY = {LONGEST_LIMIT_S * 1e6:.0f}, {PROBE_EVERY_S * 1e6:.0f}
local ROW, LASTS = {ROW}, {ROW_LASTS_S * 1e6:.0f}
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function whole(number) return string.format('%.0f', number) end
local function left(moment, most)
  local ahead = (tonumber(moment) or 0) - now
  return ahead > 0 and ahead <= most and ahead or 0
end
local function since(moment) return math.max(now - (tonumber(moment) or now), 0) end
"""

# ARGV[1]: how long a probe keeps others away; ARGV[2]: 1 for a probe; ARGV[3]: the time that earns one token, 0 if
# there is no rate; ARGV[4]: the burst; ARGV[5]: 1 if a token is put back first. Answers as `_Answer` has it.
_ASK = (
    _CLOCK
    + """
local OPEN, PROBE, LIMIT, BREAKER, RATE = 0, 1, 2, 3, 4
local kept = redis.call('HMGET', KEYS[1], 'until', 'open', 'probe', 'tat')
local limited = left(kept[1], LONGEST)
if limited > 0 then return {LIMIT, limited} end
if kept[2] then
  local probed = left(kept[3], math.max(tonumber(ARGV[1]), EVERY))
  if ARGV[2] ~= '1' or probed > 0 then return {BREAKER, probed} end
end
local step, burst = tonumber(ARGV[3]), tonumber(ARGV[4])
if step > 0 then
  local full, tat = now + step * burst, math.max((tonumber(kept[4]) or 0) - step * ARGV[5], now)
  if tat > full then
    redis.call('HSET', KEYS[1], 'tat', whole(full))
    return {RATE, step}
  end
  tat = tat + step
  if tat > full then return {RATE, tat - full} end
  redis.call('HSET', KEYS[1], 'tat', whole(tat))
end
if not kept[2] then return {OPEN, 0} end
redis.call('HSET', KEYS[1], 'probe', whole(now + ARGV[1]))
return {PROBE, 0}
"""
)

# For each key: how many arguments of news follow, then these: 1 if something was accepted, 1 if the service stopped,
# failed attempts, the last reason, for how long it is limited, and IDs of alerts that failed. Answers a state each.
_EXCHANGE = (
    _CLOCK
    + """
local function clear(key)
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if name ~= 'tat' and name ~= 'until' then redis.call('HDEL', key, name) end
  end
end
local function take_in(key, at, count)
  if ARGV[at] == '1' then clear(key) end
  if tonumber(ARGV[at + 2]) > 0 then
    redis.call('HSET', key, 'reason', ARGV[at + 3])
    redis.call('HSETNX', key, 'first', whole(now))
    local row = tonumber(redis.call('HGET', key, 'row')) or 0
    for i = at + 5, at + count - 1 do
      if row < ROW then row = row + redis.call('HSETNX', key, 'f:' .. ARGV[i], '') end
    end
    redis.call('HSET', key, 'row', row)
    local opens = ARGV[at + 1] == '1' or (row >= ROW and since(redis.call('HGET', key, 'first')) >= LASTS)
    if opens and redis.call('HSETNX', key, 'open', whole(now)) == 1 then
      redis.call('HSET', key, 'probe', whole(now + EVERY))
    end
    redis.call('HINCRBY', key, 'attempts', ARGV[at + 2])  -- the last one: all others may be made twice
  end
  local limited = tonumber(ARGV[at + 4])
  if limited > left(redis.call('HGET', key, 'until'), LONGEST) then
    redis.call('HSET', key, 'until', whole(now + limited))
  end
end
local states, at = {}, 1
for number, key in ipairs(KEYS) do
  local count = tonumber(ARGV[at])
  local before = redis.call('HGET', key, 'open')
  if count > 0 then take_in(key, at + 1, count) end
  local kept = redis.call('HMGET', key, 'row', 'first', 'attempts', 'open', 'until', 'reason')
  states[number] = {tonumber(kept[1]) or 0, since(kept[2]), tonumber(kept[3]) or 0, kept[4] and since(kept[4]) or -1,
    left(kept[5], LONGEST), kept[6] or '', (before and true or false) ~= (kept[4] and true or false) and 1 or 0}
  at = at + 1 + count
end
return states
"""
)
