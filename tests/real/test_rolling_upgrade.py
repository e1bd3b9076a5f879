"""A rolling upgrade: the program as it was beside the program as it is, over one Redis and one store."""

import datetime as dt
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from tests.real.conftest import MakeSite
from tests.support.fakes.world import EVENT, GROUP
from tests.support.ledger import balance
from tests.support.program import LOOK_S, PATIENCE_S, Site, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from tests.support.versions import BEFORE, TOLERANT, older
from tests.support.waiting import waiting
from trio_alerts.alert import Entry, parse_entry
from trio_alerts.channels.registry import channel_settings
from trio_alerts.delivery import Delivery
from trio_alerts.errors import SchemaError
from trio_alerts.held_back import first_state, standby
from trio_alerts.ports.store import AlertStore, RecordFilter, Stored
from trio_alerts.record import Record
from trio_alerts.settings.sources import load_settings
from trio_alerts.store import open_store

CONFIG = """
[[channels]]
name = "hook"
url = "{url}/hook"
{limit}

[[channels]]
name = "steady"
url = "{url}/steady"

[[routes]]
match = {{ severity = "low" }}
channels = ["hook"]
{more}
[[routes]]
channels = ["hook", "steady"]
"""
LIMIT = "rate_per_s = 5\nburst = 2"  # nor this
FALLBACK = 'fallback = ["steady"]\nfallback_after_s = 60\n'  # which the older one does not know
CHANNELS = {"low": ["hook"], "high": ["hook", "steady"]}
SPARED = {"hook": "delivered", "steady": "spared"}
MORE = 80  # alerts, while both versions carry them
ROUNDS = 4  # in which the older version meets each record that it does not know: more than `max_deliveries`

T = TypeVar("T")


def ask_store(site: Site, question: Callable[[AlertStore], Awaitable[T]]) -> T:
    """Ask the store, as a process of this version does."""
    names = {"redis_url": site.redis.url, "store_url": site.store_url, "stream": site.stream, "index": site.index}
    settings = load_settings(names, {}, None, channel_settings)

    async def ask() -> T:
        async with open_store(settings) as store:
            await store.guard()
            return await question(store)

    return trio.run(ask)


def records(site: Site) -> dict[str, Record]:
    return {record.id: record for record in ask_store(site, lambda store: store.search(RecordFilter(), 1000))}


def by_state(site: Site) -> Counter[str]:
    return Counter(record.delivery.state for record in records(site).values())


def meet(site: Site, delivery: Delivery, now: dt.datetime) -> str:
    """Let an entry come whose record is there: its newer owner died between the record and the acknowledgement."""
    fields = {b"event": json.dumps(EVENT).encode()}
    with site.client() as client:
        seconds, microseconds = client.time()
        entry_id = f"{seconds * 1000 + microseconds // 1000}-7"
        record = Record(entry_id, parse_entry(Entry(site.stream, entry_id, fields, entry_id), now).body, delivery)
        assert isinstance(ask_store(site, lambda store: store.create(record)), Stored)
        return str(client.xadd(site.stream, fields, id=entry_id).decode())


def newer_deliveries(now: dt.datetime) -> dict[str, Delivery]:
    """Return what only the newer version writes, by what the older one says of it."""
    hour = dt.timedelta(hours=1)
    return {
        "delivery.state 'waiting'": first_state((waiting("hook", now, now + hour),), "gone", now, 60),
        "delivery.channels.fallback_of": first_state((standby("steady", ["hook"], now),), "gone", now, 60),
    }


def until_it_reads(site: Site) -> None:
    """Wait until the process that was started last reads."""
    wait_until(lambda: "reading " in site.logs[-1].read_text(), "the newer one reads", site)


class Met:
    """How often somebody took entries over: each time the server's clock of their idle time begins anew."""

    def __init__(self, site: Site, entry_ids: Collection[str]) -> None:
        self.times = Counter[str]()
        self._site = site
        self._idle = dict.fromkeys(entry_ids, 0)

    def least(self) -> int:
        """Look; return how often the one that was met least was."""
        with self._site.client() as client:
            pending: Any = client.xpending_range(self._site.stream, GROUP, "-", "+", 1000)
        for one in pending:
            entry_id, idle = one["message_id"].decode(), one["time_since_delivered"]
            if entry_id in self._idle:
                self.times[entry_id] += idle < self._idle[entry_id]
                self._idle[entry_id] = idle
        return min(self.times[entry_id] for entry_id in self._idle)


@dataclass
class Traffic:
    """What is emitted, and through which channels it must go at least."""

    site: Site
    emitted: dict[str, list[str]] = field(default_factory=dict)

    def emit(self, severity: str = "low", **event: str) -> None:
        number = len(self.emitted)
        self.emitted[self.site.emit(severity=severity, alert_id=f"a-{number}", **event)] = CHANNELS[severity]

    def until_killed(self, fault: str, **event: str) -> None:
        """Let alerts come until a newer process, beside the older one, has died with one of them."""
        with self.site.running(fault=fault) as dying:
            until_it_reads(self.site)
            while dying.poll() is None:
                self.emit(**event)
                time.sleep(LOOK_S)


@pytest.fixture(params=["valkey+opensearch3", "redis7+opensearch2"])
def site(request: pytest.FixtureRequest, make_site: MakeSite, tmp_path: Path, receiver: ReceiverServer) -> Site:
    config = tmp_path / "newer.toml"
    config.write_text(CONFIG.format(url=receiver.url, limit="", more=FALLBACK))
    site = make_site(Site, request.param, config=str(config), retry_schedule_s="0.5,0.5,1,1,1,1", max_deliveries="3")
    del site.settings["webhook_url"]
    return site


def test_old_and_new_side_by_side(site: Site, tmp_path: Path, receiver: ReceiverServer) -> None:
    """What the older one does not know it leaves alone, however often it meets it; both carry everything else.

    Nothing is quarantined, lost, or sent twice unmarked, although newer processes are killed in the middle.
    """
    receiver.set_scripts({"/hook": Script([Step(503), Step(200, delay_s=0.1)], each="id")})
    old, traffic = older(site, TOLERANT), Traffic(site)
    config = tmp_path / "older.toml"
    config.write_text(CONFIG.format(url=receiver.url, limit="", more=""))
    old.settings = site.settings | {"config": str(config)}
    with old.running() as oldest:
        wait_until(lambda: "reading " in old.log(), "the older one reads", old)
        traffic.emit("high")
        traffic.until_killed("after_send:kill")
        assert "delivery.queues (older records are not found by new fields)" in site.log()  # its guard added them
        assert 0 == old.call("check").exit_code  # which is no reason for the older one not to start
        assert 0 == site.ask("silence", "add", "rule_id = hushed", "--for", "1h", "--why", "a test").exit_code
        traffic.until_killed("after_persist:kill", rule_id="hushed")
        silence = json.loads(site.ask("silence", "list", "--json").out)["id"]
        assert 0 == site.ask("silence", "end", silence).exit_code

        now = dt.datetime.now(dt.UTC)
        planted = {what: meet(site, delivery, now) for what, delivery in newer_deliveries(now).items()}
        told = {"delivered": len(traffic.emitted) - 2, "unknown": len(planted) + 2}
        wait_until(lambda: balanced(old) == told, "the older one counts what it does not know", old)
        unknown = [entry_id for entry_id, one in records(site).items() if one.delivery.state != "delivered"]
        met = Met(site, unknown)
        wait_until(lambda: met.least() >= ROUNDS, "the older one meets them again and again", old)
        for what in (*planted, "delivery.channels.state 'standby'", "delivery.channels.state 'suppressed'"):
            assert 1 == old.log().count(f"does not know {what}; it is left to newer processes"), old.log()
        assert (len(unknown), told) == (site.pending(), balanced(old))

        Path(site.settings["config"]).write_text(CONFIG.format(url=receiver.url, limit=LIMIT, more=FALLBACK))
        with site.running() as newer:
            until_it_reads(site)
            for number in range(MORE):
                traffic.emit(("low", "high")[number % 2])
            wait_until(lambda: by_state(site)["waiting"] > 1, "the newer one lets some wait for its rate", site)
            left = {"delivered": len(traffic.emitted) + 1, "suppressed": 1}  # the newer one drains what waits
            wait_until(lambda: balanced(site) == left, "everything is settled", site)
            assert [0, 0] == [stop(oldest), stop(newer)], old.log() + site.log()

    assert (0, []) == (site.pending(), site.dead())
    requests = receiver.ledger().requests
    by_id = records(site)
    waiting_id, fallback_id = planted.values()
    [hushed_id] = [entry_id for entry_id, record in by_id.items() if record.delivery.state == "suppressed"]
    assert hushed_id == json.loads(site.ask("list", "--json", "--state", "suppressed").out)["record_id"]
    for entry_id, sent in ((waiting_id, ["/hook"] * 2), (fallback_id, ["/steady"]), (hushed_id, [])):
        assert sent == [request.path for request in requests if request.webhook_id == entry_id], by_id[entry_id]
    assert f"silence:{silence}" == by_id[hushed_id].delivery.suppressed_by

    del traffic.emitted[hushed_id]
    ours = {entry_id: by_id[entry_id] for entry_id in traffic.emitted}
    channels = {entry_id: tuple(one.name for one in record.delivery.channels) for entry_id, record in ours.items()}
    found = balance(channels, ours, (), (request for request in requests if request.webhook_id in ours))
    assert ([], len(ours)) == (found.faults, found.delivered)
    states = {entry_id: {one.name: one.state for one in record.delivery.channels} for entry_id, record in ours.items()}
    for entry_id, primaries in traffic.emitted.items():
        assert states[entry_id] in (dict.fromkeys(primaries, "delivered"), SPARED)
    assert SPARED in states.values()


def balanced(program: Site) -> dict[str, int]:
    """Return what a version's own ledger counts, but for what was seen, once it balances."""
    called = program.call("audit", "--deep", "--json")
    fates = json.loads(called.out) if called.out else {}
    return {name: count for name, count in fates.items() if count and name not in ("seen", "balanced")}


@pytest.mark.parametrize("commit", [BEFORE, TOLERANT])
def test_on_sqlite_the_newer_one_ends_the_older(commit: str, make_site: MakeSite, receiver: ReceiverServer) -> None:
    """It upgrades the file at start; the older one stops with exit code 3 at its next guard, and nothing is lost.

    Not even what the older one is sending then: the newer one takes it over, and counts it as in doubt.
    """
    receiver.set_scripts({"*": Script([Step(503), Step(200)], each="id")})
    site = make_site(
        Site,
        webhook_url=f"{receiver.url}/webhook",
        retry_schedule_s="0.5,0.5,1,1,1,1",
        lease_s="10",
        send_timeout_s="2",
        connect_timeout_s="1",
    )
    old = older(site, commit)
    with old.running() as oldest:
        wait_until(lambda: "reading " in old.log(), "the older one reads", old)
        emitted = [site.emit(alert_id=f"a-{number}") for number in range(4)]
        wait_until(lambda: receiver.totals().accepted == len(emitted), "they are retried", old)
        receiver.set_scripts({"*": Script([Step(200, delay_s=3600)])})
        emitted.append(site.emit(alert_id="slow"))
        wait_until(lambda: receiver.totals().requests == 9, "it is being sent", old)
        receiver.set_scripts({})

        assert "stop all processes of the older version first" in site.call("check").out
        with site.running() as newer:
            assert SchemaError.exit_code == oldest.wait(PATIENCE_S), old.log()
            emitted.append(site.emit(alert_id="late"))
            wait_until(lambda: balanced(site) == {"delivered": len(emitted)}, "everything is delivered", site)
            assert 0 == stop(newer), site.log()
    assert "made by a newer version of this program (schema 2, this one knows 1)" in old.log()
    with old.running() as late:
        assert SchemaError.exit_code == late.wait(PATIENCE_S)

    found = balance(dict.fromkeys(emitted, ("webhook",)), records(site), (), receiver.ledger().requests)
    assert ([], len(emitted)) == (found.faults, found.delivered)
