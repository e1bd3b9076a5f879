"""The page of metrics: what processes counted, added up; what Redis and the store said; names and labels."""

import datetime as dt

from prometheus_client.parser import text_string_to_metric_families

from trio_alerts import __version__
from trio_alerts.backends.redis.standing import Standing
from trio_alerts.meter.cells import Cells, now_ms, own_cells
from trio_alerts.meter.layout import Layout
from trio_alerts.meter.meter import Meter
from trio_alerts.outcome import Accepted
from trio_alerts.ports.store import Counts
from trio_alerts.reloads import Reloads
from trio_alerts.settings.settings import Settings
from trio_alerts.web.families import FAMILIES
from trio_alerts.web.figures import RedisFigures, StoreFigures
from trio_alerts.web.health import Health
from trio_alerts.web.metrics import MetricsPage

LAYOUT = Layout(["pager"])
PAGER = 1  # its place
NOW_S = 1_790_000_000.0
REDIS = RedisFigures([Standing("AlertStream", 9, 5, 3, (), 1, 0, 2, 0, NOW_S - 40)], {"pager": 4, "renamed": 1}, NOW_S)
STORE = StoreFigures(
    Counts({"delivered": 7, "retrying": 2, "paused": 3}, overdue=1, in_doubt=0),
    {"pager": 2},
    dt.datetime.fromtimestamp(NOW_S - 90, dt.UTC),
    11,
)


def metrics(*cells: Cells, canary_every_s: float | None = None) -> MetricsPage:
    """Return the page of so many processes, called `process 1` and so on."""
    processes = {f"process {number}": one for number, one in enumerate(cells, start=1)}
    settings = Settings(canary_every_s=canary_every_s)
    return MetricsPage(Health(LAYOUT, processes, settings), Reloads(Settings, settings))


def page(*meters: Meter, redis: RedisFigures | None = REDIS, store: StoreFigures | None = STORE) -> dict[str, float]:
    """Return the value of each sample."""
    text, _ = metrics(*(meter.cells for meter in meters)).render("", redis, store)
    return {
        sample.name.removeprefix("trio_alerts_")
        + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_what_processes_counted_is_added_up() -> None:
    """Counters and gauges that are shares of a whole; an outage or an open breaker of one is one of all."""
    one, two = Meter(LAYOUT), Meter(LAYOUT)
    for meter, in_flight in ((one, 2), (two, 5)):
        meter.attempted("pager", Accepted(), 0.3)
        meter.cells[LAYOUT.in_flight], meter.cells[LAYOUT.workers] = in_flight, 16
    two.attempted("pager", Accepted(), 100.0)
    two.cells[LAYOUT.outages] = two.cells[LAYOUT.open_breakers + PAGER] = 1
    one.cells[LAYOUT.failing_ms + PAGER], two.cells[LAYOUT.failing_ms + PAGER] = 1_500, 90_000
    samples = page(one, two)
    assert (3, 7, 32) == (samples["attempts_total pager accepted"], samples["in_flight"], samples["workers"])
    assert (1, 0, 1, 90) == (
        samples["outage redis"],
        samples["outage store"],
        samples["breaker_open pager"],
        samples["channel_failing_seconds pager"],
    )
    buckets = [samples[f"attempt_duration_seconds_bucket pager {bound}"] for bound in ("0.25", "0.5", "60.0", "+Inf")]
    assert [0, 2, 2, 3] == buckets
    assert (3, 100.6) == tuple(samples[f"attempt_duration_seconds_{name} pager"] for name in ("count", "sum"))


def test_what_is_shared_is_what_redis_and_the_store_said() -> None:
    """A state of a newer version is `unknown`, and a channel of old records `other`: labels are bounded."""
    samples = page(Meter(LAYOUT))
    assert (5, 3, 1, 2) == (
        samples["stream_lag AlertStream"],
        samples["pending AlertStream"],
        samples["dead_letters AlertStream"],
        samples["lost_upstream_total"],
    )
    assert (7, 2, 3, 0) == tuple(
        samples[f"records {state}"] for state in ("delivered", "retrying", "unknown", "failed")
    )
    assert (6, 1) == (samples["waiting pager"], samples["waiting other"])
    assert (90, 1) == (samples["oldest_undelivered_seconds"], samples["overdue_retries"])
    assert 11 == samples["records_pruned_total"]
    assert 1 == samples[f"build_info {__version__}"]


def test_what_nobody_knows_is_left_out() -> None:
    """Without Redis its figures are missing, not 0, and so are those that need both; the rest is there."""
    samples = page(Meter(LAYOUT), redis=None)
    missing = {name.partition(" ")[0] for name in page(Meter(LAYOUT)).keys() - samples.keys()}
    assert {
        *("stream_lag", "pending", "lost_upstream_total", "dead_letters", "waiting", "oldest_undelivered_seconds"),
    } == missing


def test_a_process_that_hangs_and_one_that_has_ended() -> None:
    """What /healthz names hangs; what has ended hangs not, and has no start until another one is started."""
    one, two = Meter(LAYOUT), Meter(LAYOUT)
    one.cells[LAYOUT.beat], one.cells[LAYOUT.started_s] = now_ms() - 60_000, 1_790_000_000
    samples = page(one, two)
    assert (1, 0) == (samples["process_hanging process 1"], samples["process_hanging process 2"])
    assert 1_790_000_000 == samples["process_start_time_seconds process 1"]
    assert "process_start_time_seconds process 2" not in samples


def test_every_family_is_there_with_its_labels_and_its_help() -> None:
    """What the documentation lists, and nothing else; what is shared says so."""
    shown = metrics(own_cells(LAYOUT), canary_every_s=60.0)
    text = shown.render("", REDIS, STORE, {"AlertStream": 7.5})[0].decode()
    for one in FAMILIES:
        assert f"# HELP {one.full_name} {one.meaning}" in text
        assert one.shared == (f"# HELP {one.full_name} {one.meaning} Asked of" in text)
        assert f"# TYPE {one.full_name} {one.kind}" in text
    assert len(FAMILIES) == text.count("# TYPE ")


def test_a_scraper_gets_the_form_that_it_asks_for() -> None:
    """OpenMetrics, if it says so."""
    shown = metrics(own_cells(LAYOUT))
    assert shown.render("application/openmetrics-text; version=1.0.0", None, None)[0].endswith(b"# EOF\n")
    assert "text/plain" in shown.render("text/html", None, None)[1]


def test_the_age_of_the_canary_is_shown_by_stream() -> None:
    """Whether Redis answers or not: it grows. How often one is written stands beside it; without canaries neither."""
    page, _ = metrics(own_cells(LAYOUT), canary_every_s=20.0).render("", None, None, {"a": 7.5, "b": 90.0})
    assert b'trio_alerts_canary_age_seconds{stream="a"} 7.5\ntrio_alerts_canary_age_seconds{stream="b"} 90.0' in page
    assert b"trio_alerts_canary_every_seconds 20.0" in page
    assert b"canary" not in metrics(own_cells(LAYOUT)).render("", None, None, {})[0]
