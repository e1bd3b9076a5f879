"""A small model of one alert that waits: record, hint, XACK, drainers, and processes that die; every order of steps.

It holds the rules of the queue against each other, not the code: `explore` walks every state that can be reached, and
the test leaves out each of them in turn. What it promises is said where it is checked, in `_breach` and `explore`. A
hint here is a due hint, which is handed out for a lease; a queue's is taken out, and what its taker does not live to do
is as if that hint was lost.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

PROCESSES, DEATHS, FAILED_SENDS = 3, 2, 2

Rules = frozenset[str]
RULES: Rules = frozenset(
    {
        "the record comes before XACK",
        "the hint comes before XACK",
        "an entry that finds its record waiting writes the hint too",
        "an entry that finds its record waiting is not sent",
        "a claim is a conditional write",
        "the record decides, not the hint",
        "what is still pending is left to its holder",
        "a hint that is taken stays, for a lease",
        "a hint is removed only if nobody has written it since",
        "a takeover counts a doubt",
        "an operator writes the record before the hint",
        "a sweep finds what has no hint",
    }
)
"""Each is left out once by the test, and must then be missed."""


class Process(NamedTuple):
    """One process.

    Attributes:
        step: What it does next.
        holds: The entry is pending in its name.
        owns: The record says `sending`, or said so last, with its token.
        current: Nobody has written the record since it read it.
        took: Nobody has written the hint since it took that.
        token: The gate granted it a send.
    """

    step: str = "idle"
    holds: bool = False
    owns: bool = False
    current: bool = False
    took: bool = False
    token: bool = False


class State(NamedTuple):
    """Everything there is. `seen` counts the sends that a receiver may have seen, `doubts` those that are marked."""

    processes: tuple[Process, ...] = (Process(),) * PROCESSES
    record: str = "none"
    entry: str = "unread"
    hint: str = "none"
    operator: str = "idle"
    seen: int = 0
    doubts: int = 0
    failed: int = 0
    deaths: int = 0
    breach: str = ""

    def quiet(self) -> bool:
        """Tell whether all is done."""
        return self.record == "delivered" and self.entry == "acknowledged" and self.hint == "none"


Step = tuple[str, State]


def explore(rules: Rules = RULES, *, losses: bool = True) -> tuple[int, str]:
    """Walk all states, the nearest first; return how many there are, and what was broken, with the way to it.

    Args:
        rules: Those that are kept.
        losses: Hints may be lost, and not be written, at any time. If not, all must end without the sweep.
    """
    start = State()
    came_from: dict[State, tuple[str, State] | None] = {start: None}
    leads_from: dict[State, list[State]] = {}
    ahead = deque([start])
    while ahead:
        state = ahead.popleft()
        for name, after in steps(state, rules, losses=losses):
            leads_from.setdefault(after, []).append(state)
            if after not in came_from:
                came_from[after] = (name, state)
                if after.breach:
                    return len(came_from), f"{after.breach}: {_way(after, came_from)}"
                ahead.append(after)
    ends = deque(state for state in came_from if state.quiet())
    can_end = set(ends)
    while ends:
        for before in leads_from.get(ends.popleft(), ()):
            if before not in can_end:
                can_end.add(before)
                ends.append(before)
    stuck = next((state for state in came_from if state not in can_end), None)
    return len(came_from), f"it never ends: {_way(stuck, came_from)}" if stuck else ""


def steps(state: State, rules: Rules, *, losses: bool) -> Iterator[Step]:
    """Yield everything that can happen next, and what is then."""
    for number, process in enumerate(state.processes):
        if process.step == "dead":
            continue
        for name, after in _STEPS[process.step](state, number, rules):
            yield f"{number} {name}", _sorted(after)
        if process.step == "hint" and losses:
            yield f"{number} fails to write the hint", _sorted(_move(state, number, step=_after_hint(process, rules)))
        if state.deaths < DEATHS:
            dead = _move(state, number, step="dead", current=False, took=False, token=False)
            yield f"{number} dies", _sorted(dead._replace(deaths=state.deaths + 1))
    yield from _world(state, rules, losses=losses)


def _world(state: State, rules: Rules, *, losses: bool) -> Iterator[Step]:
    if state.hint == "leased":
        yield "the hint's lease lapses", state._replace(hint="due")
    if losses and state.hint != "none":
        yield "the hint is lost", _hinted(state, "none")
    if losses and "a sweep finds what has no hint" in rules and state.record != "none" and state.hint == "none":
        yield "the sweep writes the hint", _hinted(state, "due")  # its search may be old: whatever the record is
    first, then = ("record", "hint") if "an operator writes the record before the hint" in rules else ("hint", "record")
    if state.operator == "idle" and state.record == "failed" and state.entry == "acknowledged":
        yield f"an operator redelivers: the {first}", _operator_writes(first, state)._replace(operator="half")
    if state.operator == "half":
        yield f"the operator writes the {then}", _operator_writes(then, state)._replace(operator="idle")


# --- what a process does: read or decide, then act at once; between two steps everybody else may act -----------------


def _idle(state: State, number: int, rules: Rules) -> Iterator[Step]:
    holders = [process for process in state.processes if process.holds]
    if state.entry == "unread" or (state.entry == "pending" and all(one.step == "dead" for one in holders)):
        nobody = [one._replace(holds=False) for one in state.processes]
        taken = state._replace(entry="pending", processes=tuple(nobody))
        yield "takes the entry", _move(taken, number, step="look", holds=True)
    if state.hint == "due":
        stays = "a hint that is taken stays, for a lease" in rules
        yield "takes the hint", _move(_hinted(state, "leased" if stays else "none"), number, step="drain", took=True)


def _look(state: State, number: int, rules: Rules) -> Iterator[Step]:
    """Look at the record of an entry that it got."""
    if state.record == "none":
        yield "finds nothing", _move(state, number, step="create")
        if "the record comes before XACK" not in rules:
            done = state._replace(entry="acknowledged")
            yield "finds nothing, and acknowledges", _move(done, number, step="create", holds=False)
    elif state.record in ("waiting", "retrying"):
        hints = "an entry that finds its record waiting writes the hint too" in rules
        yield "finds it waiting", _move(state, number, step=_before_ack(rules) if hints else "ack")
        if "an entry that finds its record waiting is not sent" not in rules:
            yield "finds it waiting, and sends", _move(state, number, step="claim", current=True)
    elif state.record == "sending":  # the entry was taken from a dead process: whose else could the attempt be?
        yield "finds it cut", _move(state, number, step="claim", current=True, token=True)
        yield "finds it cut, and the gate closed", _move(state, number, step="wait", current=True)
    else:
        yield "finds it done", _move(state, number, step="ack")


def _create(state: State, number: int, rules: Rules) -> Iterator[Step]:
    if state.record != "none":
        yield "is too late to create", _move(state, number, step="look")
        return
    yield "creates it as waiting", _move(_written(state, "waiting"), number, step=_before_ack(rules))
    yield "creates it, to send", _move(_written(state, "sending"), number, step="send", owns=True, token=True)


def _drain(state: State, number: int, rules: Rules) -> Iterator[Step]:
    if state.entry != "acknowledged" and "what is still pending is left to its holder" in rules:
        yield "leaves what is pending", _move(state, number, step="idle")
    elif state.record in ("delivered", "failed") and "the record decides, not the hint" in rules:
        yield "finds it done", _move(state, number, step="tidy")
    elif state.record == "sending" and any(one.owns and one.step != "dead" for one in state.processes):
        yield "finds a living owner", _move(state, number, step="idle")
    else:
        yield "gets a token", _move(state, number, step="claim", current=True, token=True)
        yield "gets no token", _move(state, number, step="idle")


def _claim(state: State, number: int, rules: Rules) -> Iterator[Step]:
    if not state.processes[number].current and "a claim is a conditional write" in rules:
        yield "loses it to another", _move(state, number, step=_let_go(state.processes[number]))
        return
    yield "claims it", _move(_doubted(state, rules, "sending"), number, step="send", owns=True)


def _wait(state: State, number: int, rules: Rules) -> Iterator[Step]:
    """Mark a cut attempt, which then waits: its gate is closed."""
    if state.processes[number].current:
        yield "marks it, to wait", _move(_doubted(state, rules, "waiting"), number, step=_before_ack(rules))
    else:
        yield "loses it to another", _move(state, number, step="look")


def _send(state: State, number: int, _: Rules) -> Iterator[Step]:
    process = state.processes[number]
    after = _move(state, number, token=False)
    if breach := _breach(state, process):
        yield "sends", after._replace(breach=breach)
        return
    yield "sends, is accepted", _move(after._replace(seen=state.seen + 1), number, step="store delivered")
    if state.failed < FAILED_SENDS:
        failed = after._replace(failed=state.failed + 1)
        yield "sends, is asked to come again", _move(failed, number, step="store retrying")
        yield "sends, is refused", _move(failed, number, step="store failed")


def _breach(state: State, process: Process) -> str:
    """Say which promise a send breaks, if any."""
    if not (process.owns and state.record == "sending"):
        return "sent by who does not own the record"
    if not process.token:
        return "sent although the gate granted nothing"
    return "sent again without a doubt marked" if state.seen > state.doubts else ""


def _store(outcome: str) -> Callable[[State, int, Rules], Iterator[Step]]:
    def store(state: State, number: int, rules: Rules) -> Iterator[Step]:
        process = state.processes[number]
        if not process.owns and outcome != "delivered":
            yield "has nothing to say any more", _move(state, number, step=_let_go(process))
            return
        step = "tidy" if outcome != "retrying" and not process.holds else "ack"
        if outcome == "retrying":
            step = _before_ack(rules)
        yield f"stores {outcome}", _move(_written(state, outcome), number, step=step)

    return store


def _hint(state: State, number: int, rules: Rules) -> Iterator[Step]:
    process = state.processes[number]
    yield "writes the hint", _move(_hinted(state, "due"), number, step=_after_hint(process, rules))


def _ack(state: State, number: int, rules: Rules) -> Iterator[Step]:
    process = state.processes[number]
    late = "the hint comes before XACK" not in rules and state.record in ("waiting", "retrying")
    entry = "acknowledged" if process.holds else state.entry
    step = "hint" if late else "idle"
    yield "acknowledges", _move(state._replace(entry=entry), number, step=step, holds=False)


def _tidy(state: State, number: int, rules: Rules) -> Iterator[Step]:
    unchanged = state.processes[number].took or "a hint is removed only if nobody has written it since" not in rules
    yield "removes the hint", _move(_hinted(state, "none") if unchanged else state, number, step="idle")


_STEPS: dict[str, Callable[[State, int, Rules], Iterator[Step]]] = {
    "idle": _idle,
    "look": _look,
    "create": _create,
    "drain": _drain,
    "claim": _claim,
    "wait": _wait,
    "send": _send,
    "store delivered": _store("delivered"),
    "store retrying": _store("retrying"),
    "store failed": _store("failed"),
    "hint": _hint,
    "ack": _ack,
    "tidy": _tidy,
}


# --- how the world changes ------------------------------------------------------------------------------------------


def _move(state: State, number: int, **changes: object) -> State:
    """Return the state with one process changed; an idle one remembers nothing."""
    if changes.get("step") == "idle":
        changes |= {"current": False, "took": False, "token": False}
    moved = state.processes[number]._replace(**changes)  # type: ignore[arg-type]
    return state._replace(processes=(*state.processes[:number], moved, *state.processes[number + 1 :]))


def _written(state: State, record: str) -> State:
    """Return the state after a write: nobody owns it any more, and whoever has read it is not current."""
    breach = "delivered, and then something else" if state.record == "delivered" != record else state.breach
    if record == "sending" and any(one.owns and one.step in ("send", "store delivered") for one in _living(state)):
        breach = "taken from a living owner"
    processes = tuple(one._replace(owns=False, current=False) for one in state.processes)
    return state._replace(record=record, processes=processes, breach=breach)


def _doubted(state: State, rules: Rules, record: str) -> State:
    cut = state.record == "sending" and "a takeover counts a doubt" in rules
    return _written(state, record)._replace(doubts=state.doubts + cut)


def _hinted(state: State, hint: str) -> State:
    return state._replace(hint=hint, processes=tuple(one._replace(took=False) for one in state.processes))


def _operator_writes(what: str, state: State) -> State:
    return _written(state, "retrying") if what == "record" else _hinted(state, "due")


def _living(state: State) -> Iterator[Process]:
    return (one for one in state.processes if one.step != "dead")


def _before_ack(rules: Rules) -> str:
    return "hint" if "the hint comes before XACK" in rules else "ack"


def _after_hint(process: Process, rules: Rules) -> str:
    return "ack" if process.holds and "the hint comes before XACK" in rules else "idle"


def _let_go(process: Process) -> str:
    return "look" if process.holds else "idle"


def _sorted(state: State) -> State:
    """Return the state with the processes in one order: which of them is which makes no difference."""
    return state._replace(processes=tuple(sorted(state.processes)))


def _way(state: State, came_from: dict[State, tuple[str, State] | None]) -> str:
    names: list[str] = []
    while (last := came_from[state]) is not None:
        names.append(last[0])
        state = last[1]
    return ", ".join(reversed(names))
