"""What is run, and what comes of it."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.delays import Delay
from bench.places import StoreKind
from bench.processes import ROOT, Program

DEFAULT_TIMEOUT_S = 15.0
SLACK_S = 1.0  # from the longest answer to the time-out, so that none is taken for a receiver that hangs
BURST = 3  # as Slack's channels have it


@dataclass(frozen=True)
class Plan:
    """What is run.

    Args:
        program: The program itself, or the measure.
        store: Where records go.
        workers: Of all processes together.
        processes: Worker processes.
        streams: With several, they are on a Cluster, and each process is a deployment that has some of them in a slot
            of its own. Only with a backlog, and without a store.
        delay: How long receivers take.
        alerts: How many are measured.
        rate: Alerts per second that are offered; None: all are there from the start.
        hanging: Share of the alerts whose first request is never answered.
        channels: How many channels the alerts go through in turn. With several, the figures are those of all but the
            last one.
        sick: The last channel hangs while it is measured; it answers again before the account is made.
        scraped: It serves `http_bind`, and its figures are read every second.
        limit: The channel's `rate_per_s`, with a `burst` of `BURST`; see `bench.limited`.
        settings: More settings of the program.
        code: The checkout whose code is run.
    """

    program: Program
    store: StoreKind
    workers: int
    alerts: int
    delay: Delay = field(default_factory=partial(Delay, "fixed", 0.1))
    processes: int = 1
    streams: int = 1
    rate: float | None = None
    hanging: float = 0.0
    channels: int = 1
    sick: bool = False
    scraped: bool = False
    limit: float | None = None
    settings: dict[str, str] = field(default_factory=dict)
    code: Path = ROOT

    @property
    def send_timeout_s(self) -> float:
        """The setting: its default, but for receivers that hang (short, so that it matters) or take long."""
        longest_s = self.delay.longest_s + SLACK_S
        return longest_s if self.hanging else max(longest_s, DEFAULT_TIMEOUT_S)

    def __str__(self) -> str:
        load = "backlog" if self.rate is None else f"{self.rate:g}/s"
        hanging = f" {self.hanging:.0%} hanging" if self.hanging else ""
        limit = "" if self.limit is None else f" into {self.limit:g}/s"
        scraped = ", scraped" if self.scraped else ""
        channels = "" if self.channels == 1 else f" {self.channels} channels{', one hangs' if self.sick else ''},"
        processes = "" if self.processes == 1 else f" in {self.processes} processes"
        streams = "" if self.streams == 1 else f" {self.streams} streams of a Cluster,"
        return (
            f"{self.program} {self.store} {self.workers:,} x {self.delay}{hanging}{processes},{streams}{channels} "
            f"{load}{limit}{scraped}"
        )


@dataclass(frozen=True)
class Latency:
    """From the time at which an alert was due to be sent to its arrival at the receiver, in seconds."""

    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class Limited:
    """What came of a channel's limit.

    Attributes:
        overtaken: How many others were sent while a critical alert had been waiting.
        excess: By how many alerts the most crowded stretch of time exceeded the rate. Whole ones: a request that takes
            longer than the one behind it is no alert too many.
        failed: How many records said so.
        writes: To the store, for each alert.
    """

    overtaken: int
    excess: int
    failed: int
    writes: float


@dataclass(frozen=True)
class RunResult:
    """What came of a run.

    Attributes:
        rate: Alerts per second; with a backlog, while it lasted (see `steady_rate`).
        overall_rate: The same from the first to the last, ramp and drain included.
        share: `rate` of the ideal.
        cpu_us: CPU time of the worker processes an alert, in microseconds.
        peak_bytes: Their peak memory.
        latency: Where the load was on a schedule.
        batches: How many batches of each size were written to the store.
        others_us: CPU time of the other processes an alert, in microseconds, by name: the store, Valkey, receivers.
        others_cpu: The same in CPU seconds a second: who is near 1 limits the run.
        stored_bytes: What the store has on disk for an alert, without its log of writes; 0 without a store.
        late_mean_s: By how much the receiver answered later than it meant to.
        ledger: The account of the run, which balances.
        limited: Where a channel had a limit. Latency is that of critical alerts then, and the CPU time of alerts that
            nearly all waited.
    """

    plan: Plan
    rate: float
    overall_rate: float
    share: float
    cpu_us: float
    peak_bytes: int
    latency: Latency | None
    batches: dict[int, int]
    others_us: dict[str, float]
    others_cpu: dict[str, float]
    stored_bytes: float
    late_mean_s: float
    ledger: str
    versions: dict[str, str]
    limited: Limited | None = None


class VoidRunError(Exception):
    """The run proves nothing: its ledger does not balance, or it did not end."""
