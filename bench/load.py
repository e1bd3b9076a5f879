"""The producer's side: realistic alerts, as a backlog that is let go at once or one by one on a schedule."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random

import msgspec
import redis
from redis.client import Pipeline

SAMPLES = Path(__file__).parents[1] / "examples" / "alerts.jsonl"
SEED = 1  # the same schedule in every run
PIPELINED = 500  # commands a round trip


class Streams:
    """Streams with one consumer group each, all made by the bench. Alerts are known by the IDs of their records.

    Args:
        clients: A blocking client for each stream, by its name.
        group: Of the groups.
        payloads: Of the alerts, without an end.
    """

    def __init__(self, clients: Mapping[str, "redis.Redis"], group: str, payloads: Iterator[bytes]) -> None:
        self._clients = clients
        self._group = group
        self._payloads = payloads
        self._backlog: list[tuple[str, Pipeline]] = []
        for name, client in clients.items():
            client.xgroup_create(name, group, "0", mkstream=True)

    def prepare_backlog(self, count: int) -> None:
        """Make alerts, for all streams evenly, that `release` adds."""
        self._backlog = [(name, client.pipeline(transaction=True)) for name, client in self._clients.items()]
        for (name, pipe), payload in zip(itertools.cycle(self._backlog), itertools.islice(self._payloads, count)):
            pipe.xadd(name, {"event": payload})

    def release(self) -> list[str]:
        """Add the backlog, that of a stream in one step, and return its IDs: no entry is read before all are there."""
        return [self._record_id(name, one.decode()) for name, pipe in self._backlog for one in pipe.execute()]

    def send_on_schedule(self, times_s: Sequence[float]) -> Iterator[tuple[str, float]]:
        """Add an entry at each of these times (from now, ascending); yield its ID and when it was due, in seconds.

        Entries that are due together go out together, to each stream in turn. Who is late catches up: what counts is
        when each was due.
        """
        start_s = time.monotonic()
        waiting = [start_s + time_s for time_s in times_s]
        names = itertools.cycle(self._clients)
        while waiting:
            now_s = time.monotonic()
            if waiting[0] > now_s:
                time.sleep(waiting[0] - now_s)
                continue
            due = list(itertools.takewhile(lambda one: one <= now_s, waiting[:PIPELINED]))  # noqa: B023 - used at once
            del waiting[: len(due)]
            name = next(names)
            with self._clients[name].pipeline(transaction=False) as pipe:
                for _ in due:
                    pipe.xadd(name, {"event": next(self._payloads)})
                ids = [self._record_id(name, one.decode()) for one in pipe.execute()]
            yield from zip(ids, due, strict=True)

    def pending(self) -> int:
        """Return how many entries are read and not acknowledged."""
        return sum(int(client.xpending(name, self._group)["pending"]) for name, client in self._clients.items())

    def consumers(self) -> int:
        """Return how many consumers have asked for entries, added up over the streams."""
        return sum(len(client.xinfo_consumers(name, self._group)) for name, client in self._clients.items())

    def _record_id(self, name: str, entry_id: str) -> str:
        return entry_id if len(self._clients) == 1 else f"{name}|{entry_id}"


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
