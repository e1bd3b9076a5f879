"""Cells in which OpenSearch is restarted, overloaded, cut off, and its index blocked, closed, red and deleted."""

import signal
import time
from functools import partial

import msgspec

from tests.crash.cell import ALERTS, KILLED, Cell, RunningCell
from tests.crash.proxy import FAITHFUL, Behaviour, http_answer
from tests.support.servers import OpenSearchCluster
from trio_alerts.errors import StartError

NONSENSE_S = 40.0
FEW = 3
DEATHS = 25  # more than any count of deliveries allows
PATIENCE_WITH_A_WORKER_S = 1.2  # the other one lives on for as long: each claims what the last one left
OUTAGE_S = 4.0  # more than twice claim_idle_s, twice store_timeout_s

REJECTED = msgspec.json.encode(
    {
        "error": {
            "root_cause": [{"type": "rejected_execution_exception", "reason": "rejected execution of coordinating op"}],
            "type": "rejected_execution_exception",
            "reason": "rejected execution of coordinating operation",
        },
        "status": 429,
    }
)
OVERLOADED = http_answer(429, "Too Many Requests", REJECTED)
NO_BACKEND = http_answer(503, "Service Unavailable", b"<html><body>503 Service Temporarily Unavailable</body></html>")
SIGN_IN = http_answer(200, "OK", b"<html><head><title>Sign in</title></head><body></body></html>", "text/html")


def _restarted(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    cell.until_accepted(60)
    cell.servers.opensearch.kill()
    cell.servers.opensearch.start()
    cell.notes.append("killed and started again")


def _spoiled(cell: RunningCell, behaviour: Behaviour) -> None:
    cell.spoil("store", behaviour, OUTAGE_S)
    cell.notes.append(f"{cell.spoiled} spoiled")


def _nonsense(cell: RunningCell, behaviour: Behaviour) -> None:
    """Something else answers for 40 s; twice a worker is killed meanwhile, and so starts in the middle of it."""
    cell.begin()
    cell.emit(per_s=ALERTS / NONSENSE_S)
    cell.until_accepted(30)
    cell.proxies["store"].behave(behaviour)
    for _ in range(2):
        time.sleep(NONSENSE_S / 3)
        cell.oldest().signal(signal.SIGKILL)
    time.sleep(NONSENSE_S / 3)
    cell.proxies["store"].behave(FAITHFUL)
    starts = cell.crew.ends.count(StartError.exit_code)
    cell.notes.append(f"{cell.proxies['store'].spoiled} requests, {starts} starts refused")


def _impatient(cell: RunningCell) -> None:
    """Whoever has waited for a while is killed, as by a liveness probe; few alerts, so that each is in many hands."""
    cell.begin()
    cell.emit(ALERTS - FEW)
    cell.until_emitted()
    cell.until(cell.settled, "the others are delivered")
    cell.proxies["store"].behave(Behaviour(answers=SIGN_IN, bulk_only=True))
    cell.producer.add(FEW)
    for number in range(1, DEATHS + 1):
        cell.until(lambda: cell.crew.ready, "all workers read")
        time.sleep(PATIENCE_WITH_A_WORKER_S)
        cell.oldest().signal(signal.SIGKILL)
        cell.until_gone(number)
    cell.proxies["store"].behave(FAITHFUL)
    cell.until(lambda: cell.crew.ready, "all workers read")
    cell.notes.append(f"{DEATHS} killed in the wait")


def _read_only(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    for number, block in enumerate(("write", "read_only_allow_delete", "read_only"), 1):
        cell.until_accepted(40 * number)
        cell.index("PUT", "/_settings", {f"index.blocks.{block}": True})
        time.sleep(OUTAGE_S / 2)
        cell.index("PUT", "/_settings", {f"index.blocks.{block}": None})
    cell.notes.append(f"three kinds of block, each {OUTAGE_S / 2:g} s")


def _red(cell: RunningCell) -> None:
    """The primary shard is taken from its node, and may be nowhere until the rule is gone."""
    index, rule = f"{cell.alias}-000001", "index.routing.allocation.require._name"
    cancel = {"index": index, "shard": 0, "node": cell.opensearch.folder.name, "allow_primary": True}

    def health() -> object:
        return cell.opensearch.request("GET", f"/_cluster/health/{index}")[1]["status"]

    def take_away() -> None:
        cell.index("PUT", "/_settings", {rule: "nobody"})
        cell.opensearch.request("POST", "/_cluster/reroute", {"commands": [{"cancel": cancel}]})
        cell.until(lambda: health() == "red", "the index is red")

    cell.disturb(take_away, lambda: cell.index("PUT", "/_settings", {rule: None}), OUTAGE_S)


def _node_gone(cell: RunningCell) -> None:
    """Each node of two dies once, and comes back: as long as one has no majority, writes wait for the other."""
    with OpenSearchCluster("3.4.0", size=2) as cluster:
        one, two = cluster.nodes
        cell.opensearch = one
        cell.store_url = f"{one.url},127.0.0.1:{two.http_port}"
        cell.begin()
        cell.emit()
        for number, node in enumerate((two, one), 1):
            cell.until_accepted(60 * number)
            node.kill()
            time.sleep(OUTAGE_S)
            node.start()
        cell.notes.append(f"each gone for {OUTAGE_S:g} s and its start")
        cell.finish()


def _deleted(cell: RunningCell) -> None:
    """Both workers must end with 3; their successors create the index anew and carry on.

    Records that lay in the index are gone, and with them the knowledge of what was under way. What had been sent by
    then must have been accepted by all its receivers, or be recorded anew; no record can tell if it is sent twice.
    """
    cell.begin()
    cell.emit()
    cell.until_accepted(80)
    cell.index("DELETE", "")
    sent = cell.servers.receiver.ledger().requests
    cell.forgotten = {request.webhook_id for request in sent if request.webhook_id is not None}
    cell.until_ended(2)
    cell.notes.append(f"{cell.crew.ends.count(3)} workers ended with 3")


def _both_saw_it(cell: RunningCell) -> str:
    gone = len(cell.producer.emitted) - len(cell.records())
    cell.notes.append(f"{gone} delivered ones whose records are gone with it")
    return "" if cell.crew.ends.count(3) == 2 else f"processes ended with {cell.crew.ends}, not twice with 3"


CELLS = (
    Cell(name="opensearch-restart", about="killed and started again", play=_restarted),
    Cell(name="opensearch-node-gone", about="one node of two killed, then the other", play=_node_gone),
    Cell(
        name="opensearch-429",
        about="every request answered with 429",
        play=partial(_spoiled, behaviour=Behaviour(answers=OVERLOADED)),
        through=["store"],
    ),
    Cell(
        name="opensearch-429-items",
        about="half of the items of each `_bulk` answered with 429",
        play=partial(_spoiled, behaviour=Behaviour(rejects=0.5)),
        through=["store"],
    ),
    Cell(
        name="opensearch-503",
        about="every request answered with 503",
        play=partial(_spoiled, behaviour=Behaviour(answers=NO_BACKEND)),
        through=["store"],
    ),
    Cell(
        name="opensearch-answers",
        about="one answer in ten lost",
        play=lambda cell: cell.lose_answers("store", 0.1),
        through=["store"],
    ),
    Cell(
        name="opensearch-nonsense",
        about="a sign-in page with 200 in place of every answer, for 40 s",
        play=partial(_nonsense, behaviour=Behaviour(answers=SIGN_IN)),
        through=["store"],
        ends=(*KILLED, StartError.exit_code),
    ),
    Cell(
        name="opensearch-nonsense-bulk",
        about="a sign-in page with 200 in place of each answer to `_bulk`, for 40 s",
        play=partial(_nonsense, behaviour=Behaviour(answers=SIGN_IN, bulk_only=True)),
        through=["store"],
        ends=KILLED,
    ),
    Cell(
        name="opensearch-impatient",
        about="the same, and kill -9 to whoever has waited for a while, 25 times",
        play=_impatient,
        through=["store"],
        ends=KILLED,
    ),
    Cell(
        name="opensearch-black-hole",
        about="nothing goes through, then all of it late",
        play=partial(_spoiled, behaviour=Behaviour(held=True)),
        through=["store"],
    ),
    Cell(name="opensearch-read-only", about="the index blocked for writes", play=_read_only),
    Cell(
        name="opensearch-closed",
        about="the index closed, then opened",
        play=lambda cell: cell.disturb(
            lambda: cell.index("POST", "/_close"), lambda: cell.index("POST", "/_open"), OUTAGE_S
        ),
    ),
    Cell(name="opensearch-red", about="the index without its primary shard", play=_red),
    Cell(name="opensearch-deleted", about="the index deleted", play=_deleted, ends=(3,), check=_both_saw_it),
)
