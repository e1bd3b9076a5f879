"""The bulkhead: a channel whose sends take too long gets a share of the workers; the others keep the rest. No I/O.

A send is slow once it is older than twice its channel's usual time. Only slow sends count: a share of all of them would
cut a busy channel that is well. Each process decides for itself, since its workers are what is shared.
"""

import math
from collections import deque
from collections.abc import Collection, Iterable

import trio

UNKNOWN_S = 0.2  # a send is slow after this long, as long as nobody knows the channel's usual time
SLOW_AFTER_S = (0.1, 2.0)  # at least and at most: a later one would let a channel that hangs take most workers first
ALWAYS_S = 0.9 * SLOW_AFTER_S[1]  # who usually takes longer is slow from the start: waiting to see it lets too many in
WEIGHT = 1 / 16  # of the last acceptance in the usual time
FEWEST_WORKERS = 4  # with fewer, a share of them is none
ALL, RETRIES = 0, 1  # what is counted: every send, against all workers; retries, against their quarter as well


class Bulkhead:
    """Which channels may have another worker. With one channel, or fewer than four workers, every one may.

    A channel whose slow sends reach a quarter of the workers gets no more until one of them ends. All channels' slow
    sends together get half: from there on, whoever has its equal part of that half gets no more either.

    A channel that hangs is known late, by the age of its first send, and much may have begun since. So while none of
    its sends is answered, the young ones count as well. And once it was turned away, it is let in again one send at a
    time until one is answered, however many ask: else it would take every idle worker whenever a send times out. An
    acceptance is an answer however long it took; a failure only if it came in time.

    Args:
        channels: The names of each, its own and its aliases.
        workers: Of this process.

    Attributes:
        drain_share: How many workers may have alerts from the queue of one channel.
    """

    def __init__(self, channels: Iterable[Collection[str]], workers: int) -> None:
        self._workers = (workers, max(1, workers // 4))
        self._by_name: dict[str, _Channel] = {}
        self.watch(channels)

    def __repr__(self) -> str:
        slow = {name: channel.slow[ALL] for name, channel in self._by_name.items() if channel.slow[ALL]}
        return f"<Bulkhead of {self._workers[ALL]} workers, slow sends: {slow or 'none'}>"

    def watch(self, channels: Iterable[Collection[str]]) -> None:
        """Watch these channels from now on; what is known of one by any of its names is kept."""
        workers, before, self._by_name = self._workers[ALL], self._by_name, {}
        every = list(channels) if workers >= FEWEST_WORKERS else []
        self._channels: list[_Channel] = []
        for names in every if len(every) > 1 else []:
            known = (before[name] for name in names if name in before and before[name] not in self._channels)
            channel = next(known, None) or _Channel()
            self._channels.append(channel)
            self._by_name |= dict.fromkeys(names, channel)
        self.drain_share = max(1, workers // 4) if self._by_name else workers

    def may_start(self, name: str, *, retry: bool = False) -> bool:
        """Tell whether a send through a channel may begin soon. Whoever is told so need not send after all."""
        channel = self._by_name.get(name)
        if channel is None:
            return True
        now_s = trio.current_time()
        channel.age(now_s)
        if (channel.slow[ALL] or channel.is_always_slow) and self._is_full(channel, ALL, now_s):
            channel.was_turned_away = True
            return False
        if retry and channel.slow[RETRIES] and self._is_full(channel, RETRIES, now_s):
            return False
        return not channel.was_turned_away or channel.may_try(now_s)

    def started(self, name: str, *, retry: bool = False) -> "Send | None":
        """Note that a send begins; None if nothing is counted."""
        channel = self._by_name.get(name)
        return None if channel is None else channel.started(retry=retry)

    def _is_full(self, channel: "_Channel", part: int, now_s: float) -> bool:
        held, workers = channel.held(part, now_s), self._workers[part]
        if held >= max(1, workers // 4):
            return True
        every = [one.held(part, now_s) for one in self._channels if one.slow[part]]
        half = max(1, workers // 2)
        return sum(every) >= half and held >= max(1, half // len(every))


class Send:
    """One send that is counted, from its start to its end."""

    __slots__ = ("_channel", "began_s", "over", "retry", "slow")

    def __init__(self, channel: "_Channel", *, retry: bool) -> None:
        self._channel = channel
        self.began_s = trio.current_time()
        self.retry = retry
        self.slow = self.over = False

    def ended(self, *, accepted: bool) -> None:
        """Note that it is over, whatever came of it; only an acceptance says how long the channel usually takes."""
        self._channel.ended(self, trio.current_time(), accepted=accepted)


class _Channel:
    """What is known of one channel.

    `under_way` are its sends, `slow` those of them that are slow; of both, all and the retries among them.
    """

    def __init__(self) -> None:
        self.under_way, self.slow = [0, 0], [0, 0]
        self.was_turned_away = False  # and has answered nothing since
        self._next_try_s = self._answered_at_s = -math.inf
        self._usual_s: float | None = None
        self._slow_after_s = UNKNOWN_S
        self._young: deque[Send] = deque()  # the oldest first; what is over leaves when its turn comes

    @property
    def is_always_slow(self) -> bool:
        """Whether hardly any of its sends ends before it is slow."""
        return self._usual_s is not None and self._usual_s > ALWAYS_S

    def held(self, part: int, now_s: float) -> int:
        """Return how many of its sends count: all, if it is always slow, or none was answered for as long as usual."""
        self.age(now_s)
        silent = now_s - self._answered_at_s > self._slow_after_s / 2
        return self.under_way[part] if silent or self.is_always_slow else self.slow[part]

    def may_try(self, now_s: float) -> bool:
        """Let in one send at a time: by the next one, the one before is slow or has ended."""
        if now_s < self._next_try_s:
            return False
        self._next_try_s = now_s + self._slow_after_s
        return True

    def started(self, *, retry: bool) -> Send:
        send = Send(self, retry=retry)
        self.age(send.began_s)
        self._young.append(send)
        _count(self.under_way, send, 1)
        return send

    def ended(self, send: Send, now_s: float, *, accepted: bool) -> None:
        self.age(now_s)
        send.over = True
        _count(self.under_way, send, -1)
        if send.slow:
            _count(self.slow, send, -1)
        if accepted or not send.slow:
            self.was_turned_away, self._answered_at_s = False, now_s
        if accepted:
            least_s, most_s = SLOW_AFTER_S
            took_s = min(now_s - send.began_s, most_s)
            self._usual_s = took_s if self._usual_s is None else self._usual_s + WEIGHT * (took_s - self._usual_s)
            self._slow_after_s = min(max(2 * self._usual_s, least_s), most_s)

    def age(self, now_s: float) -> None:
        """Count what has become slow."""
        young, oldest_s = self._young, now_s - self._slow_after_s
        while young and (young[0].over or young[0].began_s < oldest_s):
            send = young.popleft()
            if not send.over:
                send.slow = True
                _count(self.slow, send, 1)


def _count(sends: list[int], send: Send, change: int) -> None:
    for part in range(1 + send.retry):
        sends[part] += change
