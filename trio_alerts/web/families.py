"""The families of `/metrics`: their names, which never change, and what they mean."""

from typing import Literal, NamedTuple

SHARED = " Asked of Redis and the store: every deployment member says the same, so take max, not sum."


class Family(NamedTuple):
    """A family of metrics. `name` is without the prefix; `shared`: it is the same whoever is asked."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    shared: bool = False

    @property
    def full_name(self) -> str:
        """The name that dashboards use."""
        return f"trio_alerts_{self.name}"

    @property
    def help(self) -> str:
        """What a scrape says about it."""
        return self.meaning + SHARED * self.shared


ATTEMPTS = Family("attempts_total", "counter", ("channel", "result"), "Attempts to send an alert through a channel.")
DURATIONS = Family("attempt_duration_seconds", "histogram", ("channel",), "How long attempts took.")
LATENCIES = Family(
    "delivery_latency_seconds", "histogram", ("severity",), "From XADD until every channel had accepted the alert."
)
ALERTS = Family("alerts_total", "counter", ("state",), "How often an alert got into this state.")
IN_DOUBT = Family("in_doubt_total", "counter", ("channel",), "Attempts of which nobody saw the outcome.")
QUARANTINED = Family("quarantined_total", "counter", ("reason",), "Entries moved to the dead letters.")
DEAD_LETTERS = Family(
    "dead_letters", "gauge", ("stream",), "Dead letters that nobody has replayed or dropped yet.", True
)
WAITING = Family(
    "waiting", "gauge", ("channel",), "Alerts that wait for a channel: in its queue, or for a retry.", True
)
BREAKERS = Family("breaker_open", "gauge", ("channel",), "1 while the channel's breaker is open: its alerts wait.")
FAILING = Family(
    "channel_failing_seconds", "gauge", ("channel",), "For how long attempts have failed and none was accepted."
)
LAG = Family("stream_lag", "gauge", ("stream",), "Entries that nobody has read yet.", True)
PENDING = Family("pending", "gauge", ("stream",), "Entries that were read and are not acknowledged.", True)
OLDEST = Family(
    "oldest_undelivered_seconds", "gauge", (), "The age of what waits longest to be read, sent or retried.", True
)
RECORDS = Family("records", "gauge", ("state",), "Records in the store.", True)
OVERDUE = Family("overdue_retries", "gauge", (), "Retries that are overdue by more than a minute.", True)
LOST = Family("lost_upstream_total", "counter", (), "Entries trimmed or deleted before they were read.", True)
PRUNED = Family("records_pruned_total", "counter", (), "Records deleted for their age.", True)
OUTAGE = Family("outage", "gauge", ("backend",), "1 while a process waits for Redis or the store.")
IN_FLIGHT = Family("in_flight", "gauge", (), "Alerts that are being worked on.")
WORKERS = Family("workers", "gauge", (), "Alerts that can be worked on at once.")
HANGING = Family("process_hanging", "gauge", ("process",), "1 while /healthz says that the process hangs.")
STARTED = Family(
    "process_start_time_seconds", "gauge", ("process",), "When the process was started, in seconds since the epoch."
)
BATCHES = Family("batch_size", "histogram", ("backend",), "Acknowledgements and writes that went out together.")
CANARY = Family(
    "canary_age_seconds",
    "gauge",
    ("stream",),
    "How long ago the last canary was written that came through.",
    True,
)
CANARY_PERIOD = Family("canary_every_seconds", "gauge", (), "How often a canary is written; nothing without canaries.")
RELOADS = Family("reloads_total", "counter", ("outcome",), "Reloads of the settings: taken up, or refused.")
LAST_RELOAD = Family(
    "last_reload_ok", "gauge", (), "0 while the old settings are in use because the last reload was refused, else 1."
)
BUILD = Family("build_info", "gauge", ("version",), "Always 1.")

FAMILIES = (
    *(ATTEMPTS, DURATIONS, LATENCIES, ALERTS, IN_DOUBT, QUARANTINED, DEAD_LETTERS, WAITING, BREAKERS),
    *(FAILING, LAG, PENDING, OLDEST, RECORDS, OVERDUE, LOST, PRUNED, OUTAGE, IN_FLIGHT, WORKERS, HANGING),
    *(STARTED, BATCHES, CANARY, CANARY_PERIOD, RELOADS, LAST_RELOAD, BUILD),
)
