"""Cells in which the stream's server is restarted, emptied, paused, full, cut off and replaced."""

import re
import signal
import time
from functools import partial

from tests.crash.cell import ALERTS, PER_S, Cell, RunningCell
from tests.crash.proxy import Behaviour
from tests.support.fakes.world import GROUP
from tests.support.receiver import Script, Step
from tests.support.servers import SentinelServer, ValkeyServer
from trio_alerts.backends.redis.groups import WATCH_EVERY_S
from trio_alerts.backends.redis.keys import ledger_key

PAUSE_S = 4.0  # more than twice claim_idle_s, twice redis_timeout_s
SERVICE = "alerts"
UNREADABLE = 5  # alerts that belong into quarantine, each time the memory is full
REPLICATED_WITHIN_MS = 1_000  # of silence, after which Sentinels act


class ValkeySentinel(SentinelServer):
    """A Sentinel from Valkey's own binary."""

    name = "Valkey Sentinel"
    find_binary = ValkeyServer.find_binary


def _restarted(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for number, how in enumerate((cell.redis.kill, cell.redis.terminate), 1):
        cell.until_accepted(50 * number)
        how()
        time.sleep(0.5)  # long enough for every worker to find the connection refused
        cell.redis.start()
    cell.notes.append("killed once, restarted once")


def _emptied(cell: RunningCell, command: str) -> None:
    """Whatever was read before must be delivered; what was still unread has gone with the stream."""
    _begin_with_backlog(cell)
    with cell.redis.client() as client:
        before = client.pipeline(transaction=True)
        before.xinfo_groups(cell.stream)
        before.xrange(cell.stream)
        before.execute_command(*command.format(cell.stream).split())
        groups, entries, _ = before.execute()
    read_until = _order(groups[0]["last-delivered-id"].decode())
    cell.excused = {entry_id.decode() for entry_id, _ in entries if _order(entry_id.decode()) > read_until}
    cell.emit(ALERTS // 2)
    cell.notes.append(f"{len(cell.excused)} unread ones gone with the stream")


def _begin_with_backlog(cell: RunningCell) -> None:
    """Begin, and wait until every worker has seen how much is unread: the log can count no more than that."""
    cell.begin()
    cell.producer.add(ALERTS // 2)
    cell.until_accepted(20)
    with cell.redis.client() as client:
        ledger = ledger_key(cell.stream, GROUP)
        cell.until(lambda: int(client.hget(ledger, "unread") or 0) > 0, "a worker sees the backlog")
    time.sleep(2 * WATCH_EVERY_S)  # each looks for itself


def _lost_its_data(cell: RunningCell) -> None:
    """As `_emptied`, and every connection is lost with the data."""
    with ValkeyServer() as volatile:
        cell.redis = volatile
        _begin_with_backlog(cell)
        with cell.redis.client() as client:
            client.execute_command("CLIENT", "PAUSE", "60000", "WRITE")  # nobody reads any more
            read_until = _order(client.xinfo_groups(cell.stream)[0]["last-delivered-id"].decode())
        cell.excused = {entry_id for entry_id in cell.producer.emitted if _order(entry_id) > read_until}
        volatile.kill()
        volatile.start()
        cell.emit(ALERTS // 2)
        cell.notes.append(f"{len(cell.excused)} unread ones gone with the data")
        cell.finish()


def _set_back(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for number in (1, 2, 3):
        cell.until_accepted(60 * number)
        with cell.redis.client() as client:
            client.xgroup_setid(cell.stream, GROUP, "0")
    cell.notes.append("3 times")


def _full(cell: RunningCell) -> None:
    """No memory for new entries, for the quarantine, and for the lock of retries: -OOM is answered to all of them."""
    cell.begin()
    for _ in (1, 2):
        cell.producer.add(ALERTS // 4, 1 / PER_S)
        for worker in cell.crew.living:
            worker.signal(signal.SIGSTOP)
        cell.producer.add(UNREADABLE, severity="unheard of")
        with cell.redis.client() as client:
            client.config_set("maxmemory", 1)
            for worker in cell.crew.living:
                worker.signal(signal.SIGCONT)
            cell.emit(ALERTS // 4 - UNREADABLE)
            time.sleep(PAUSE_S)
            client.config_set("maxmemory", 0)
            refused = client.info("errorstats")["errorstat_OOM"]["count"]
        cell.until_emitted()
    cell.notes.append(f"twice {PAUSE_S:g} s, {refused} commands refused")


def _workers_were_refused(cell: RunningCell) -> str:
    return (
        "" if "used memory > 'maxmemory'" in cell.crew.log() else "no worker was refused anything: this proves nothing"
    )


def _forbidden(cell: RunningCell) -> None:
    """To the program, a command that a user may not run and one that was renamed away are the same."""
    cell.begin()
    cell.emit()
    for number, commands in enumerate((("eval", "xack"), ("xclaim", "xpending"), ("xreadgroup", "time")), 1):
        cell.until_accepted(30 * number)
        with cell.redis.client() as client:
            client.execute_command("ACL", "SETUSER", "default", *(f"-{command}" for command in commands))
            time.sleep(PAUSE_S / 2)
            client.execute_command("ACL", "SETUSER", "default", *(f"+{command}" for command in commands))
    cell.notes.append(f"3 times {PAUSE_S / 2:g} s")


def _was_named(cell: RunningCell) -> str:
    said = re.findall(r"Redis does not answer: .* does not let the user 'default' run (\w+)", cell.crew.log())
    return "" if said else "no worker was refused anything: this proves nothing"


def _clients_killed(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    killed = 0
    for _ in range(10):
        time.sleep(0.25)  # ten times while the traffic lasts
        with cell.redis.client() as client:
            killed += int(client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
    cell.notes.append(f"{killed} connections killed")


def _failed_over(cell: RunningCell) -> None:
    """The master dies for good in the middle of the traffic; three Sentinels make its replica the new one."""
    with (
        ValkeyServer(appendonly=True) as first,
        ValkeyServer(appendonly=True, extra=[f"replicaof 127.0.0.1 {first.port}"]) as second,
        ValkeySentinel({SERVICE: (first, 2)}, down_after_ms=REPLICATED_WITHIN_MS) as one,
        ValkeySentinel({SERVICE: (first, 2)}, down_after_ms=REPLICATED_WITHIN_MS) as two,
        ValkeySentinel({SERVICE: (first, 2)}, down_after_ms=REPLICATED_WITHIN_MS) as three,
    ):
        sentinels = (one, two, three)
        cell.until(lambda: all(_knows_all(sentinel) for sentinel in sentinels), "the Sentinels know all")
        cell.redis, cell.replicas = first, 1
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels)
        cell.redis_url = f"redis+sentinel://{hosts}/{SERVICE}/0"
        cell.begin()
        cell.emit()
        cell.until_accepted(100)
        first.kill()
        cell.redis = second
        cell.replicas = 0
        cell.producer.replicas = 0
        cell.until(lambda: _is_master(second), "the replica is the master")
        cell.notes.append("the master died for good")
        cell.finish()


def _knows_all(sentinel: ValkeySentinel) -> bool:
    with sentinel.client() as client:
        replicas = client.sentinel_slaves(SERVICE)
        return (
            len(replicas) == 1 and not replicas[0]["is_disconnected"] and len(client.sentinel_sentinels(SERVICE)) == 2
        )


def _is_master(server: ValkeyServer) -> bool:
    with server.client() as client:
        return bool(client.role()[0] == b"master")


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


def _gone(cell: RunningCell) -> str:
    """Something was unread, and a worker says about how much of it went away."""
    if not cell.excused:
        return "nothing was unread when the stream went away: this proves nothing"
    said = sum(int(count) for count in re.findall(r"[Aa]bout (\d+) entries", cell.crew.log()))
    cell.notes.append(f"the log says {said}")
    return "" if said else f"no worker says that {len(cell.excused)} unread entries are gone"


BACKLOG = Script([Step(200, delay_s=0.3)])  # so slow that much is still unread when the stream goes away
FEW = {"workers": "3"}  # too few for shares: else what a slow channel cannot take would be read, and wait

CELLS = (
    Cell(name="redis-restart", about="killed, then restarted, with an append-only file", play=_restarted),
    *(
        Cell(
            name=f"redis-{name}",
            about=f"{about} in the middle of the traffic",
            play=partial(_emptied, command=command),
            hook=BACKLOG,
            settings=FEW,
            check=_gone,
        )
        for name, about, command in (
            ("flushall", "FLUSHALL", "FLUSHALL"),
            ("del", "DEL of the stream", "DEL {0}"),
            ("rename", "RENAME of the stream", "RENAME {0} {0}-moved"),
        )
    ),
    Cell(
        name="redis-forbidden",
        about="commands that the workers need are forbidden for a while",
        play=_forbidden,
        check=_was_named,
    ),
    Cell(
        name="redis-no-data",
        about="killed, restarted without any data",
        play=_lost_its_data,
        hook=BACKLOG,
        settings=FEW,
        check=_gone,
    ),
    Cell(name="redis-setid", about="XGROUP SETID to 0 in the middle of the traffic", play=_set_back),
    Cell(
        name="redis-pause",
        about="SIGSTOP, and SIGCONT after more than `claim_idle_s`",
        play=lambda cell: cell.disturb(cell.redis.pause, cell.redis.resume, PAUSE_S),
    ),
    Cell(
        name="redis-oom",
        about="-OOM to new entries, to the quarantine of unreadable ones and to locks",
        play=_full,
        hook=Script([Step(503), Step(200, delay_s=0.03)], each="id"),
        expected=lambda cell: {"quarantined": 2 * UNREADABLE},
        check=_workers_were_refused,
    ),
    Cell(name="redis-client-kill", about="CLIENT KILL of all connections, ten times", play=_clients_killed),
    Cell(
        name="redis-answers",
        about="one answer in twenty lost",
        play=lambda cell: cell.lose_answers("redis", 0.05),
        through=["redis"],
    ),
    Cell(
        name="redis-black-hole",
        about="nothing goes through, then all of it late",
        play=lambda cell: cell.spoil("redis", Behaviour(held=True), PAUSE_S),
        through=["redis"],
    ),
    Cell(name="redis-fail-over", about="the master dies, three Sentinels promote its replica", play=_failed_over),
)
