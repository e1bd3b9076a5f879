"""Cells in which OpenSearch is restarted, overloaded, cut off, and its index blocked, closed, red and deleted."""

import signal
import time

import msgspec

from tests.crash.proxy import FAITHFUL, Manner, http_answer
from tests.crash.scene import ALERTS, Cell, Scene
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


def _restarted(scene: Scene) -> None:
    scene.begin()
    scene.emit()
    scene.until_accepted(60)
    scene.plant.opensearch.kill()
    scene.plant.opensearch.start()
    scene.notes.append("killed and started again")


def _spoiled(scene: Scene, manner: Manner) -> None:
    scene.begin()
    scene.emit()
    for number in (1, 2):
        scene.until_accepted(50 * number)
        scene.proxies["store"].behave(manner)
        time.sleep(OUTAGE_S)
        scene.proxies["store"].behave(FAITHFUL)


def _overloaded(scene: Scene) -> None:
    _spoiled(scene, Manner(answers=OVERLOADED))
    scene.notes.append(f"twice {OUTAGE_S:g} s, {scene.proxies['store'].spoiled} requests")


def _items_rejected(scene: Scene) -> None:
    _spoiled(scene, Manner(rejects=0.5))
    scene.notes.append(f"twice {OUTAGE_S:g} s, {scene.proxies['store'].spoiled} items")


def _no_backend(scene: Scene) -> None:
    _spoiled(scene, Manner(answers=NO_BACKEND))
    scene.notes.append(f"twice {OUTAGE_S:g} s, {scene.proxies['store'].spoiled} requests")


def _nonsense(scene: Scene, manner: Manner) -> None:
    """Something else answers for 40 s; twice a worker is killed meanwhile, and so starts in the middle of it."""
    scene.begin()
    scene.emit(per_s=ALERTS / NONSENSE_S)
    scene.until_accepted(30)
    scene.proxies["store"].behave(manner)
    for _ in range(2):
        time.sleep(NONSENSE_S / 3)
        scene.oldest().signal(signal.SIGKILL)
    time.sleep(NONSENSE_S / 3)
    scene.proxies["store"].behave(FAITHFUL)
    starts = scene.crew.ends.count(StartError.exit_code)
    scene.notes.append(f"{scene.proxies['store'].spoiled} requests, {starts} starts refused")


def _page_everywhere(scene: Scene) -> None:
    _nonsense(scene, Manner(answers=SIGN_IN))


def _page_for_bulk(scene: Scene) -> None:
    _nonsense(scene, Manner(answers=SIGN_IN, bulk_only=True))


def _impatient(scene: Scene) -> None:
    """Whoever has waited for a while is killed, as by a liveness probe; few alerts, so that each is in many hands."""
    scene.begin()
    scene.emit(ALERTS - FEW)
    scene.until_emitted()
    scene.until(scene.settled, "the others are delivered")
    scene.proxies["store"].behave(Manner(answers=SIGN_IN, bulk_only=True))
    scene.producer.add(FEW)
    for number in range(1, DEATHS + 1):
        scene.until(lambda: scene.crew.ready, "all workers read")
        time.sleep(PATIENCE_WITH_A_WORKER_S)
        scene.oldest().signal(signal.SIGKILL)
        scene.until_gone(number)
    scene.proxies["store"].behave(FAITHFUL)
    scene.until(lambda: scene.crew.ready, "all workers read")
    scene.notes.append(f"{DEATHS} killed in the wait")


def _black_hole(scene: Scene) -> None:
    _spoiled(scene, Manner(held=True))
    scene.notes.append(f"twice {OUTAGE_S:g} s")


def _answers_lost(scene: Scene) -> None:
    scene.lose_answers("store", 0.1)


def _read_only(scene: Scene) -> None:
    scene.begin()
    scene.emit()
    for number, block in enumerate(("write", "read_only_allow_delete", "read_only"), 1):
        scene.until_accepted(40 * number)
        scene.index("PUT", "/_settings", {f"index.blocks.{block}": True})
        time.sleep(OUTAGE_S / 2)
        scene.index("PUT", "/_settings", {f"index.blocks.{block}": None})
    scene.notes.append(f"three kinds of block, each {OUTAGE_S / 2:g} s")


def _closed(scene: Scene) -> None:
    scene.begin()
    scene.emit()
    for number in (1, 2):
        scene.until_accepted(50 * number)
        scene.index("POST", "/_close")
        time.sleep(OUTAGE_S)
        scene.index("POST", "/_open")
    scene.notes.append(f"twice {OUTAGE_S:g} s")


def _red(scene: Scene) -> None:
    """The primary shard is taken from its node, and may be nowhere until the rule is gone."""
    index, rule = f"{scene.alias}-000001", "index.routing.allocation.require._name"
    cancel = {"index": index, "shard": 0, "node": scene.opensearch.folder.name, "allow_primary": True}

    def health() -> object:
        return scene.opensearch.request("GET", f"/_cluster/health/{index}")[1]["status"]

    scene.begin()
    scene.emit()
    for number in (1, 2):
        scene.until_accepted(50 * number)
        scene.index("PUT", "/_settings", {rule: "nobody"})
        scene.opensearch.request("POST", "/_cluster/reroute", {"commands": [{"cancel": cancel}]})
        scene.until(lambda: health() == "red", "the index is red")
        time.sleep(OUTAGE_S)
        scene.index("PUT", "/_settings", {rule: None})
    scene.notes.append(f"twice {OUTAGE_S:g} s")


def _node_gone(scene: Scene) -> None:
    """Each node of two dies once, and comes back: as long as one has no majority, writes wait for the other."""
    with OpenSearchCluster("3.4.0", size=2) as cluster:
        one, two = cluster.nodes
        scene.opensearch = one
        scene.store_url = f"{one.url},127.0.0.1:{two.http_port}"
        scene.begin()
        scene.emit()
        for number, node in enumerate((two, one), 1):
            scene.until_accepted(60 * number)
            node.kill()
            time.sleep(OUTAGE_S)
            node.start()
        scene.notes.append(f"each gone for {OUTAGE_S:g} s and its start")
        scene.finish()


def _deleted(scene: Scene) -> None:
    """Both workers must end with 3; their successors create the index anew and carry on.

    Records that lay in the index are gone, and with them the knowledge of what was under way. What had been sent by
    then must have been accepted by all its receivers, or be recorded anew; no record can tell if it is sent twice.
    """
    scene.begin()
    scene.emit()
    scene.until_accepted(80)
    scene.index("DELETE", "")
    sent = scene.plant.receiver.ledger().requests
    scene.forgotten = {request.webhook_id for request in sent if request.webhook_id is not None}
    scene.until_ended(2)
    scene.notes.append(f"{scene.crew.ends.count(3)} workers ended with 3")


def _both_saw_it(scene: Scene) -> str:
    gone = len(scene.producer.emitted) - len(scene.records())
    scene.notes.append(f"{gone} delivered ones whose records are gone with it")
    return "" if scene.crew.ends.count(3) == 2 else f"processes ended with {scene.crew.ends}, not twice with 3"


CELLS = (
    Cell(name="opensearch-restart", about="killed and started again", play=_restarted, ends=()),
    Cell(name="opensearch-node-gone", about="one node of two killed, then the other", play=_node_gone, ends=()),
    Cell(name="opensearch-429", about="every request answered with 429", play=_overloaded, through=["store"], ends=()),
    Cell(
        name="opensearch-429-items",
        about="half of the items of each `_bulk` answered with 429",
        play=_items_rejected,
        through=["store"],
        ends=(),
    ),
    Cell(name="opensearch-503", about="every request answered with 503", play=_no_backend, through=["store"], ends=()),
    Cell(name="opensearch-answers", about="one answer in ten lost", play=_answers_lost, through=["store"], ends=()),
    Cell(
        name="opensearch-nonsense",
        about="a sign-in page with 200 in place of every answer, for 40 s",
        play=_page_everywhere,
        through=["store"],
        ends=(-signal.SIGKILL, StartError.exit_code),
    ),
    Cell(
        name="opensearch-nonsense-bulk",
        about="a sign-in page with 200 in place of each answer to `_bulk`, for 40 s",
        play=_page_for_bulk,
        through=["store"],
    ),
    Cell(
        name="opensearch-impatient",
        about="the same, and kill -9 to whoever has waited for a while, 25 times",
        play=_impatient,
        through=["store"],
    ),
    Cell(
        name="opensearch-black-hole",
        about="nothing goes through, then all of it late",
        play=_black_hole,
        through=["store"],
        ends=(),
    ),
    Cell(name="opensearch-read-only", about="the index blocked for writes", play=_read_only, ends=()),
    Cell(name="opensearch-closed", about="the index closed, then opened", play=_closed, ends=()),
    Cell(name="opensearch-red", about="the index without its primary shard", play=_red, ends=()),
    Cell(name="opensearch-deleted", about="the index deleted", play=_deleted, ends=(3,), check=_both_saw_it),
)
