"""Where a run takes place: servers, receiver and a stream of its own, what is waited for there, and the account."""

import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass

from bench.ledger import faults_of
from bench.load import Streams, alerts, by_severity, configuration, in_turn
from bench.places import Place, open_place
from bench.plan import BURST, Plan, VoidRunError
from bench.processes import SECRET, ReceiverProcess, WorkerProcesses, wait_a_moment
from bench.receiver import ReceiverReport
from bench.scraper import scraping
from bench.worker import WorkerReport
from tests.support.servers import OpenSearchServer, ValkeyCluster, ValkeyServer
from tests.support.servers.process import free_port

GROUP = "bench"
STUCK_S = 60.0  # longer than any delay, and than a claim of what a lost process had
SICK = {"retry_schedule_s": "5,10,10,10,10,10,10,3600,36000"}  # the account must not wait for the longer steps
HANGING = {"retry_schedule_s": "1,1,1,1", "redrive_every_s": 0.5}  # else a run would take minutes


@dataclass(frozen=True)
class Stage:
    """What one run has to itself.

    Args:
        plan: What is run.
        streams: Each with one group, which has read nothing yet.
        receiver: Of all channels.
        place: Where the records go.
        settings: Of each worker process, but for its channels.
        versions: Of the servers.
        others: The processes of the others, by name.
    """

    plan: Plan
    streams: Streams
    receiver: ReceiverProcess
    place: Place
    settings: Sequence[Mapping[str, object]]
    versions: dict[str, str]
    others: dict[str, list[int]]

    @contextmanager
    def workers(self, *, limited: bool = True) -> Iterator[WorkerProcesses]:
        """Start the worker processes, and end them with the block; without the limit of their channel, if so wanted."""
        plan, limit = self.plan, self.plan.limit if limited else None
        more = "" if limit is None else f"rate_per_s = {limit}\nburst = {BURST}\n"
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as config:
            if plan.channels > 1 or plan.limit is not None:  # the channel keeps its name without its limit
                config.write(configuration(self.receiver.urls(plan.channels), SECRET, more))
                config.flush()
                channels: dict[str, object] = {"config": config.name}
            else:
                channels = {"webhook_url": self.receiver.url, "webhook_secret": SECRET}
            if plan.scraped:
                channels["http_bind"] = f"127.0.0.1:{free_port()}"
            settings, remember = [{**one, **channels} for one in self.settings], plan.store == "none"
            with (
                WorkerProcesses(plan.program, settings, remember=remember, code=plan.code) as workers,
                scraping(str(channels["http_bind"])) if plan.scraped else nullcontext(),
            ):
                yield workers

    def until_read(self, workers: WorkerProcesses) -> None:
        """Wait until every worker process has asked for entries, of each stream that it has."""
        consumers = max(self.plan.processes, self.plan.streams)
        self.until(lambda: self.streams.consumers() >= consumers, "all processes read", workers)

    def until_accepted(self, count: int, workers: WorkerProcesses, *, but_pending: bool = False) -> None:
        """Wait until the receiver has accepted so many alerts, and nothing is pending, unless something may be."""
        self.until(
            lambda: self.receiver.count() >= count and (but_pending or self.streams.pending() == 0),
            f"{count:,} alerts are accepted",
            workers,
        )

    def until(self, condition: Callable[[], bool], what: str, workers: WorkerProcesses) -> None:
        """Wait for something.

        Raises:
            VoidRunError: The receiver is sent nothing more, and it does not happen.
            WorkersFailedError: A worker process ended.
        """
        seen, since_s = -1, time.monotonic()
        while not condition():
            workers.check()
            now = self.receiver.count()
            if now != seen:
                seen, since_s = now, time.monotonic()
            elif time.monotonic() - since_s > STUCK_S:
                state = f"{now:,} accepted, {self.streams.pending():,} pending"
                raise VoidRunError(f"{self.plan}: nothing moves before {what}: {state}\n{workers.log()}")
            wait_a_moment()

    def balance(
        self,
        emitted: Sequence[str],
        received: Sequence[ReceiverReport],
        reports: Sequence[WorkerReport],
        log: str,
        filled: Collection[str] = (),
    ) -> str:
        """Make the account of the run, and say it in a sentence; `filled` are records that were there before it.

        Raises:
            VoidRunError: It does not balance.
        """
        recorded = [one for one in self.place.delivered_ids() if one not in filled]
        recorded += [one for report in reports for one in report.remembered]
        accepted = [one for report in received for one in report.ids]
        duplicates = sum(report.duplicates for report in received)
        if faults := faults_of(emitted, accepted, recorded, duplicates=duplicates, pending=self.streams.pending()):
            raise VoidRunError(f"{self.plan}: {'; '.join(faults)}\n{log}")
        return f"{len(emitted):,} emitted, accepted and recorded as delivered, each once"


@contextmanager
def open_stage(plan: Plan, opensearch: OpenSearchServer | None) -> Iterator[Stage]:
    """Make everything that a run needs but its workers, and remove it afterwards."""
    name = f"bench-{secrets.token_hex(4)}"
    with (
        _valkey(plan, name) as (nodes, owners, deployments),
        ExitStack() as clients,
        ReceiverProcess(plan.delay, plan.hanging) as receiver,
        open_place(plan.store, opensearch, name, GROUP, measure=plan.program != "trio_alerts") as place,
    ):
        payloads = alerts(in_turn(plan.channels) if plan.limit is None else by_severity)
        shared = {
            "redis_url": nodes[0].url,  # in a Cluster it leads the way to the others
            "store_url": place.url,
            "group": GROUP,
            "index": place.index,
            "workers": plan.workers // plan.processes,
            "send_timeout_s": plan.send_timeout_s,
            **(HANGING if plan.hanging else {}),
            **(SICK if plan.sick else {}),
            **plan.settings,
        }
        by_name = {stream: clients.enter_context(owner.client()) for stream, owner in owners.items()}
        yield Stage(
            plan=plan,
            streams=Streams(by_name, GROUP, payloads),
            receiver=receiver,
            place=place,
            settings=[shared | deployment for deployment in deployments],
            versions={"Valkey": ".".join(map(str, nodes[0].version())), "store": place.version()},
            others={"Valkey": [node.pid for node in nodes], "receiver": [receiver.pid], "store": place.pids()},
        )


@contextmanager
def _valkey(
    plan: Plan, name: str
) -> Iterator[tuple[list[ValkeyServer], dict[str, ValkeyServer], list[dict[str, object]]]]:
    """Start what has the streams; yield its servers, which of them has each stream, and what each process reads."""
    if plan.streams == 1:
        with ValkeyServer() as valkey:
            yield [valkey], {name: valkey}, [{"stream": name}] * plan.processes
        return
    assert (plan.store, plan.rate) == ("none", None)
    each = range(plan.streams // plan.processes)
    slots = [[f"{name}:{{{slot}}}:{number}" for number in each] for slot in range(plan.processes)]
    with ValkeyCluster() as cluster:
        owners = {stream: cluster.node_of(stream) for streams in slots for stream in streams}
        # One name more, of a stream with nothing in it: with two, the IDs of records have the stream's name.
        deployments: list[dict[str, object]]
        deployments = [{"streams": ",".join([*streams, f"{streams[0]}:urgent"])} for streams in slots]
        yield cluster.nodes, owners, deployments
