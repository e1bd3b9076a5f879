"""A run through a channel that takes few alerts a second: who waits for how long, in which order, and at what cost."""

import math
import time
from collections import Counter

from bench.figures import excess, overtaken
from bench.load import is_critical, schedule
from bench.plan import Limited, Plan, RunResult, VoidRunError
from bench.processes import WorkersFailedError
from bench.run import latency_of
from bench.stage import open_stage
from bench.usage import usage_of
from tests.support.servers import OpenSearchServer

GRACE_S = 1.0  # in which a critical alert gets into the queue; who was let in before it may be sent


def run_limited(plan: Plan, opensearch: OpenSearchServer | None = None) -> RunResult:
    """Let alerts come faster than the channel takes them, until the last critical one is sent; then lift the limit.

    Without the limit the rest is sent at once, so that the account is about every alert.

    Raises:
        VoidRunError: The account does not balance, or a worker process failed.
    """
    assert plan.rate is not None
    assert plan.limit is not None
    with open_stage(plan, opensearch) as stage:
        streams, receiver, place = stage.streams, stage.receiver, stage.place
        try:
            with stage.workers() as workers:
                stage.until_read(workers)
                pids = {"workers": workers.pids, **stage.others}
                before, start_s = {name: usage_of(each) for name, each in pids.items()}, time.monotonic()
                due_s = dict(streams.send_on_schedule(schedule(plan.rate, plan.alerts)))
                critical = [one for number, one in enumerate(due_s) if is_critical(number)]
                stage.until(lambda: receiver.has(critical), "the critical ones are sent", workers)
                took_s = time.monotonic() - start_s
                after = {name: usage_of(each) for name, each in pids.items()}
                limited, failed = receiver.report(), place.failed()
                reports = workers.stop()
            with stage.workers(limited=False) as workers:
                stage.until_accepted(plan.alerts, workers)
                more, log = workers.stop(), workers.log()
        except WorkersFailedError as fault:
            raise VoidRunError(f"{plan}: {fault}") from None
        ledger = stage.balance(list(due_s), [receiver.report()], [*reports, *more], log)
        stored_bytes = stage.place.stored_bytes() / plan.alerts
    arrived_s = dict(zip(limited.ids, limited.arrivals_s, strict=True))
    urgent = [(due_s[one], arrived_s.pop(one)) for one in critical]
    batches = sum((Counter(report.batches) for report in reports), Counter[int]())
    others_s = {name: after[name].cpu_s - before[name].cpu_s for name in stage.others}
    rate = len(limited.ids) / took_s
    return RunResult(
        plan=plan,
        rate=rate,
        overall_rate=rate,
        share=rate / plan.limit,
        cpu_us=(after["workers"].cpu_s - before["workers"].cpu_s) / plan.alerts * 1e6,
        peak_bytes=after["workers"].peak_bytes,
        latency=latency_of(arrived - due for due, arrived in urgent),
        batches=dict(batches),
        others_us={name: spent_s / plan.alerts * 1e6 for name, spent_s in others_s.items()},
        others_cpu={name: spent_s / took_s for name, spent_s in others_s.items()},
        stored_bytes=stored_bytes,
        late_mean_s=limited.late_mean_s,
        ledger=ledger,
        versions=stage.versions,
        limited=Limited(
            overtaken=overtaken(urgent, list(arrived_s.values()), GRACE_S),
            excess=math.floor(excess(limited.arrivals_s, plan.limit)),
            failed=failed,
            writes=sum(size * count for size, count in batches.items()) / plan.alerts,
        ),
    )
