"""The page of metrics: what the cells of all processes say together, and what Redis and the store know."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from trio_alerts import __version__
from trio_alerts.delivery import StoredState
from trio_alerts.event import SEVERITIES
from trio_alerts.meter import layout as cells
from trio_alerts.meter.cells import now_ms
from trio_alerts.meter.layout import width
from trio_alerts.reloads import Reloads
from trio_alerts.web import families
from trio_alerts.web.families import Family
from trio_alerts.web.figures import RedisFigures, StoreFigures
from trio_alerts.web.health import Health

STATES: tuple[str, ...] = (*StoredState.__args__, "unknown")  # type: ignore[attr-defined]


class MetricsPage:
    """Renders the page.

    Args:
        health: Knows each process, and which of them hangs.
        reloads: What became of reloads.
    """

    def __init__(self, health: Health, reloads: Reloads) -> None:
        self._collector = _Collector(health, reloads)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self._collector)

    def render(
        self,
        accept: str,
        redis: RedisFigures | None,
        store: StoreFigures | None,
        canary_ages: Mapping[str, float] | None = None,
    ) -> tuple[bytes, str]:
        """Return the page and its content type.

        Args:
            accept: What the scraper takes.
            redis: What Redis said; None: nothing that is new enough.
            store: The same of the store.
            canary_ages: How old the last canary of each stream is; empty without canaries.
        """
        self._collector.redis, self._collector.store = redis, store
        self._collector.canary_ages = canary_ages or {}
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Collector(Collector):
    def __init__(self, health: Health, reloads: Reloads) -> None:
        self.redis: RedisFigures | None = None
        self.store: StoreFigures | None = None
        self.canary_ages: Mapping[str, float] = {}
        self._layout = health.layout
        self._processes = health.processes
        self._health = health
        self._reloads = reloads

    def describe(self) -> Iterator[Metric]:
        """Say nothing: to be registered asks nobody."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._counted()
        yield from self._gauges()
        if self.redis is not None:
            yield from _of_redis(self.redis)
        if self.store is not None:
            yield from _of_store(self.store)
        if self.redis is not None and self.store is not None:
            yield from _of_both(self.redis, self.store, self._layout.channels)
        if self.canary_ages:
            yield _gauge(families.CANARY, {(stream,): age_s for stream, age_s in self.canary_ages.items()})
        if (every_s := self._reloads.settings.canary_every_s) is not None:
            yield _gauge(families.CANARY_PERIOD, {(): every_s})
        yield _counter(families.RELOADS, {(outcome,): count for outcome, count in self._reloads.counts.items()})
        yield _gauge(families.LAST_RELOAD, {(): int(self._reloads.last_was_ok)})
        yield _gauge(families.BUILD, {(__version__,): 1})

    def _counted(self) -> Iterator[Metric]:
        layout, channels, total = self._layout, self._layout.channels, self._total
        attempts = [(channel, result) for channel in channels for result in cells.RESULTS]
        yield _counter(families.ATTEMPTS, _numbered(attempts, layout.attempts, total))
        yield self._histogram(families.DURATIONS, channels, layout.durations, cells.DURATIONS, 1e6)
        yield self._histogram(families.LATENCIES, SEVERITIES, layout.latencies, cells.LATENCIES, 1e6)
        yield _counter(families.ALERTS, _numbered(_ones(cells.STATES), layout.states, total))
        yield _counter(families.IN_DOUBT, _numbered(_ones(channels), layout.doubts, total))
        yield _counter(families.QUARANTINED, _numbered(_ones(cells.REASONS), layout.quarantined, total))
        yield self._histogram(families.BATCHES, cells.BACKENDS, layout.batches, cells.BATCHES, 1)

    def _gauges(self) -> Iterator[Metric]:
        layout, channels, most = self._layout, self._layout.channels[1:], self._most
        yield _gauge(families.BREAKERS, _numbered(_ones(channels), layout.open_breakers + 1, most))
        failing = _numbered(_ones(channels), layout.failing_ms + 1, most)
        yield _gauge(families.FAILING, {channel: value / 1000 for channel, value in failing.items()})
        yield _gauge(families.OUTAGE, _numbered(_ones(cells.BACKENDS), layout.outages, most))
        yield _gauge(families.IN_FLIGHT, {(): self._total(layout.in_flight)})
        yield _gauge(families.WORKERS, {(): self._total(layout.workers)})
        hanging = {name for name, _ in self._health.problems(now_ms())}
        yield _gauge(families.HANGING, {(name,): int(name in hanging) for name in self._processes})
        started = {(name,): cells[layout.started_s] for name, cells in self._processes.items()}
        yield _gauge(families.STARTED, {name: at_s for name, at_s in started.items() if at_s})

    def _histogram(
        self, family: Family, names: Sequence[str], begin: int, bounds: Sequence[float], unit: float
    ) -> Metric:
        metric = HistogramMetricFamily(family.full_name, family.help, labels=family.labels)
        for place, name in enumerate(names):
            first, count, buckets = begin + place * width(bounds), 0, []
            for offset, bound in enumerate((*bounds, math.inf)):
                count += self._total(first + offset)
                buckets.append(("+Inf" if bound == math.inf else str(float(bound)), count))
            metric.add_metric([name], buckets, self._total(first + len(bounds) + 1) / unit)
        return metric

    def _total(self, place: int) -> int:
        return sum(process[place] for process in self._processes.values())

    def _most(self, place: int) -> int:
        return max(process[place] for process in self._processes.values())


def _of_redis(redis: RedisFigures) -> Iterator[Metric]:
    yield _gauge(families.LAG, {(one.stream,): one.not_read for one in redis.standings})
    yield _gauge(families.PENDING, {(one.stream,): one.pending for one in redis.standings})
    yield _gauge(families.DEAD_LETTERS, {(one.stream,): one.dead_letters for one in redis.standings})
    yield _counter(families.LOST, {(): sum(one.lost_unread for one in redis.standings)})


def _of_store(store: StoreFigures) -> Iterator[Metric]:
    known = {state: store.counts.by_state.get(state, 0) for state in STATES}
    known["unknown"] = sum(store.counts.by_state.values()) - sum(known.values())
    yield _gauge(families.RECORDS, {(state,): count for state, count in known.items()})
    yield _gauge(families.OVERDUE, {(): store.counts.overdue})
    yield _counter(families.PRUNED, {(): store.pruned})


def _of_both(redis: RedisFigures, store: StoreFigures, channels: Sequence[str]) -> Iterator[Metric]:
    waiting = dict.fromkeys(channels, 0)
    for counts in (redis.queued, store.retrying):
        for channel, count in counts.items():
            waiting[channel if channel in waiting else cells.OTHER] += count
    yield _gauge(families.WAITING, {(channel,): count for channel, count in waiting.items()})
    since = [one.waiting_since_s for one in redis.standings if one.waiting_since_s is not None]
    if store.waiting_since is not None:
        since.append(store.waiting_since.timestamp())
    yield _gauge(families.OLDEST, {(): max(redis.now_s - min(since, default=redis.now_s), 0.0)})


def _numbered(
    labels: Sequence[tuple[str, ...]], begin: int, value: Callable[[int], float]
) -> dict[tuple[str, ...], float]:
    return {one: value(begin + place) for place, one in enumerate(labels)}


def _ones(names: Sequence[str]) -> list[tuple[str, ...]]:
    return [(name,) for name in names]


def _counter(family: Family, values: Mapping[tuple[str, ...], float]) -> Metric:
    metric = CounterMetricFamily(family.full_name, family.help, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric


def _gauge(family: Family, values: Mapping[tuple[str, ...], float]) -> Metric:
    metric = GaugeMetricFamily(family.full_name, family.help, labels=family.labels)
    for labels, value in values.items():
        metric.add_metric(labels, value)
    return metric
