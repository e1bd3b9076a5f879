"""Records over the API."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from trio_alerts.delivery import State
from trio_alerts.operations.cursors import cursor_behind, read_cursor
from trio_alerts.operations.filters import FILTERS, record_filter
from trio_alerts.operations.records import NO_RECORD, Change, Skip, newest_records
from trio_alerts.operations.redeliver import channels_made_due, names_of
from trio_alerts.operations.resolve import resolve
from trio_alerts.times import count
from trio_alerts.transitions import Resolution
from trio_alerts.web.api.endpoint import Call, Endpoint
from trio_alerts.web.api.parts import Parameter, of_filter, wrong_body
from trio_alerts.web.api.problems import Problem, WrongPart
from trio_alerts.web.api.record_document import RecordDocument
from trio_alerts.web.record_pages import valid_id
from trio_alerts.web.visitors import log_change

LIMIT, MOST = 50, 500
MOST_BYTES = 4 * 1024 * 1024  # of a page, which is held in memory


class RecordPage(Struct, frozen=True):
    """Records, the newest first. `matching` counts all pages; `next` is what `after` must be for those that follow.

    A page whose records are large ends before `limit`; no more follow only if `next` is null.
    """

    records: list[Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Record"})]]
    matching: int
    next: str | None


class RedeliveryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """With `through`, through this channel alone, whether it is the record's or not."""

    through: str | None = None
    dry_run: bool = False


class Redelivered(Struct, frozen=True):
    """The record's state, and the channels that are due now; in a dry run, as they would be."""

    record_id: str
    state: State
    due: tuple[str, ...]
    dry_run: bool


class ResolutionRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What somebody found out at the receiver."""

    resolution: Resolution
    dry_run: bool = False


class Resolved(Struct, frozen=True):
    """The record's state; in a dry run, as it would be."""

    record_id: str
    state: State
    dry_run: bool


async def _find(call: Call) -> RecordPage:
    limit: int = call.query.get("limit", LIMIT)
    found = await newest_records(call.desk.store, record_filter(call.query), limit, call.query.get("after"), MOST_BYTES)
    documents = [msgspec.Raw(record.to_json()) for record in found.records]
    return RecordPage(documents, found.matching, cursor_behind(found.records[-1]) if found.more else None)


async def _show(call: Call) -> msgspec.Raw:
    stored = await call.desk.store.get(valid_id(call.id))
    if stored is None:
        raise _no_record(call)
    return msgspec.Raw(stored.record.to_json())


async def _redeliver(call: Call) -> Redelivered:
    wanted: RedeliveryRequest = call.body
    through = () if wanted.through is None else _names_of(wanted.through, call)
    redelivery = await call.desk.redelivery(call.by, dry_run=wanted.dry_run, through=through)
    (result,) = [one async for one in redelivery.by_id([valid_id(call.id)])]
    change = _changed(result, call)
    due = channels_made_due(change, through)
    if not wanted.dry_run:
        log_change(call.request, f"made record {call.id} due again through {', '.join(due)}")
    return Redelivered(call.id, change.delivery.state, due, wanted.dry_run)


async def _resolve(call: Call) -> Resolved:
    wanted: ResolutionRequest = call.body
    operator = await call.desk.operator(call.by)
    result = await resolve(operator, valid_id(call.id), wanted.resolution, dry_run=wanted.dry_run)
    change = _changed(result, call)
    if not wanted.dry_run:
        log_change(call.request, f"settled record {call.id} as {wanted.resolution}")
    return Resolved(call.id, change.delivery.state, wanted.dry_run)


def _names_of(channel: str, call: Call) -> tuple[str, ...]:
    try:
        return names_of(channel, call.desk.settings)
    except ValueError as fault:
        raise wrong_body([WrongPart("through", str(fault))]) from None


def _changed(result: Change | Skip, call: Call) -> Change:
    match result:
        case Skip(reason=reason) if reason == NO_RECORD:
            raise _no_record(call)
        case Skip(reason=reason):
            raise Problem(409, f"left alone: {reason}", "left-alone")
    return result


def _no_record(call: Call) -> Problem:
    return Problem(404, f"there is no record {call.id!r:.600}")


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/records",
        about="Records, the newest first; values of one filter are alternatives, and all filters must hold",
        carry_out=_find,
        answer=RecordPage,
        ids={"record_id": "/records/0/record_id"},
        query=(
            *map(of_filter, FILTERS),
            Parameter(
                "limit", f"at most this many ({LIMIT})", count(MOST), {"type": "integer", "minimum": 1, "maximum": MOST}
            ),
            Parameter("after", "what follows: `next` of the page before", read_cursor),
        ),
    ),
    Endpoint(
        method="GET",
        path="/records/{record_id}",
        about="One record, as it is now",
        carry_out=_show,
        answer=RecordDocument,
        conflicts=True,
    ),
    Endpoint(
        method="POST",
        path="/records/{record_id}/resolve",
        about="Settle the channels of a record that are in doubt",
        carry_out=_resolve,
        answer=Resolved,
        body=ResolutionRequest,
        example={"resolution": "failed"},
        conflicts=True,
    ),
    Endpoint(
        method="POST",
        path="/records/{record_id}/redeliver",
        about="Make a record that is not delivered due at once; a running process sends it",
        carry_out=_redeliver,
        answer=Redelivered,
        body=RedeliveryRequest,
        example={"dry_run": False},
        conflicts=True,
    ),
)
