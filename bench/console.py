"""The console over many records: how long each page takes, and what alerts that arrive meanwhile notice of it."""

import datetime as dt
import hashlib
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import httpx
import trio

from bench.load import alerts, schedule
from bench.places import StoreKind
from bench.plan import Latency, Plan, VoidRunError
from bench.processes import SECRET, WorkersFailedError
from bench.run import latency_of
from bench.stage import Stage, open_stage
from tests.support.program import Program, environ_of, wait_until
from tests.support.servers import OpenSearchServer
from tests.support.servers.process import free_port
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.backoff import RetryPolicy
from trio_alerts.channels.registry import channel_settings
from trio_alerts.operations.cursors import cursor_behind
from trio_alerts.outcome import Accepted, Refused
from trio_alerts.record import Record
from trio_alerts.settings.sources import load_settings
from trio_alerts.store import open_store
from trio_alerts.transitions import first_attempt, settled

RECORDS = 100_000
RATE = 50.0  # alerts a second
ALONE = 500  # alerts without a visitor: 10 s
WARM_ROUNDS = 3  # of all pages: Java goes on compiling
PAUSE_S = 1.25  # from one page to the next; an index of OpenSearch that rests for 1 s is no longer refreshed
WRITES_AT_ONCE = 500  # one batch of either store: on a busy machine more would not be written in time
FAILED_EVERY = 100  # one record in a hundred


@dataclass(frozen=True)
class Visits:
    """What came of the visits to one store.

    Attributes:
        pages: How long each page took, in seconds, by its name; and that for each checkout.
        alone: How long alerts took from when they were due to the receiver, while nobody looked.
        watched: The same while pages were visited.
    """

    pages: Sequence[Mapping[str, Sequence[float]]]
    alone: Latency
    watched: Latency


def visit(
    store: StoreKind, opensearch: OpenSearchServer | None, records: int, trees: Sequence[Path], rounds: int
) -> Visits:
    """Fill a store, let alerts arrive, and visit every page of the console, those of each checkout in turns.

    Raises:
        VoidRunError: A page did not come, the ledger does not balance, or a worker process failed.
    """
    plan = Plan("trio_alerts", store, 16, ALONE, rate=RATE)
    with open_stage(plan, opensearch) as stage:
        filled = trio.run(fill, stage, records, dt.datetime.now(dt.UTC))
        pages = _pages(filled[records // 10])
        try:
            with stage.workers() as workers, _consoles(stage, trees) as consoles:
                stage.until_read(workers)
                _visit(consoles, pages, WARM_ROUNDS)
                due_s = dict(stage.streams.send_on_schedule(schedule(RATE, ALONE)))
                stage.until_accepted(ALONE, workers)
                with alerts_arriving(stage) as meanwhile:
                    took_s = _visit(consoles, pages, rounds, PAUSE_S)
                stage.until_accepted(ALONE + len(meanwhile), workers)
                received = stage.receiver.report()
                reports, log = workers.stop(), workers.log()
        except WorkersFailedError as fault:
            raise VoidRunError(f"{plan}: {fault}") from None
        stage.balance([*due_s, *meanwhile], [received], reports, log, filled={one.id for one in filled})
    arrived_s = dict(zip(received.ids, received.arrivals_s, strict=True))
    alone, watched = (latency_of(arrived_s[one] - at for one, at in each.items()) for each in (due_s, meanwhile))
    return Visits(took_s, alone, watched)


async def fill(stage: Stage, count: int, last_at: dt.datetime) -> list[Record]:
    """Write records, one second apart; return them, the oldest first."""
    start = last_at - dt.timedelta(seconds=count)
    settings = load_settings({}, settings_of(stage), None, channel_settings)
    policy = RetryPolicy(settings.retry_schedule_s)
    records: list[Record] = []
    for number, payload in enumerate(islice(alerts(lambda number: _fields(number, start)), count)):
        at = start + dt.timedelta(seconds=number)
        entry_id = f"{round(at.timestamp() * 1000)}-0"
        body = parse_entry(Entry(settings.stream, entry_id, {b"event": payload}, entry_id), at).body
        outcome = Accepted(200, "ok") if number % FAILED_EVERY else Refused("no such team", 404)
        delivery = settled(first_attempt(["webhook"], "bench", at, 60), {"webhook": (outcome, 0.1)}, at, policy)
        records.append(Record(entry_id, body, delivery))
    async with open_store(settings) as store:
        await store.prepare()
        for first in range(0, count, WRITES_AT_ONCE):
            async with trio.open_nursery() as nursery:
                for record in records[first : first + WRITES_AT_ONCE]:
                    nursery.start_soon(store.create, record)
    return records


def _fields(number: int, start: dt.datetime) -> Mapping[str, str]:
    unique = hashlib.sha256(b"%d" % number).hexdigest()
    return {
        "occurred_at": (start + dt.timedelta(seconds=number)).isoformat(),
        "tx_hash": f"0x{unique}",
        "contract": f"0x{unique[:40]}",
        "fingerprint": unique[:16],
    }


def settings_of(stage: Stage) -> dict[str, str]:
    """Return the settings of its worker process, as environment variables."""
    return environ_of(_settings(stage))


def _settings(stage: Stage) -> dict[str, str]:
    settings = {name: str(value) for name, value in stage.settings[0].items()}
    return {**settings, "webhook_url": stage.receiver.url, "webhook_secret": SECRET}


def _pages(old: Record) -> dict[str, dict[str, str]]:
    """Return the query of every page, by its name; what only an `old` record has is found last."""
    fields, behind = old.fields(), cursor_behind(old)
    now = dt.datetime.now(dt.UTC)
    since, until = (now - dt.timedelta(hours=hours) for hours in (1, 24))
    return {
        "first page": {},
        "a page far behind": {"after": behind},
        "state, most": {"state": "delivered"},
        "state, few": {"state": "failed"},
        "state, none": {"state": "in_doubt"},
        "severity": {"severity": "critical"},
        "view": {"view": fields["view"]},
        "view, none": {"view": "nothing"},
        "scope": {"scope": fields["scope"]},
        "rule-id": {"rule-id": fields["rule_id"]},
        "alert-id": {"alert-id": fields["alert_id"]},
        "tx": {"tx": fields["tx_hash"]},
        "address": {"address": fields["contract"]},
        "label": {"label": "asset=LMN"},
        "label, none": {"label": "asset=nothing"},
        "title, a common word": {"title": "on"},
        "title, two words": {"title": "borrowed snapshot"},
        "title, none": {"title": "on weatherproof"},
        "title, far behind": {"title": "on", "after": behind},
        "fingerprint": {"fingerprint": fields["fingerprint"]},
        "channel": {"channel": "webhook"},
        "channel, none": {"channel": "pager"},
        "suppressed-by": {"suppressed-by": "silence:nothing"},
        "since": {"since": since.isoformat()},
        "until": {"until": until.isoformat()},
        "all at once": {"severity": "critical", "title": "on", "label": "asset=LMN", "until": until.isoformat()},
    }


@contextmanager
def _consoles(stage: Stage, trees: Sequence[Path]) -> Iterator[list[httpx.Client]]:
    """Serve the console of each checkout."""
    with ExitStack() as until_end:
        folder = Path(until_end.enter_context(tempfile.TemporaryDirectory(prefix="trio-alerts-bench-")))
        clients = []
        for tree in trees:
            address = f"127.0.0.1:{free_port()}"
            program = Program(folder, _settings(stage), tree=tree)
            until_end.enter_context(program.serving("console", "--bind", address))
            client = until_end.enter_context(httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=60))
            wait_until(partial(_answers, client), "the console answers", program)
            clients.append(client)
        yield clients


def _answers(console: httpx.Client) -> bool:
    try:
        return console.get("/").is_success
    except httpx.TransportError:
        return False


def _visit(
    consoles: Sequence[httpx.Client], pages: Mapping[str, Mapping[str, str]], rounds: int, pause_s: float = 0.0
) -> list[dict[str, list[float]]]:
    """Visit every page of each console; return how long each took, in seconds."""
    took_s: list[dict[str, list[float]]] = [{name: [] for name in pages} for _ in consoles]
    for number in range(rounds):
        for name, query in pages.items():
            for console, each in list(zip(consoles, took_s, strict=True))[:: -1 if number % 2 else 1]:
                time.sleep(pause_s)
                start_s = time.monotonic()
                answer = console.get("/", params=query)
                each[name].append(time.monotonic() - start_s)
                if answer.status_code != httpx.codes.OK:
                    raise VoidRunError(f"{name}: status {answer.status_code}\n{answer.text[:500]}")
    return took_s


@contextmanager
def alerts_arriving(stage: Stage) -> Iterator[dict[str, float]]:
    """Let alerts arrive until the block ends; it gets when each was due, by its ID, and has all at the end."""
    due_s: dict[str, float] = {}
    ended = threading.Event()

    def send() -> None:
        while not ended.is_set():
            due_s.update(stage.streams.send_on_schedule(schedule(RATE, round(RATE))))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield due_s
    finally:
        ended.set()
        sender.join()
