"""The users of `deploy/redis/users.acl`: the program does all its work as them, and each right is one that it needs."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from redis import AuthenticationError, Redis

from tests.real.test_operating import Desk
from tests.real.test_redis_stream import settings
from tests.support.acl import GROUP, PASSWORD, STREAM, USERS_FILE, Command, Monitor, acl_file, users, without_each
from tests.support.fakes.world import EVENT
from tests.support.obtain import obtain
from tests.support.program import PATIENCE_S, QUICK, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer, RedisServer, ValkeyServer
from tests.support.servers.process import free_port
from trio_alerts.alert import Entry
from trio_alerts.backends.redis.keys import deployment_key, silences_key
from trio_alerts.backends.redis.stream import RedisStream, open_redis_stream
from trio_alerts.errors import StartError
from trio_alerts.ports.gates import News, Rate
from trio_alerts.ports.hints import DueHint, Queued
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import RedisAddress
from trio_alerts.settings.settings import ChannelSettings, Settings

# Clients of others tell what they are, if they may (Redis 7.0 has no such command); who only looks notes no losses.
DONE_WITHOUT = {"alerts-scaler: command client|setinfo (toplevel)", "alerts-reader: command hset (lua)"}
TOKEN = "correct-horse-battery"
EXAMPLE = Path(__file__).parents[2] / "examples" / "alerts.jsonl"
CONFIG = """
[[channels]]
name = "hook"
url = "{url}/hook"
rate_per_s = 20

[[channels]]
name = "spare"
url = "{url}/spare"
in_doubt_policy = "hold"

[[channels]]
name = "slow"
url = "{url}/slow"
rate_per_s = 0.001

[[routes]]
match = {{ view = "Bridges" }}
channels = ["spare"]

[[routes]]
match = {{ view = "Slow" }}
channels = ["slow"]

[[routes]]
channels = ["hook"]
fallback = ["spare"]
"""


class AclDesk(Desk):
    """A site whose operators and processes enter as users of the file; its own looks go over the unix socket."""

    monitor: Monitor

    def client(self) -> Redis:
        return self.redis.client(f"unix://{self.redis.socket}")

    def enter_as(self, user: str) -> None:
        """Let whatever starts from now on be this user."""
        self.settings["redis_url"] = f"redis://{user}:{PASSWORD}@127.0.0.1:{self.redis.port}/0".replace(" ", "%20")
        with self.client() as client:
            self.monitor.now(user, client)

    def refusals(self) -> list[str]:
        """Return what the server has refused since the last time."""
        with self.client() as client:
            found: list[dict[str, Any]] = client.acl_log()
            client.acl_log_reset()
        return sorted(f"{one['username']}: {one['reason']} {one['object']} ({one['context']})" for one in found)


@pytest.fixture(params=[ValkeyServer, RedisServer], ids=["valkey", "redis7"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """Give a server of its own with the users of the file."""
    with obtain(partial(request.param, extra=[f"aclfile {acl_file(tmp_path)}"])) as server:
        yield server


@pytest.fixture
def desk(server: RedisServer, tmp_path: Path, receiver: ReceiverServer) -> Iterator[AclDesk]:
    config = tmp_path / "alerts.toml"
    config.write_text(CONFIG.format(url=receiver.url))
    own = {
        "http_bind": f"127.0.0.1:{free_port()}",
        "config": str(config),
        "trim": "acked",
        "canary_every_s": "5",
        "keep_records_s": "90000",
        "console_token": TOKEN,
        "retry_schedule_s": "0.2,0.2,600",
        **QUICK,
    }
    desk = AclDesk(tmp_path, own, redis=server, stream=STREAM)
    desk.monitor = Monitor(server)
    with desk.monitor.listening():
        yield desk


def settings_of(desk: AclDesk, user: str, **more: Any) -> Settings:
    address = RedisAddress("127.0.0.1", desk.redis.port, username=user, password=Secret(PASSWORD))
    channels = (ChannelSettings(name="hook"), ChannelSettings(name="spare"))
    named = {"stream": STREAM, "group": GROUP, "trim": "acked", "channels": channels}
    rare = {"canary_every_s": 5.0, "keep_records_s": 90_000.0}
    return settings(desk.redis, redis_url=address, **named, **rare, **more)


def test_the_whole_program_works_and_needs_every_right(desk: AclDesk, receiver: ReceiverServer) -> None:
    """Worker, commands, console: nothing is refused; and without any one right something that they sent would be."""
    receiver.set_scripts({"/hook": Script([Step(503), Step(200)], each="id"), "/spare": Script([Step(502), Step(200)])})
    _carry_alerts(desk)
    _do_the_rare_chores(desk)
    _operate(desk)
    _look(desk)
    _scale(desk)

    assert set(desk.refusals()) <= DONE_WITHOUT
    with desk.client() as client:
        desk.monitor.now("nobody", client)
        assert set(users()) == set(desk.monitor.sent)
        superfluous = list(_superfluous(client, desk.monitor.sent))
    assert [
        "alerts-worker: +client|unblock in +client|unblock"
    ] == superfluous  # MONITOR shows no administrative command


def _carry_alerts(desk: AclDesk) -> None:
    """Deliver, retry, fall back, hold, quarantine, survive a death, a lost group and lost entries."""
    desk.enter_as("alerts-producer")
    emitted = [json.dumps(EVENT | {"alert_id": f"a-{n}"}) for n in range(6)]
    emitted += [json.dumps(EVENT | {"alert_id": f"b-{n}", "view": "Bridges"}) for n in range(2)]
    emitted += [json.dumps(EVENT | {"alert_id": f"c-{n}", "view": "Slow"}) for n in range(2)]
    assert 0 == desk.ask("emit", "-", stdin="\n".join(emitted).encode()).exit_code

    desk.enter_as("alerts-worker")
    with desk.client() as client:
        bad = [client.xadd(STREAM, {"event": text}) for text in ("{", "[]", "1")]
        with desk.running(fault="before_send:kill") as dying:
            wait_until(lambda: dying.poll() is not None, "it dies", desk)
        with desk.running(workers="4") as worker:
            wait_until(lambda: len(desk.dead()) == len(bad) and desk.pending() == 0, "all are done", desk)
            client.xgroup_destroy(STREAM, GROUP)
            late = client.xadd(STREAM, {"event": json.dumps(EVENT | {"alert_id": "late"})}).decode()
            wait_until(lambda: late in desk.records() and desk.pending() == 0, "it reads on", desk)
            assert 0 == stop(worker), desk.log()
    assert 0 == desk.call("check").exit_code


def _do_the_rare_chores(desk: AclDesk) -> None:
    """What happens once a minute, or when something is wrong, at the ports of the stream."""

    async def chores() -> None:
        async with open_redis_stream(settings_of(desk, "alerts-worker", consumer="chores")) as stream:
            await stream.prepare()
            with desk.client() as client:
                await _lose_entries(stream, client)
            await stream.upkeep.gone()
            await stream.upkeep.dead_letters()
            await stream.silences.latest("another version")
            await stream.upkeep.remove_idle_consumers(0.0)
            await stream.upkeep.trim(0.0)
            await stream.restart_idle_times()
            assert await stream.lock("janitor", 1.0)
            await _use_canaries(stream)
            await _use_hints(stream)
            await _use_gates(stream)

    trio.run(chores)


async def _lose_entries(stream: RedisStream, client: Redis) -> None:
    """Delete what is pending and what is unread, and move the group past what is unread and back."""
    for n in range(4):
        client.xadd(STREAM, {"event": str(n)})
    entries: list[Entry] = []
    while len(entries) < 2:
        entries += await stream.read(2 - len(entries))
    client.xdel(STREAM, entries[0].id)
    assert set() == await stream.renew(entries[:1])
    assert await stream.owns(entries[1])
    client.xtrim(STREAM, maxlen=1, approximate=False)
    assert 0 < await stream.upkeep.newly_lost()
    last = client.xinfo_groups(STREAM)[0]["last-delivered-id"]
    client.xgroup_setid(STREAM, GROUP, "9999999999999-0")
    await stream.upkeep.newly_lost()
    client.xgroup_setid(STREAM, GROUP, last)
    await stream.upkeep.newly_lost()


async def _use_canaries(stream: RedisStream) -> None:
    """Give up the one that may be under way; write another, read it, and remove it."""
    under_way = (await stream.canaries.look(STREAM)).entry_id
    await stream.canaries.settle(STREAM, under_way, "unread")
    written = (await stream.canaries.write(STREAM, 0.0, b"{}")).entry_id
    assert written not in ("", under_way)
    with trio.fail_after(PATIENCE_S):
        while written not in (one.id for one in await stream.read(1)):
            pass
    await stream.canaries.settle(STREAM, written)
    await stream.canaries.drop(STREAM, written)


async def _use_hints(stream: RedisStream) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=5)
    await stream.hints.put_due([DueHint("1-1", past), DueHint("2-1", past)])
    taken = [*(await stream.hints.take_due(1, 1.0)).taken, *(await stream.hints.take_due(1, 1.0, newest=True)).taken]
    await stream.hints.put_due([DueHint(one.record_id, None, one.until_ms) for one in taken])
    await stream.hints.recall_due()
    await stream.hints.begin_sweep(60.0)
    await stream.hints.end_sweep()
    await stream.hints.put_queued([Queued("hook", "1-1", 2), Queued("hook", "2-1", 2)])
    await stream.hints.heads(["hook"])
    assert await stream.hints.take_queued("hook", 1.0) is not None
    assert await stream.hints.take_queued("hook", 1.0, probe=True) is not None


async def _use_gates(stream: RedisStream) -> None:
    failed = News(failed=["1-1"], attempts=1, reason="503", stopped=True, limited_s=0.01)
    await stream.gates.exchange({"hook": failed}, ["hook", "spare"])
    await stream.gates.ask("hook", Rate(5.0), probe=True)
    await stream.gates.exchange({"hook": News(accepted=True)}, ["hook"])
    await stream.gates.ask("hook", Rate(5.0))


def _operate(desk: AclDesk) -> None:
    """Every command that changes something, and the console with its API."""
    desk.enter_as("alerts-operator")
    dead = [json.loads(line)["dead_id"] for line in desk.out("dead", "list", "--json").splitlines()]
    desk.out("dead", "replay", dead[0])
    desk.out("dead", "drop", dead[1])
    held, _ = _listed(desk, "in_doubt")
    waiting, *_ = _listed(desk, "waiting", "--view", "Slow")
    with desk.client() as client:
        long_ago = dict.fromkeys(("since", "until"), "2020-01-01T00:00:00Z")
        long_over = {"id": "0a0b0c0d", "matchers": ["view = X"], "why": "", "by": "", **long_ago}
        client.hset(silences_key(STREAM, GROUP), "0a0b0c0d", json.dumps(long_over))
    silence = desk.out("silence", "add", "view = Elsewhere", "--for", "1h", "--why", "a drill").partition(":")[0]
    desk.out("silence", "end", silence)
    desk.out("redeliver", waiting, "--through", "hook")
    with desk.client() as client:
        identity = client.getset(deployment_key(STREAM, GROUP), "another one")
        assert identity is not None
    desk.out("adopt", "--yes")
    desk.out("audit", "--accept-losses", exit_code=desk.ask("audit").exit_code)
    desk.out("stats", "--canaries")
    with _console(desk) as api:
        assert 200 == api.get(str(api.base_url.copy_with(path="/channels"))).status_code
        assert (
            201 == api.post("/silences", json={"matchers": ["view = Elsewhere"], "for": "1h", "why": "x"}).status_code
        )
        assert 200 == api.post(f"/records/{held}/resolve", json={"resolution": "delivered"}).status_code
        assert 200 == api.post(f"/quarantine/{dead[2]}/replay").status_code
    desk.enter_as("alerts-worker")
    with desk.running() as worker:
        wait_until(lambda: len(desk.dead()) > 2 and desk.pending() == 0, "what was put back is dead again", desk)
        assert 0 == stop(worker), desk.log()


def _listed(desk: AclDesk, state: str, *filters: str) -> list[str]:
    listed = desk.out("list", "--json", "--state", state, *filters)
    return [json.loads(line)["record_id"] for line in listed.splitlines()]


def _look(desk: AclDesk) -> None:
    """Every command that only looks, and a console that changes nothing."""
    desk.enter_as("alerts-reader")
    (dead, *_) = [json.loads(line)["dead_id"] for line in desk.out("dead", "list", "--json").splitlines()]
    desk.out("dead", "show", dead)
    desk.out("list")
    desk.out("stats", "--canaries")
    desk.ask("audit", "--deep")
    desk.out("silence", "list")
    desk.out("silence", "preview", "view = Lending")
    with _console(desk, "--read-only") as api:
        for path in ("/records", "/quarantine", f"/quarantine/{dead}", "/silences", "/stats"):
            assert 200 == api.get(path).status_code, path
        for page in ("/", "/channels", "/silences", "/quarantine"):
            assert 200 == api.get(str(api.base_url.copy_with(path=page))).status_code, page


def _scale(desk: AclDesk) -> None:
    """What KEDA's scaler asks for the lag of a group: the version too, and the length while there is no group."""
    desk.enter_as("alerts-scaler")
    with desk.redis.client(desk.settings["redis_url"]) as client:
        assert client.ping()
        assert [GROUP.encode()] == [group["name"] for group in client.xinfo_groups(STREAM)]
        assert client.xlen(STREAM) >= 0
        assert client.info()


@contextmanager
def _console(desk: AclDesk, *options: str) -> Iterator[httpx.Client]:
    address = f"127.0.0.1:{free_port()}"
    headers = {"authorization": f"Bearer {TOKEN}"}
    with (
        desk.serving("console", "--bind", address, *options),
        httpx.Client(base_url=f"http://{address}/api/v1", headers=headers, timeout=30) as api,
    ):
        wait_until(lambda: f"http://{address}" in desk.log(), "the console is there", desk)
        yield api


def _superfluous(client: Redis, sent: dict[str, dict[Command, Command]]) -> Iterator[str]:
    """Yield each right without which everything that its user has sent would still be permitted."""
    for user, rules in users().items():
        for right, fewer in without_each(rules):
            run(client, "ACL", "SETUSER", "probe", "reset", *fewer)
            if all(_is_permitted(client, "probe", command) for command in sent[user].values()):
                yield f"{user}: {right}"


def _is_permitted(client: Redis, user: str, command: Command) -> bool:
    return bool(run(client, "ACL", "DRYRUN", user, *command) == b"OK")


def run(client: Redis, *command: str | bytes) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def test_each_right_of_the_worker_is_asked_for_at_start(desk: AclDesk) -> None:
    """Without it `run` and `check` end with exit code 4 and name it, or warn of it: no alert is the first to notice."""
    silent = []
    for right, fewer in without_each(users()["alerts-worker"]):
        with desk.client() as client:
            run(client, "ACL", "SETUSER", "fewer", "reset", f">{PASSWORD}", *fewer)
        said = trio.run(_inspected, settings_of(desk, "fewer"))
        assert said in ("", "named") or "works without it" in said, said
        if not said:
            silent.append(right.partition(" in ")[0])
    assert ["+ping", "+role", "+client|setname"] == silent


async def _inspected(settings: Settings) -> str:
    """Return what the start says of a right that is missing; nothing if it notices none."""
    try:
        async with open_redis_stream(settings) as stream:
            return "".join(line for line in await stream.inspect() if "works without it" in line)
    except StartError as error:
        return re.sub(r".* does not let the user 'fewer' run .*; it is needed .*", "named", str(error))


@pytest.mark.parametrize("right", ["+xack", "+xreadgroup"])
def test_a_right_that_is_taken_away_is_an_outage(right: str, desk: AclDesk, receiver: ReceiverServer) -> None:
    """While running: nothing is lost or sent twice, the log names what is missing, and with it back all goes on."""
    rules = users()["alerts-worker"]
    desk.enter_as("alerts-worker")
    with desk.client() as client, desk.running(redis_timeout_s="1") as worker:
        wait_until(lambda: "reading" in desk.log(), "it reads", desk)
        fewer = [one.replace(f"{right} ", "") for one in rules]
        run(client, "ACL", "SETUSER", "alerts-worker", "reset", f">{PASSWORD}", *fewer)
        sent = [desk.emit(alert_id=f"a-{number}") for number in range(3)]
        named = f"does not let the user 'alerts-worker' run {right.removeprefix('+').upper()}"
        wait_until(lambda: named in desk.log(), f"the log names {right}", desk)
        desk.add({b"event": b"{"})
        run(client, "ACL", "SETUSER", "alerts-worker", "reset", f">{PASSWORD}", *rules)
        wait_until(lambda: receiver.totals().requests == 3 and desk.pending() == 0, "all are done", desk)
        assert 0 == stop(worker), desk.log()
    assert 1 == len(desk.dead())
    assert sent == sorted(str(one.webhook_id) for one in receiver.ledger().requests)
    desk.enter_as("alerts-reader")
    assert {"seen": 4, "delivered": 3, "quarantined": 1, "balanced": True} == desk.audit()


def test_who_may_only_look_changes_nothing(desk: AclDesk, receiver: ReceiverServer) -> None:
    """Each command that would is refused with exit code 4, names the missing right, and leaves everything as it was."""
    desk.enter_as("alerts-worker")
    desk.add({b"event": b"{"})
    with desk.running() as worker:
        failed = desk.emit()
        wait_until(lambda: len(desk.dead()) == 1 and desk.pending() == 0, "all are done", desk)
        assert 0 == stop(worker)
    desk.enter_as("alerts-reader")
    (dead,) = [json.loads(line)["dead_id"] for line in desk.out("dead", "list", "--json").splitlines()]
    before = desk.dead()
    for argv in (
        ("dead", "replay", dead),
        ("dead", "drop", dead),
        ("silence", "add", "view = Lending", "--for", "1h", "--why", "x"),
        ("run",),
        ("emit", str(EXAMPLE)),
    ):
        ended = desk.call(*argv)
        assert 4 == ended.exit_code, argv
        assert "does not let the user 'alerts-reader' run" in ended.err, argv
        assert "Traceback" not in ended.err
    assert before == desk.dead()
    assert [failed] == [one for one in desk.entries() if one == failed]


def test_nobody_comes_in_before_passwords_are_set(desk: AclDesk) -> None:
    """The file has none, and its default user is off."""
    assert USERS_FILE.read_text().startswith("user default off\n")
    with desk.client() as client:
        for name, rules in users().items():
            run(client, "ACL", "SETUSER", "as-shipped", "reset", *rules)
            assert "on" in client.acl_getuser("as-shipped")["flags"], name
            for password in ("", name, PASSWORD):
                with (
                    pytest.raises(AuthenticationError),
                    desk.redis.client(f"redis://as-shipped:{password}@127.0.0.1:{desk.redis.port}/0") as stranger,
                ):
                    stranger.ping()
