"""Dead letters over the API."""

from msgspec import Struct

from trio_alerts.errors import SettingsError
from trio_alerts.operations.dead import DeadLetters, NamedDeadLetter, WholeDeadLetter
from trio_alerts.times import count
from trio_alerts.web.api.endpoint import Call, Endpoint
from trio_alerts.web.api.parts import Parameter
from trio_alerts.web.api.problems import Problem, WrongPart
from trio_alerts.web.visitors import log_change

LIMIT, MOST = 100, 500


class DeadLetterPage(Struct, frozen=True):
    """Dead letters, the oldest of a stream first; `next` is what `after` must be for those that follow, if any."""

    entries: list[NamedDeadLetter]
    next: str | None


class ReplayRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """With `as_new`, as a new alert, with a record and a `webhook-id` of its own."""

    as_new: bool = False


class Replayed(Struct, frozen=True):
    """Which dead letter was put back, and where it is now."""

    dead_id: str
    stream: str
    entry_id: str


class Dropped(Struct, frozen=True):
    """Which dead letter was deleted for good."""

    dead_id: str


async def _find(call: Call) -> DeadLetterPage:
    limit: int = call.query.get("limit", LIMIT)
    try:
        found = await _letters(call).find(call.query.get("reason", ()), limit + 1, call.query.get("after"))
    except SettingsError as fault:
        raise Problem(400, str(fault), "wrong-parameters", [WrongPart("after", str(fault))]) from None
    shown = found[:limit]
    return DeadLetterPage(shown, shown[-1].dead_id if len(found) > limit else None)


async def _show(call: Call) -> WholeDeadLetter:
    try:
        found = await _letters(call).get(call.id)
    except SettingsError as fault:
        raise Problem(404, str(fault)) from None
    if found is None:
        raise _not_there(call)
    return found


async def _replay(call: Call) -> Replayed:
    as_new: bool = call.body.as_new
    try:
        ((_, stream, entry_id),) = [one async for one in _letters(call).replay([call.id], as_new=as_new)]
    except SettingsError as fault:
        raise Problem(404, str(fault)) from None
    if entry_id is None:
        raise _not_there(call)
    log_change(call.request, f"put dead letter {call.id} back into {stream} as {entry_id}")
    return Replayed(call.id, stream, entry_id)


async def _drop(call: Call) -> Dropped:
    try:
        ((_, was_there),) = [one async for one in _letters(call).drop([call.id], call.by)]
    except SettingsError as fault:
        raise Problem(404, str(fault)) from None
    if not was_there:
        raise _not_there(call)
    log_change(call.request, f"dropped dead letter {call.id}")
    return Dropped(call.id)


def _letters(call: Call) -> DeadLetters:
    return DeadLetters(call.desk.redis.dead_letters, call.desk.settings.stream_names)


def _not_there(call: Call) -> Problem:
    return Problem(404, f"{call.id!r} is not in the dead-letter stream (any more)")


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/quarantine",
        about="Dead letters: entries that can never be processed as they are",
        carry_out=_find,
        answer=DeadLetterPage,
        ids={"dead_id": "/entries/0/dead_id"},
        query=(
            Parameter("reason", "those with this reason, such as bad_event", repeats=True),
            Parameter(
                "limit", f"at most this many ({LIMIT})", count(MOST), {"type": "integer", "minimum": 1, "maximum": MOST}
            ),
            Parameter("after", "what follows: `next` of the page before"),
        ),
    ),
    Endpoint(
        method="GET",
        path="/quarantine/{dead_id}",
        about="One dead letter, with what its producer wrote",
        carry_out=_show,
        answer=WholeDeadLetter,
    ),
    Endpoint(
        method="DELETE",
        path="/quarantine/{dead_id}",
        about="Delete a dead letter for good; the log of drops keeps who did it",
        carry_out=_drop,
        answer=Dropped,
    ),
    Endpoint(
        method="POST",
        path="/quarantine/{dead_id}/replay",
        about="Put a dead letter back into its stream",
        carry_out=_replay,
        answer=Replayed,
        body=ReplayRequest,
        conflicts=True,
        example={"as_new": False},
    ),
)
