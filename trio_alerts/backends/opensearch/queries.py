"""What is asked of OpenSearch about records, in its query language, and the types of the answers. Pure, no I/O."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from trio_alerts.backends.opensearch.answers import Count
from trio_alerts.ports.store import STATES_BESIDE_A_DOUBT, Due, RecordFilter
from trio_alerts.record_ids import CANARIES, entry_order
from trio_alerts.retention import SETTLED

BY_ID = ({"record_id": "asc"},)
OLDEST_FIRST = ({"entry_order": "asc"}, {"record_id": "asc"})
NEWEST_FIRST = ({"entry_order": {"order": "desc", "missing": "_last"}}, {"record_id": "desc"})
DUE_FIELDS = (
    *("severity_rank", "delivery.state", "delivery.lease_until"),
    *(f"delivery.channels.{field}" for field in ("name", "state", "next_attempt_at", "attempts", "unconfigured_since")),
)
JOURNAL_ID = "retention"  # the one document that is no record; see `journal.py`. It is no entry's ID
NO_RECORD = "0-0"  # Redis gives no entry this ID
IN_A_QUEUE = ("sending", "retrying", "waiting")  # states in which a channel may wait, and may be sent through
OVERDUE = dt.timedelta(seconds=60)
REPEATED_IDS = 1000  # a producer that repeats more of them has one fault, not many
CANARY: Mapping[str, Any] = {"prefix": {"record_id": CANARIES}}
EARLIEST, LATEST = dt.datetime(1, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 12, 31, tzinfo=dt.UTC)  # of Python


# --- queries ---------------------------------------------------------------------------------------------------------


def due(now: dt.datetime, until: dt.datetime, after: Due | None) -> dict[str, Any]:
    """Match what waits for an attempt that is due by `until`, or in a queue, in the order of `BY_ID`."""
    cut = _all({"term": {"delivery.state": "sending"}}, {"range": {"delivery.lease_until": {"lte": _instant(now)}}})
    queued = _all(_has("delivery.queues"), {"terms": {"delivery.state": list(IN_A_QUEUE)}})
    waiting = [{"range": {"delivery.next_attempt_at": {"lte": _instant(until)}}}, cut, queued]
    beyond = {"range": {"record_id": {"gt": after.id}}} if after else _has("record_id")
    return _all(_any(waiting), beyond)


def old(stream: str, before: str, after: str) -> dict[str, Any]:
    """Match the records of a stream that may be settled, between two IDs, in the order of `OLDEST_FIRST`."""
    beyond = {"gt": entry_order(after)} if after else {}
    between = {"range": {"entry_order": {"lt": entry_order(before), **beyond}}}
    return _all({"term": {"stream": stream}}, {"terms": {"delivery.state": sorted(SETTLED)}}, between, _NO_CANARY)


def search(wanted: RecordFilter, after: Sequence[Any] = ()) -> dict[str, Any]:
    """Match records by a filter; `after` is where the last one of the page before stands in `NEWEST_FIRST`."""
    values = {
        "view": wanted.view,
        "scope": wanted.scope,
        "severity": wanted.severity,
        "rule_id": wanted.rule_id,
        "alert_id": wanted.alert_id,
        "delivery.suppressed_by": wanted.suppressed_by,
        "tx_hash": wanted.tx,  # the normalizer of these fields lowers what is looked for, too
        "delivery.channels.name": wanted.channel,
        "fingerprint": wanted.fingerprint,
    }
    times = {"gte": wanted.since, "lt": wanted.until}
    bounds = {bound: _instant(time) for bound, time in times.items() if time is not None}
    exact = [{"terms": {name: list(alternatives)}} for name, alternatives in values.items() if alternatives]
    exact += [_in_states(wanted.state)] if wanted.state else []
    exact += [_labelled(key, wanted.label) for key in dict.fromkeys(key for key, _ in wanted.label)]
    if wanted.address:
        exact.append(_any({"terms": {name: list(wanted.address)}} for name in ("addresses", "contract")))
    if wanted.title:
        exact.append(_any({"match": {"title": {"query": one, "operator": "and"}}} for one in wanted.title))
    between = [{"range": {"occurred_at": bounds}}] if bounds else []
    alerts = [] if wanted.canaries else [_NO_CANARY]
    return _all(*exact, *between, *alerts, _older(*after) if after else _has("record_id"))


def _labelled(key: str, labels: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Match what has the label, with one of its values.

    A `flat_object` keeps `key=value` for each of its fields, in which `a=b` and `c` look like `a` and `b=c`; and the
    values by themselves, which tell them apart.
    """
    values = [value for one, value in labels if one == key]
    return _any(_all({"term": {f"labels.{key}": value}}, {"term": {"labels": value}}) for value in values)


def _in_states(states: Sequence[str]) -> dict[str, Any]:
    named = {"terms": {"delivery.state": list(states)}}
    return _any([named, _DOUBT]) if "in_doubt" in states else named


def _older(entry_order: str | None, record_id: str) -> dict[str, Any]:
    """Match what follows a record in the order of `NEWEST_FIRST`.

    Not `search_after`: a record whose `record_id` somebody removed would come again on every page.
    """
    unordered = {"bool": {"must_not": _has("entry_order")}}
    lower_id = {"range": {"record_id": {"lt": record_id}}}
    if entry_order is None:
        return _all(unordered, lower_id)
    lower = {"range": {"entry_order": {"lt": entry_order}}}
    same = _all({"term": {"entry_order": entry_order}}, lower_id)
    return _all(_has("record_id"), _any([lower, same, unordered]))


def _has(field: str) -> dict[str, Any]:
    return {"exists": {"field": field}}


def _any(alternatives: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {"bool": {"should": list(alternatives)}}


def _all(*filters: Mapping[str, Any]) -> dict[str, Any]:
    return {"bool": {"filter": list(filters)}}


def _instant(time: dt.datetime) -> str:
    """Render a time as exactly as OpenSearch's `date` compares: to the millisecond."""
    return time.astimezone(dt.UTC).isoformat(timespec="milliseconds")


_NO_CANARY: Mapping[str, Any] = {"bool": {"must_not": CANARY}}
# Written by something else; but for our own journal.
_STATELESS = {"bool": {"must_not": [_has("delivery.state"), {"ids": {"values": [JOURNAL_ID]}}]}}
_BESIDE = _all({"terms": {"delivery.state": list(STATES_BESIDE_A_DOUBT)}}, _has("delivery.in_doubt_channels"))
_DOUBT: Mapping[str, Any] = _any([{"term": {"delivery.state": "in_doubt"}}, _BESIDE])


# --- figures ---------------------------------------------------------------------------------------------------------


class Bucket(Struct):
    """How many records have one value."""

    key: str
    doc_count: Count


class Buckets(Struct):
    """Of an aggregation by `terms`."""

    buckets: list[Bucket]


class Filtered(Struct):
    """Of an aggregation by `filter`."""

    doc_count: Count


class CountAnswer(Struct):
    """How many records match."""

    found: Filtered


def counts_by_state(now: dt.datetime) -> dict[str, Any]:
    """Ask for `CountsAnswer`."""
    late = {"range": {"delivery.next_attempt_at": {"lt": _instant(now - OVERDUE)}}}
    states = {"terms": {"field": "delivery.state", "size": 100}}
    return {
        "states": states,  # of all: OpenSearch counts them without a look at the documents
        "canaries": {"filter": CANARY, "aggs": {"states": states}},
        "stateless": {"filter": _STATELESS},
        "overdue": {"filter": _all({"term": {"delivery.state": "retrying"}}, late, _NO_CANARY)},
        "in_doubt": {"filter": _all(_DOUBT, _NO_CANARY)},
    }


class States(Struct):
    """How many records are in each state."""

    states: Buckets


class CountsAnswer(States):
    """To `counts_by_state`."""

    canaries: States
    stateless: Filtered
    overdue: Filtered
    in_doubt: Filtered


RETRYING_BY_CHANNEL: Mapping[str, Any] = {
    "retrying": {
        "filter": _all({"term": {"delivery.state": "retrying"}}, _NO_CANARY),
        "aggs": {"channels": {"terms": {"field": "delivery.retrying_channels", "size": 1000}}},
    }
}


class Retrying(Struct):
    """Of `WaitingAnswer`."""

    channels: Buckets


class WaitingAnswer(Struct):
    """To `RETRYING_BY_CHANNEL`."""

    retrying: Retrying


VITALS: Mapping[str, Any] = {
    "waiting": {
        "filter": _all({"terms": {"delivery.state": ["sending", "retrying", "waiting", "in_doubt"]}}, _NO_CANARY),
        "aggs": {"since": {"min": {"field": "delivery.first_at"}}},
    },
    # Not `cardinality`: with many records its error is larger than the number that is looked for.
    "repeated": {"terms": {"field": "alert_id", "min_doc_count": 2, "size": REPEATED_IDS}},
}


class Earliest(Struct):
    """Of an aggregation by `min`, in milliseconds since the epoch."""

    value: float | None

    @property
    def moment(self) -> dt.datetime | None:
        """The time; one that is beyond what Python can represent is clamped."""
        if self.value is None:
            return None
        return dt.datetime.fromtimestamp(min(max(self.value / 1000, EARLIEST.timestamp()), LATEST.timestamp()), dt.UTC)


class Waiting(Struct):
    """Of `VitalsAnswer`."""

    since: Earliest


class VitalsAnswer(Struct):
    """To `VITALS`."""

    waiting: Waiting
    repeated: Buckets
