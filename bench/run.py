"""One run, from an empty stream to a balanced ledger."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence

from bench.figures import ideal_rate, percentile, steady_rate
from bench.load import schedule
from bench.plan import Latency, Plan, RunResult, VoidRunError
from bench.processes import WorkerProcesses, WorkersFailedError
from bench.receiver import ReceiverReport
from bench.stage import Stage, open_stage
from bench.usage import Usage, usage_of
from bench.worker import WorkerReport
from tests.support.servers import OpenSearchServer

WARM_ROUNDS = 2  # in the second, every worker finds its connection
FEWEST_WARM = 200


def run(plan: Plan, opensearch: OpenSearchServer | None = None) -> RunResult:
    """Do one run.

    Args:
        plan: What.
        opensearch: A running server, for that store.

    Raises:
        VoidRunError: The ledger does not balance, or a worker process failed; its figures are worth nothing.
    """
    with open_stage(plan, opensearch) as stage:
        try:
            with stage.workers() as workers:
                measured = _Measured(stage, workers)
                measured.go()
                reports, log = workers.stop(), workers.log()
        except WorkersFailedError as fault:
            raise VoidRunError(f"{plan}: {fault}") from None
        ledger = stage.balance(measured.emitted, [measured.warm, measured.received], reports, log)
        stored_bytes = stage.place.stored_bytes() / len(measured.emitted)
    return _result(measured, reports, ledger, stored_bytes)


def latency_of(waits_s: Iterable[float]) -> Latency:
    """Sum up how long alerts took."""
    ordered = sorted(waits_s)
    return Latency(percentile(ordered, 0.5), percentile(ordered, 0.99), ordered[-1])


class _Measured:
    """The phases of a run, and what was read off in between."""

    def __init__(self, stage: Stage, workers: WorkerProcesses) -> None:
        self.plan = stage.plan
        self.versions = stage.versions
        self.emitted: list[str] = []
        self.due_s: list[float] = []  # of the measured ones, where the load is on a schedule
        self.warm: ReceiverReport
        self.received: ReceiverReport
        self.start_s = self.took_s = 0.0
        self.before: dict[str, Usage] = {}
        self.after: dict[str, Usage] = {}
        self._stage = stage
        self._streams = stage.streams
        self._receiver = stage.receiver
        self._workers = workers
        self._pids = {"workers": workers.pids, **stage.others}

    def go(self) -> None:
        """Warm up, then measure."""
        self._stage.until_read(self._workers)
        self._streams.prepare_backlog(max(WARM_ROUNDS * self.plan.workers, FEWEST_WARM))
        self.emitted += self._streams.release()
        self._stage.until_accepted(len(self.emitted), self._workers)
        self.warm = self._receiver.report()
        self._receiver.clear()
        if self.plan.rate is None:
            self._streams.prepare_backlog(self.plan.alerts)
        if self.plan.sick:
            self._receiver.hang()
        self.before = {name: usage_of(pids) for name, pids in self._pids.items()}
        self.start_s = time.monotonic()
        if self.plan.rate is None:
            self.emitted += self._streams.release()
        else:
            for entry_id, due_s in self._streams.send_on_schedule(schedule(self.plan.rate, self.plan.alerts)):
                self.emitted.append(entry_id)
                self.due_s.append(due_s)
        if self.plan.sick:
            self._stage.until_accepted(len(self.watched()), self._workers, but_pending=True)
        else:
            self._stage.until_accepted(self.plan.alerts, self._workers)
        self.took_s = time.monotonic() - self.start_s
        self.after = {name: usage_of(pids) for name, pids in self._pids.items()}
        self._receiver.heal()
        self._stage.until_accepted(self.plan.alerts, self._workers)
        self.received = self._receiver.report()

    def watched(self) -> dict[str, float]:
        """Return when each alert was due of which the figures are: those of all channels, or all but the last one."""
        first, channels = len(self.emitted) - self.plan.alerts, self.plan.channels
        due = enumerate(zip(self.emitted[first:], self.due_s, strict=True), first)
        return dict(one for number, one in due if channels == 1 or number % channels != channels - 1)

    def spent(self, name: str) -> float:
        """Return the CPU seconds that one kind of process spent while it was measured."""
        return self.after[name].cpu_s - self.before[name].cpu_s


def _result(measured: _Measured, reports: Sequence[WorkerReport], ledger: str, stored_bytes: float) -> RunResult:
    plan, received = measured.plan, measured.received
    overall, offered = plan.alerts / measured.took_s, plan.rate
    latency = None
    if plan.rate is None:
        rate = steady_rate(received.arrivals_s, plan.workers)
    else:
        arrived_s = dict(zip(received.ids, received.arrivals_s, strict=True))
        watched = measured.watched()
        latency = latency_of(arrived_s[one] - due_s for one, due_s in watched.items())
        rate = overall
        if plan.channels > 1:
            rate = len(watched) / (max(arrived_s[one] for one in watched) - measured.start_s)
            offered = plan.rate * len(watched) / plan.alerts
    others_s = {name: measured.spent(name) for name in measured.after if name != "workers"}
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
        others_us={name: spent_s / plan.alerts * 1e6 for name, spent_s in others_s.items()},
        others_cpu={name: spent_s / measured.took_s for name, spent_s in others_s.items()},
        stored_bytes=stored_bytes,
        late_mean_s=received.late_mean_s,
        ledger=ledger,
        versions=measured.versions,
    )
