"""One run, from an empty stream to a balanced ledger."""

import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.delays import Delay
from bench.figures import ideal_rate, percentile, steady_rate
from bench.ledger import faults_of
from bench.load import Stream, configuration, schedule
from bench.places import StoreKind, open_place
from bench.processes import ROOT, SECRET, Program, ReceiverProcess, WorkerProcesses, WorkersFailedError, wait_a_moment
from bench.receiver import ReceiverReport
from bench.usage import Usage, usage_of
from bench.worker import WorkerReport
from tests.support.servers import OpenSearchServer, ValkeyServer

GROUP = "bench"
STUCK_S = 60.0  # longer than any delay, and than a claim of what a lost process had
DEFAULT_TIMEOUT_S = 15.0
WARM_ROUNDS = 2  # in the second, every worker finds its connection
FEWEST_WARM = 200
SLACK_S = 1.0  # from the longest answer to the time-out, so that none is taken for a receiver that hangs
SICK = {"retry_schedule_s": "5,10,10,10,10,10,10,3600,36000"}  # the account must not wait for the longer steps
HANGING = {"retry_schedule_s": "1,1,1,1", "redrive_every_s": 0.5}  # else a run would take minutes


@dataclass(frozen=True)
class Plan:
    """What is run.

    Args:
        program: The program itself, or the measure.
        store: Where records go.
        workers: Of all processes together.
        processes: Worker processes.
        delay: How long receivers take.
        alerts: How many are measured.
        rate: Alerts per second that are offered; None: all are there from the start.
        hanging: Share of the alerts whose first request is never answered.
        channels: How many channels the alerts go through in turn. With several, the figures are those of all but the
            last one.
        sick: The last channel hangs while it is measured; it answers again before the account is made.
        settings: More settings of the program.
        code: The checkout whose code is run.
    """

    program: Program
    store: StoreKind
    workers: int
    alerts: int
    delay: Delay = field(default_factory=partial(Delay, "fixed", 0.1))
    processes: int = 1
    rate: float | None = None
    hanging: float = 0.0
    channels: int = 1
    sick: bool = False
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
        channels = "" if self.channels == 1 else f" {self.channels} channels{', one hangs' if self.sick else ''},"
        processes = "" if self.processes == 1 else f" in {self.processes} processes"
        return f"{self.program} {self.store} {self.workers:,} x {self.delay}{hanging}{processes},{channels} {load}"


@dataclass(frozen=True)
class Latency:
    """From the time at which an alert was due to be sent to its arrival at the receiver, in seconds."""

    p50_s: float
    p99_s: float
    max_s: float


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
        others_cpu: CPU seconds a second of the other processes, by name: who is near 1 limits the run.
        late_mean_s: By how much the receiver answered later than it meant to.
        ledger: The account of the run, which balances.
    """

    plan: Plan
    rate: float
    overall_rate: float
    share: float
    cpu_us: float
    peak_bytes: int
    latency: Latency | None
    batches: dict[int, int]
    others_cpu: dict[str, float]
    late_mean_s: float
    ledger: str
    versions: dict[str, str]


class VoidRunError(Exception):
    """The run proves nothing: its ledger does not balance, or it did not end."""


def run(plan: Plan, opensearch: OpenSearchServer | None = None) -> RunResult:
    """Do one run.

    Args:
        plan: What.
        opensearch: A running server, for that store.

    Raises:
        VoidRunError: The ledger does not balance, or a worker process failed; its figures are worth nothing.
    """
    name = f"bench-{secrets.token_hex(4)}"
    with (
        ValkeyServer() as valkey,
        valkey.client() as client,
        ReceiverProcess(plan.delay, plan.hanging) as receiver,
        open_place(plan.store, opensearch, name, GROUP) as place,
        tempfile.NamedTemporaryFile("w", suffix=".toml") as config,
    ):
        stream = Stream(client, name, GROUP, plan.channels)
        versions = {"Valkey": ".".join(map(str, valkey.version())), "store": place.version()}
        settings = {
            "redis_url": valkey.url,
            "store_url": place.url,
            "stream": name,
            "group": GROUP,
            "index": place.index,
            "workers": plan.workers // plan.processes,
            "send_timeout_s": plan.send_timeout_s,
            **(HANGING if plan.hanging else {}),
            **(SICK if plan.sick else {}),
            **plan.settings,
        }
        if plan.channels > 1:
            config.write(configuration(receiver.urls(plan.channels), SECRET))
            config.flush()
            settings["config"] = config.name
        else:
            settings |= {"webhook_url": receiver.url, "webhook_secret": SECRET}
        remember = plan.store == "none"
        with WorkerProcesses(plan.program, settings, plan.processes, remember=remember, code=plan.code) as workers:
            others = {"Valkey": [valkey.pid], "receiver": [receiver.pid], "store": place.pids()}
            measured = _Measured(plan, stream, receiver, workers, others)
            try:
                measured.go()
                reports = workers.stop()
            except WorkersFailedError as fault:
                raise VoidRunError(f"{plan}: {fault}") from None
            log = workers.log()
        recorded = place.delivered_ids() + [one for report in reports for one in report.remembered]
        duplicates = measured.warm.duplicates + measured.received.duplicates
        accepted = measured.warm.ids + measured.received.ids
        faults = faults_of(measured.emitted, accepted, recorded, duplicates=duplicates, pending=stream.pending())
    if faults:
        raise VoidRunError(f"{plan}: {'; '.join(faults)}\n{log}")
    return _result(measured, reports, versions)


class _Measured:
    """The phases of a run, and what was read off in between."""

    def __init__(
        self,
        plan: Plan,
        stream: Stream,
        receiver: ReceiverProcess,
        workers: WorkerProcesses,
        others: dict[str, list[int]],
    ) -> None:
        self.plan = plan
        self.emitted: list[str] = []
        self.due_s: list[float] = []  # of the measured ones, where the load is on a schedule
        self.warm: ReceiverReport
        self.received: ReceiverReport
        self.start_s = self.took_s = 0.0
        self.before: dict[str, Usage] = {}
        self.after: dict[str, Usage] = {}
        self._stream = stream
        self._receiver = receiver
        self._workers = workers
        self._pids = {"workers": workers.pids, **others}

    def go(self) -> None:
        """Warm up, then measure."""
        self._wait(lambda: self._stream.consumers() == self.plan.processes, "all processes read")
        self.emitted += self._stream.add_backlog(max(WARM_ROUNDS * self.plan.workers, FEWEST_WARM))
        self.emitted += self._stream.release()
        self._wait_until_accepted(len(self.emitted))
        self.warm = self._receiver.report()
        self._receiver.clear()
        if self.plan.rate is None:
            self.emitted += self._stream.add_backlog(self.plan.alerts - 1)
        if self.plan.sick:
            self._receiver.hang()
        self.before = {name: usage_of(pids) for name, pids in self._pids.items()}
        self.start_s = time.monotonic()
        if self.plan.rate is None:
            self.emitted += self._stream.release()
        else:
            for entry_id, due_s in self._stream.send_on_schedule(schedule(self.plan.rate, self.plan.alerts)):
                self.emitted.append(entry_id)
                self.due_s.append(due_s)
        if self.plan.sick:
            self._wait(lambda: self._receiver.count() >= len(self.watched()), "the channels that are well have all")
        else:
            self._wait_until_accepted(self.plan.alerts)
        self.took_s = time.monotonic() - self.start_s
        self.after = {name: usage_of(pids) for name, pids in self._pids.items()}
        self._receiver.heal()
        self._wait_until_accepted(self.plan.alerts)
        self.received = self._receiver.report()

    def watched(self) -> dict[str, float]:
        """Return when each alert was due of which the figures are: those of all channels, or all but the last one."""
        first, channels = len(self.emitted) - self.plan.alerts, self.plan.channels
        due = enumerate(zip(self.emitted[first:], self.due_s, strict=True), first)
        return dict(one for number, one in due if channels == 1 or number % channels != channels - 1)

    def spent(self, name: str) -> float:
        """Return the CPU seconds that one kind of process spent while it was measured."""
        return self.after[name].cpu_s - self.before[name].cpu_s

    def _wait_until_accepted(self, count: int) -> None:
        self._wait(
            lambda: self._receiver.count() >= count and self._stream.pending() == 0, f"{count:,} alerts are accepted"
        )

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        seen, since_s = -1, time.monotonic()
        while not condition():
            self._workers.check()
            now = self._receiver.count()
            if now != seen:
                seen, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > STUCK_S:
                state = f"{now:,} accepted, {self._stream.pending():,} pending"
                raise VoidRunError(f"{self.plan}: nothing moves before {what}: {state}\n{self._workers.log()}")
            wait_a_moment()


def _result(measured: _Measured, reports: Sequence[WorkerReport], versions: dict[str, str]) -> RunResult:
    plan, received = measured.plan, measured.received
    overall, offered = plan.alerts / measured.took_s, plan.rate
    latency = None
    if plan.rate is None:
        rate = steady_rate(received.arrivals_s, plan.workers)
    else:
        arrived_s = dict(zip(received.ids, received.arrivals_s, strict=True))
        watched = measured.watched()
        waits_s = sorted(arrived_s[one] - due_s for one, due_s in watched.items())
        latency = Latency(percentile(waits_s, 0.5), percentile(waits_s, 0.99), waits_s[-1])
        rate = overall
        if plan.channels > 1:
            rate = len(watched) / (max(arrived_s[one] for one in watched) - measured.start_s)
            offered = plan.rate * len(watched) / plan.alerts
    busy_s = received.drawn_mean_s + received.late_mean_s + plan.hanging * plan.send_timeout_s
    return RunResult(
        plan=plan,
        rate=rate,
        overall_rate=overall,
        share=rate / ideal_rate(plan.workers, busy_s, offered),
        cpu_us=measured.spent("workers") / plan.alerts * 1e6,
        peak_bytes=measured.after["workers"].peak_bytes,
        latency=latency,
        batches=dict(sum((Counter(report.batches) for report in reports), Counter())),
        others_cpu={name: measured.spent(name) / measured.took_s for name in measured.after if name != "workers"},
        late_mean_s=received.late_mean_s,
        ledger=f"{len(measured.emitted):,} emitted, accepted and recorded as delivered, each once",
        versions=versions,
    )
