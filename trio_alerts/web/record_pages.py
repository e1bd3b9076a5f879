"""Pages of records: found, and one by one."""

import datetime as dt
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trio_alerts.delivery import Delivery
from trio_alerts.errors import NewerRecord
from trio_alerts.operations.concurrency import both
from trio_alerts.operations.cursors import cursor_behind
from trio_alerts.operations.filters import FILTERS
from trio_alerts.operations.records import newest_records
from trio_alerts.ports.store import RecordFilter
from trio_alerts.record import Record
from trio_alerts.record_ids import is_entry_id
from trio_alerts.web.desk import Desk
from trio_alerts.web.queries import read_query
from trio_alerts.web.rendering import Renderer
from trio_alerts.web.timeline import timeline

SHOWN = 50  # records a page
MOST_BYTES = 4 * 1024 * 1024  # of a page's records, which are held in memory: it ends early if they are that large
COUNTED = 1_000  # of what matches: "1,000 or more" is all that a reader needs
RELATED = 10
LONGEST_ID = 512  # bytes, as OpenSearch takes them
USUAL = ("title", "view", "scope", "since")  # the filters that are always there; the others unfold
HINTS = {"since": "1h, 7d", "until": "1h, 7d", "title": "words", "label": "team=risk", "tx": "0x…", "address": "0x…"}
DONE = {
    "redelivered": "It is due now: a running process sends it.",
    "resolved": "It is settled.",
}

Shown: TypeAlias = Sequence[tuple[Record, dict[str, Any]]]


class RecordPages:
    """What is recorded of alerts."""

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self.routes = [Route("/", self._list), Route("/records/{record_id:path}", self._show)]

    async def _list(self, request: Request) -> Response:
        query, store = read_query(request.query_params), self._desk.store
        now = dt.datetime.now(dt.UTC)
        # At a time: on a large store each of them takes as long as the other.
        found, counts = await both(
            lambda: newest_records(
                store, query.wanted, SHOWN, query.behind, MOST_BYTES, COUNTED if query.is_narrowed else 0
            ),
            partial(store.counts, now),
        )
        return self._renderer.page(
            request,
            "records.html",
            query=query,
            filters=FILTERS,
            usual=USUAL,
            hints=HINTS,
            records=[(one, one.fields()) for one in found.records],
            older=cursor_behind(found.records[-1]) if found.more else None,
            counts=counts,
            total=sum(counts.by_state.values()),
            matching=found.matching if query.is_narrowed else None,
            counted=COUNTED,
        )

    async def _show(self, request: Request) -> Response:
        record_id = valid_id(request.path_params["record_id"])
        unknown = ""
        try:
            stored = await self._desk.store.get(record_id)
        except NewerRecord as fault:
            unknown, record = fault.unknown, Record(record_id, fault.body, Delivery(state="unknown"))
        else:
            if stored is None:
                raise HTTPException(404, f"there is no record {record_id}")
            record = stored.record
        fields = record.fields()
        return self._renderer.page(
            request,
            "record.html",
            record=record,
            fields=fields,
            unknown=unknown,
            steps=timeline(fields, record.delivery),
            texts={name: _laid_out(fields[name]) for name in ("details", "extra") if name in fields},
            document=_laid_out(record.body if unknown else record.to_json()),
            related=await self._related(record, fields),
            done=DONE.get(request.query_params.get("done", ""), ""),
        )

    async def _related(self, record: Record, fields: dict[str, Any]) -> list[tuple[str, str, Shown]]:
        """Return what has the same fingerprint, then what has the same alert_id: name, value, newest records."""
        found: list[tuple[str, str, Shown]] = []
        for name in ("fingerprint", "alert_id"):
            if value := fields.get(name):
                wanted: dict[str, Any] = {name: (value,)}
                same = await self._desk.store.search(RecordFilter(**wanted), RELATED + 1)
                found.append((name, value, [(one, one.fields()) for one in same if one.id != record.id][:RELATED]))
        return found


def valid_id(text: str) -> str:
    """Return the ID of a record.

    Raises:
        HTTPException: It cannot be one (404).
    """
    if len(text.encode()) > LONGEST_ID or not is_entry_id(text.rpartition("|")[2]):
        raise HTTPException(404, f"{text:.100} is not the ID of a record")
    return text


def address_of(record_id: str) -> str:
    """Return the address of a record's page."""
    return f"/records/{quote(record_id, safe='')}"


def _laid_out(json: bytes | str) -> str:
    try:
        return (
            msgspec.json.format(json, indent=2)
            if isinstance(json, str)
            else msgspec.json.format(json, indent=2).decode()
        )
    except (msgspec.DecodeError, RecursionError):
        return json if isinstance(json, str) else json.decode(errors="backslashreplace")
