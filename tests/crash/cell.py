"""One cell while it runs: its stream and index, its workers, its receivers, and what lies between them."""

import datetime as dt
import secrets
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import redis
import trio

from tests.crash.producer import Producer
from tests.crash.proxy import FAITHFUL, Behaviour, Proxy
from tests.crash.servers import Servers
from tests.support.crew import Crew, Worker
from tests.support.fakes.world import GROUP
from tests.support.ledger import FINAL, Balance, balance
from tests.support.program import command_line, environ_of, happens
from tests.support.receiver import Script, Step
from tests.support.servers import OpenSearchServer, RedisServer
from trio_alerts.backends.redis.keys import dead_letter_key
from trio_alerts.channels.registry import channel_settings
from trio_alerts.errors import AlertError, StartError
from trio_alerts.ports.store import AlertStore, RecordFilter
from trio_alerts.record import Record
from trio_alerts.settings.sources import load_settings
from trio_alerts.store import open_store

PATIENCE_S = 120.0  # longer than any step takes on a busy machine; what is not there by then is missing
ALERTS = 240  # a cell
PER_S = 80.0  # so that a cell's traffic lasts for three seconds
LOOK_S = 0.2  # between two looks at all records
LOSING_S = 3.0  # answers are lost for so long behind the traffic, too: as long as that took

QUICK = {
    "workers": "8",
    "block_s": "0.5",
    "keepalive_s": "0.5",
    "claim_idle_s": "1.5",
    "claim_every_s": "0.2",
    "redrive_every_s": "0.2",
    "retry_schedule_s": "0.5,0.5,1,1,1,1,1,1",
    "redis_timeout_s": "2",
    "store_timeout_s": "2",
    "connect_timeout_s": "1",
    "send_timeout_s": "2",
    "lease_s": "4",
    "grace_s": "5",
    "log_format": "text",
}

CHANNELS = """
[[channels]]
name = "hook"
url = "{hook}/hook"
in_doubt_policy = "{policy}"
{limit}

[[channels]]
name = "steady"
url = "{steady}/steady"
in_doubt_policy = "resend"

[[routes]]
match = {{ severity = "high" }}
channels = ["hook", "steady"]
{fallback}
[[routes]]
channels = ["hook"]
{fallback}
"""

SPARE = """
[[channels]]
name = "spare"
url = "{steady}/spare"
"""

T = TypeVar("T")
KILLED = (-signal.SIGKILL,)
Spoiled = Literal["redis", "store", "hook"]


class CellFailedError(Exception):
    """A cell did not go as it must; the message says where."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the matrix.

    Args:
        name: For `--only`.
        about: What happens, for the table.
        play: Emits the alerts and does the harm; returns when the harm is over.
        through: What the workers reach through a proxy; `RunningCell.proxies` has it.
        hook: What the first channel's receiver does. The second one, which gets every third alert too, just accepts.
        settings: Other settings than the quick ones.
        faults: Of the first process, the second, …
        module: What is run instead of `trio_alerts`.
        limit: More settings of the first channel, in TOML.
        fallback_after_s: When an alert goes to a third channel, `spare`, too; None: there is none.
        named: Receivers are reached by the names hook.example and steady.example, which `module` resolves.
        size: Worker processes.
        ends: Exit codes with which processes may end before they are stopped; KILLED where the cell kills them.
        store: Where records live.
        expected: Numbers that must come out, others than nothing failed, nothing quarantined, nothing held.
        check: Looks at what came out; what it returns is wrong.
    """

    name: str
    about: str
    play: "Callable[[RunningCell], None]"
    through: Collection[Spoiled] = ()
    hook: Script = field(default_factory=lambda: Script([Step(200, delay_s=0.03)]))
    settings: Mapping[str, str] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    module: str = "trio_alerts"
    limit: str = ""
    fallback_after_s: float | None = None
    named: bool = False
    size: int = 2
    ends: Collection[int] = ()
    store: Literal["opensearch", "sqlite"] = "opensearch"
    expected: "Callable[[RunningCell], Mapping[str, int]]" = lambda cell: {}
    check: "Callable[[RunningCell], str]" = lambda cell: ""


@dataclass(frozen=True)
class Outcome:
    """How a cell ended: how long it took to drain (None: it did not), the last workers' exit codes, the balance."""

    drain_s: float | None
    codes: list[int]
    balance: Balance


class RunningCell:
    """A cell that runs, from `with` to the end of the block.

    Attributes:
        plan: What is to happen in it.
        redis: The server that has the stream now; a fail-over changes it.
        redis_url: Where workers look for it, if not there.
        store_url: Where workers look for OpenSearch, if not at the servers'.
        excused: Entries that were taken away before anybody had read them.
        forgotten: Entries whose records were deleted.
        notes: For the table's last column.
        outcome: How it ended, once it has.
    """

    def __init__(self, plan: Cell, servers: Servers, folder: Path) -> None:
        self.plan = plan
        self.servers = servers
        self.folder = folder
        self.redis: RedisServer = servers.redis
        self.redis_url: str | None = None
        self.store_url: str | None = None
        self.replicas = 0
        self.stream = f"AlertStream-{secrets.token_hex(4)}"
        self.alias = f"alerts-{secrets.token_hex(4)}"
        self.proxies: dict[Spoiled, Proxy] = {}
        self._opensearch: OpenSearchServer | None = None
        self.excused: set[str] = set()
        self.forgotten: set[str] = set()
        self.notes: list[str] = []
        self.outcome: Outcome | None = None
        self.crew: Crew
        self.producer: Producer
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as ending:
            self.servers.receiver.clear()
            self.servers.receiver.set_scripts({"/hook": self.plan.hook})
            ports = {"redis": self.redis.port, "hook": self.servers.receiver.port}
            if self.plan.store == "opensearch":
                ports["store"] = self.opensearch.http_port
                ending.callback(self.servers.opensearch.remove_indices, self.alias)
            for name in self.plan.through:
                self.proxies[name] = ending.enter_context(Proxy(ports[name], http=name == "store"))
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    @property
    def opensearch(self) -> OpenSearchServer:
        """The node that has the records: the servers', if the cell has none of its own."""
        return self._opensearch or self.servers.opensearch

    @opensearch.setter
    def opensearch(self, node: OpenSearchServer) -> None:
        self._opensearch = node

    # -- what plays do --

    def begin(self) -> None:
        """Start the workers; return when they read. Plays that prepare servers first do that before."""
        plan = self.plan
        standing_by = () if plan.fallback_after_s is None else ("spare",)
        self.producer = Producer(self._client, self.stream, replicas=self.replicas, standing_by=standing_by)
        self.crew = Crew(plan.size, environ_of(self._settings()), self.folder, faults=plan.faults, module=plan.module)
        self._ending.callback(self.crew.kill)
        self.crew.start()
        self.until(lambda: self.crew.ready, "all workers read")
        # A first start that a busy server answered too late is not what the cell is about.
        self.crew.ends[:] = [code for code in self.crew.ends if code != StartError.exit_code]

    def emit(self, count: int = ALERTS, per_s: float = PER_S) -> None:
        """Let alerts come at a steady rate, in the background."""
        self.producer.start(count, per_s)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something.

        Raises:
            CellFailedError: It did not happen.
        """
        if not happens(condition, PATIENCE_S):
            raise CellFailedError(f"never: {what}")

    def until_accepted(self, count: int) -> None:
        """Wait until the receivers have accepted that much: the work is in full swing."""
        self.until(lambda: self.servers.receiver.totals().accepted >= count, f"{count} accepted")

    def until_requested(self, count: int) -> None:
        """Wait until the receivers have been sent that much."""
        self.until(lambda: self.servers.receiver.totals().requests >= count, f"{count} requested")

    def until_said(self, worker: Worker, words: str) -> None:
        """Wait for words in a worker's log."""
        self.until(lambda: words in worker.said(), f"a worker says {words!r}")

    def until_gone(self, count: int) -> None:
        """Wait until that many processes have ended."""
        self.until(lambda: len(self.crew.ends) >= count, f"{count} processes ended")

    def until_ended(self, count: int) -> None:
        """Wait until that many processes have ended, and their successors read."""
        self.until_gone(count)
        self.until(lambda: self.crew.ready, "their successors read")

    def kill_all(self) -> None:
        """Let all workers die at once; return when their successors read."""
        ended = len(self.crew.ends)
        for worker in self.crew.living:
            worker.signal(signal.SIGKILL)
        self.until_ended(ended + self.plan.size)

    def until_emitted(self) -> None:
        """Wait for the end of `emit`."""
        self.producer.join()

    def disturb(
        self, harm: Callable[[], object], heal: Callable[[], object], lasts_s: float, *, each: int = 50
    ) -> None:
        """Let the traffic come, and do harm for a while when so many alerts were accepted, and when twice as many."""
        self.begin()
        self.emit()
        for number in (1, 2):
            self.until_accepted(each * number)
            harm()
            time.sleep(lasts_s)
            heal()
        self.notes.append(f"twice {lasts_s:g} s")

    def spoil(self, name: Spoiled, behaviour: Behaviour, lasts_s: float) -> None:
        """`disturb` with traffic that is treated like this."""
        proxy = self.proxies[name]
        self.disturb(lambda: proxy.behave(behaviour), lambda: proxy.behave(FAITHFUL), lasts_s)

    def lose_answers(self, backend: Literal["redis", "store"], share: float) -> None:
        """Let the traffic come while this share of a backend's answers is lost."""
        self.begin()
        self.proxies[backend].behave(Behaviour(loses=share))
        self.emit()
        self.until_emitted()
        time.sleep(LOSING_S)
        self.proxies[backend].behave(FAITHFUL)
        self.notes.append(f"{self.proxies[backend].spoiled} answers lost")

    def command(self, *argv: str) -> str:
        """Run a command to its end, as an operator does; return what it printed.

        Raises:
            CellFailedError: It did not end with exit code 0.
        """
        running = self.start(*argv)
        printed, logged = running.communicate()
        if running.returncode:
            raise CellFailedError(f"{argv} ended with {running.returncode}: {logged.decode()}")
        return printed.decode()

    def start(self, *argv: str, fault: str = "") -> subprocess.Popen[bytes]:
        """Start a command, as an operator does; `fault` is a fault point of it."""
        environ = environ_of({**self._settings(), "fault": fault})
        return subprocess.Popen(command_line(*argv), env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def oldest(self) -> Worker:
        """Return the process that has lived longest."""
        return self.crew.living[0]

    def index(self, method: str, path: str, body: object = None) -> Any:
        """Ask OpenSearch something about this cell's index, such as `_close`.

        Raises:
            CellFailedError: It refused.
        """
        status, answer = self.opensearch.request(method, f"/{self.alias}-000001{path}", body)
        if status >= 300:
            raise CellFailedError(f"{method} {path} was answered with {status}: {answer}")
        return answer

    # -- how it went --

    @property
    def spoiled(self) -> int:
        """How often a proxy has spoiled something."""
        return sum(proxy.spoiled for proxy in self.proxies.values())

    @property
    def repeats(self) -> int:
        """How many more requests the first channel's receiver was sent than alerts."""
        sent = [request.webhook_id for request in self.servers.receiver.ledger().requests if request.path == "/hook"]
        return len(sent) - len(set(sent))

    def pending(self) -> int:
        """Return how many entries are pending in the group."""
        with self.redis.client() as client:
            return int(client.xpending(self.stream, GROUP)["pending"])

    def settled(self) -> bool:
        """Whether nothing is left to do for anybody."""
        try:
            if self.pending():
                return False
            counts = self._ask_store(lambda store: store.counts(dt.datetime.now(dt.UTC)))
            if sum(counts.by_state.values()) > sum(counts.by_state.get(state, 0) for state in (*FINAL, "quarantined")):
                return False  # which is cheap to know: a soak has many records
            records = self.records()
            dead = self.dead()
        except (redis.RedisError, AlertError):
            return False
        done = {record_id for record_id, record in records.items() if record.delivery.state in FINAL}
        settled = self.producer.emitted.keys() <= done | dead | self.excused | (self.forgotten - records.keys())
        return settled and done == records.keys() - dead

    def finish(self) -> Outcome:
        """Drain, stop and balance; plays whose own servers end with them do it themselves."""
        self.until_emitted()
        self.outcome = Outcome(self.drain(), self.crew.stop(), self.balance())
        return self.outcome

    def give_up(self) -> Outcome:
        """Balance what there is, without waiting for anything any more."""
        self.crew.kill()
        return Outcome(None, [], self.balance())

    def drain(self) -> float | None:
        """Wait until nothing is left to do; return how long that took in seconds, or None if it did not happen."""
        since = time.monotonic()
        while not self.settled():
            if time.monotonic() - since > PATIENCE_S:
                return None
            time.sleep(LOOK_S)
        return time.monotonic() - since

    def balance(self) -> Balance:
        """Balance what was emitted against what the stores and the receivers know."""
        return balance(
            self.producer.emitted,
            self.records(),
            self.dead(),
            self.servers.receiver.ledger().requests,
            excused=self.excused,
            forgotten=self.forgotten,
        )

    def records(self, wanted: RecordFilter = RecordFilter()) -> dict[str, Record]:  # noqa: B008 - it is frozen
        """Return the records by ID, as of now: every alert's, if nothing else is wanted."""
        most = max(10_000, 2 * len(self.producer.emitted))
        return {record.id: record for record in self._ask_store(lambda store: store.search(wanted, most))}

    def _ask_store(self, question: Callable[[AlertStore], Awaitable[T]]) -> T:
        if self.plan.store == "opensearch":
            self.opensearch.request("POST", f"/{self.alias}/_refresh")
        where = {"store_url": self._store_url(), "index": self.alias, "stream": self.stream}
        settings = load_settings(where, {}, None, channel_settings)

        async def ask() -> T:
            async with open_store(settings) as store:
                return await question(store)

        return trio.run(ask)

    def dead(self) -> set[str]:
        """Return the record IDs in the dead-letter stream."""
        with self.redis.client() as client:
            return {fields[b"_record"].decode() for _, fields in client.xrange(dead_letter_key(self.stream))}

    def _client(self) -> redis.Redis:
        return self.redis.client()

    def _store_url(self) -> str:
        return self.opensearch.url if self.plan.store == "opensearch" else f"sqlite:///{self.folder}/alerts.db"

    def _settings(self) -> dict[str, str]:
        def through(name: Spoiled, plain: str, scheme: str) -> str:
            return f"{scheme}://127.0.0.1:{self.proxies[name].port}" if name in self.proxies else plain

        settings = {**QUICK, **self.plan.settings}
        config = self.folder / "channels.toml"
        receiver = self.servers.receiver.url
        urls = {"hook": through("hook", receiver, "http"), "steady": receiver}
        if self.plan.named:
            urls = {name: url.replace("127.0.0.1", f"{name}.example") for name, url in urls.items()}
        policy = settings.pop("in_doubt_policy", "resend")
        after_s, spare, fallback = self.plan.fallback_after_s, "", ""
        if after_s is not None:
            spare, fallback = SPARE.format(**urls), f'fallback = ["spare"]\nfallback_after_s = {after_s}\n'
        config.write_text(spare + CHANNELS.format(**urls, policy=policy, limit=self.plan.limit, fallback=fallback))
        return {
            **settings,
            "config": str(config),
            "redis_url": self.redis_url or through("redis", self.redis.url, "redis"),
            "store_url": self.store_url or through("store", self._store_url(), "http"),
            "stream": self.stream,
            "index": self.alias,
        }
