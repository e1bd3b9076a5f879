"""The producer's side: realistic alerts, as a backlog that is let go at once or one by one on a schedule."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec
import redis

SAMPLES = Path(__file__).parents[1] / "examples" / "alerts.jsonl"
SEED = 1  # the same schedule in every run
PIPELINED = 500  # commands a round trip
HELD = f"{2**64 - 1}-{2**64 - 1}"  # a group that is there has nothing to read


class Stream:
    """A stream with one consumer group, both made by the bench.

    Args:
        client: A blocking client.
        name: Of the stream.
        group: Of the group.
        payloads: Of the alerts, without an end.
    """

    def __init__(self, client: "redis.Redis", name: str, group: str, payloads: Iterator[bytes]) -> None:
        self.name = name
        self.group = group
        self._client = client
        self._payloads = payloads
        self._held_at = "0"
        self._read = 0
        client.xgroup_create(name, group, "0", mkstream=True)

    def add_backlog(self, count: int) -> list[str]:
        """Add entries that are not handed out before `release`; return their IDs."""
        self._client.xgroup_setid(self.name, self.group, HELD)
        ids: list[str] = []
        while len(ids) < count:
            with self._client.pipeline(transaction=False) as pipe:
                for payload in itertools.islice(self._payloads, min(PIPELINED, count - len(ids))):
                    pipe.xadd(self.name, {"event": payload})
                ids += [one.decode() for one in pipe.execute()]
        return ids

    def release(self) -> list[str]:
        """Let the backlog go, with one entry more, which wakes readers that are waiting; return its ID."""
        with self._client.pipeline(transaction=True) as pipe:
            pipe.xgroup_setid(self.name, self.group, self._held_at, entries_read=self._read)
            pipe.xadd(self.name, {"event": next(self._payloads)})
            last: str = pipe.execute()[1].decode()
        self._note(last)
        return [last]

    def send_on_schedule(self, times_s: Sequence[float]) -> Iterator[tuple[str, float]]:
        """Add an entry at each of these times (from now, ascending); yield its ID and when it was due, in seconds.

        Entries that are due together go out together. Who is late catches up: what counts is when each was due.
        """
        start_s = time.monotonic()
        waiting = [start_s + time_s for time_s in times_s]
        last = self._held_at
        while waiting:
            now_s = time.monotonic()
            if waiting[0] > now_s:
                time.sleep(waiting[0] - now_s)
                continue
            due = list(itertools.takewhile(lambda one: one <= now_s, waiting[:PIPELINED]))  # noqa: B023 - used at once
            del waiting[: len(due)]
            with self._client.pipeline(transaction=False) as pipe:
                for _ in due:
                    pipe.xadd(self.name, {"event": next(self._payloads)})
                ids = [one.decode() for one in pipe.execute()]
            last = ids[-1]
            yield from zip(ids, due, strict=True)
        self._note(last)

    def pending(self) -> int:
        """Return how many entries are read and not acknowledged."""
        return int(self._client.xpending(self.name, self.group)["pending"])

    def consumers(self) -> int:
        """Return how many consumers have asked for entries."""
        return len(self._client.xinfo_consumers(self.name, self.group))

    def _note(self, last: str) -> None:
        self._held_at = last
        self._read = self._client.xlen(self.name)


def alerts(change: Callable[[int], Mapping[str, str]] = lambda _: {}) -> Iterator[bytes]:
    """Yield the example alerts for ever, each with an ID of its own; about 970 bytes each.

    Args:
        change: Gives other fields for the alert of a number.
    """
    samples = [msgspec.json.decode(line) for line in SAMPLES.read_bytes().splitlines()]
    for number, sample in enumerate(itertools.cycle(samples)):
        yield msgspec.json.encode({**sample, "alert_id": f"bench-{number}", **change(number)})


def in_turn(channels: int) -> Callable[[int], Mapping[str, str]]:
    """Return what lets alerts go through so many channels in turn: their scopes name them."""
    return lambda number: {"scope": channel_name(number % channels)} if channels > 1 else {}


def is_critical(number: int) -> bool:
    """Tell whether the alert of a number is one of the critical ones, one in ten, where severity counts."""
    return number % 10 == 9


def by_severity(number: int) -> Mapping[str, str]:
    """Let one alert in ten be critical, and no other."""
    return {"severity": "critical" if is_critical(number) else "low"}


def channel_name(number: int) -> str:
    """Return the name of a channel, which is also the scope of its alerts."""
    return f"channel-{number}"


def configuration(urls: Sequence[str], secret: str, more: str = "") -> str:
    """Return the TOML of one channel for each address, with `more` lines each, and of a route by scope to each."""
    tables = []
    for number, url in enumerate(urls):
        name = channel_name(number)
        tables.append(f'[[channels]]\nname = "{name}"\nurl = "{url}"\nsecret = "{secret}"\n{more}')
        tables.append(f'[[routes]]\nmatch = {{ scope = "{name}" }}\nchannels = ["{name}"]\n')
    return "\n".join([*tables, f'[[routes]]\nchannels = ["{channel_name(0)}"]\n'])


def schedule(rate: float, count: int) -> list[float]:
    """Return when each of `count` alerts is due, in seconds from the start: independent of each other (Poisson)."""
    random = Random(SEED)
    return list(itertools.accumulate(random.expovariate(rate) for _ in range(count)))
