"""Cells in which the first channel's receiver misbehaves; the second one, which gets every third alert, does not."""

from collections.abc import Mapping

from tests.crash.cell import ALERTS, Cell, RunningCell
from tests.support.receiver import MIB, Script, Step
from trio_alerts.ports.gates import ROW

REFUSED_S = 1.5  # longer than the first two waits between attempts
BOTH = ALERTS + ALERTS // 3  # deliveries, if every alert reaches all its channels


def _just_emit(cell: RunningCell) -> None:
    cell.begin()
    cell.emit()
    cell.until_emitted()


def _all_at_once(cell: RunningCell) -> None:
    cell.begin()
    cell.producer.add(ALERTS)


def _all_failed(cell: RunningCell) -> Mapping[str, int]:
    return {"failed": len(cell.producer.emitted)}


def _sent_once(cell: RunningCell) -> str:
    """A receiver that is slow, or talks much, is no reason to send again."""
    totals = cell.servers.receiver.totals()
    return "" if totals.requests == BOTH else f"{totals.requests} requests, not {BOTH}"


def _waited(cell: RunningCell) -> str:
    """Nobody may come back sooner than 60 s after a 429, or than it asked for."""
    first: dict[str, float] = {}
    for request in cell.servers.receiver.ledger().requests:
        if request.path == "/hook" and request.webhook_id is not None:
            earlier = first.setdefault(request.webhook_id, request.at_s)
            if 0 < request.at_s - earlier < 60.0:
                return f"{request.webhook_id} came back after {request.at_s - earlier:.1f} s"
    return ""


def _steady_is_undisturbed(cell: RunningCell) -> str:
    """A receiver whose name cannot be resolved in time costs the other one not a single attempt."""
    channels = [channel for record in cell.records().values() for channel in record.delivery.channels]
    attempts = {
        name: sum(channel.attempts - 1 for channel in channels if channel.name == name) for name in ("hook", "steady")
    }
    cell.notes.append(f"{attempts['hook']} attempts ended before the name was resolved")
    if not attempts["hook"]:
        return "every look-up was in time: this proves nothing"
    return f"{attempts['steady']} attempts on the other receiver failed" if attempts["steady"] else ""


def each(*steps: Step) -> Script:
    """Let every alert have its own walk through these answers."""
    return Script(list(steps), each="id")


CELLS = (
    Cell(name="receiver-500", about="500 twice, then 200", play=_just_emit, hook=each(Step(500), Step(500), Step())),
    Cell(
        name="receiver-429",
        about="429 with `Retry-After: 62` to nine alerts, then 200",
        play=_just_emit,
        hook=Script([*[Step(429, headers={"retry-after": "62"})] * (ROW - 1), Step()]),  # its breaker stays closed
        check=_waited,
    ),
    Cell(name="receiver-410", about="410, always", play=_just_emit, hook=Script([Step(410)]), expected=_all_failed),
    Cell(
        name="receiver-hang",
        about="takes the alert and never answers; then 200",
        play=_just_emit,
        hook=each(Step(fault="hang", accepts=True), Step()),
        settings={"workers": "64", "send_timeout_s": "1"},
    ),
    Cell(
        name="receiver-reset",
        about="takes the alert, resets in mid-answer; then 200",
        play=_just_emit,
        hook=each(Step(fault="reset"), Step()),
    ),
    Cell(
        name="receiver-cut",
        about="answers with 200, resets in the body of it",
        play=_just_emit,
        hook=Script([Step(fault="cut", body_bytes=MIB // 32)]),
        check=_sent_once,
    ),
    Cell(
        name="receiver-refused",
        about="connections refused",
        play=lambda cell: cell.disturb(cell.proxies["hook"].refuse, cell.proxies["hook"].accept, REFUSED_S, each=60),
        through=["hook"],
    ),
    Cell(
        name="receiver-dns-hangs",
        about="the receiver's name takes 6 s to resolve, six times `connect_timeout_s`",
        play=_just_emit,
        module="tests.crash.hanging_names",
        named=True,
        settings={"workers": "200"},
        check=_steady_is_undisturbed,
    ),
    Cell(
        name="receiver-slow",
        about="answers after 15 s, ten times `claim_idle_s`",
        play=_all_at_once,
        hook=Script([Step(delay_s=15.0)]),
        settings={"workers": "160", "send_timeout_s": "40", "lease_s": "60"},
        check=_sent_once,
    ),
    Cell(
        name="receiver-1-mib",
        about="answers with 200 and 1 MiB",
        play=_just_emit,
        hook=Script([Step(body_bytes=MIB)]),
        check=_sent_once,
    ),
)
