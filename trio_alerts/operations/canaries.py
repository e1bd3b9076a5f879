"""The canary: written, followed to its end, and cleared away, whatever has become of it and of who wrote it.

It is proved by what lies in Redis and in the store, not by a word of the worker that carried it. Each step may be
repeated, and made by several processes at once: who dies in between leaves it to the others, or to its own next run.
"""

import datetime as dt
import math
import secrets

from msgspec.structs import replace

from trio_alerts.delivery import SINK
from trio_alerts.errors import NewerRecord, RefusedContent
from trio_alerts.exact_json import encode
from trio_alerts.ports.canaries import Canaries, Sighting
from trio_alerts.ports.store import AlertStore, RecordFilter
from trio_alerts.record_ids import RecordIds, is_canary
from trio_alerts.text import in_words, one_line

STILL_UNDER_WAY = ("sending", "retrying", "waiting")  # states that its record gets out of by itself
ORPHANS_A_PAGE = 100


class CanaryAge:
    """How long ago the last canary was written that came through: by our own clock, whatever the server's does.

    Until one has come through since the server knows of canaries, the age is that of the watch.
    """

    def __init__(self, now_s: float) -> None:
        self._written_at_s = self._looked_at_s = now_s
        self._newest_s: float | None = None  # when the newest was written, by the server's clock
        self._not_before_s = -math.inf  # when we looked and it was not there yet
        self._through_s: float | None = None
        self._first = True

    def at(self, now_s: float) -> float:
        """Return the age in seconds."""
        return now_s - self._written_at_s

    def note(self, seen: Sighting, now_s: float) -> None:
        """Take in a look. A jump of the server's clock makes no canary older than the look before it was there."""
        if seen.written_s != self._newest_s:
            self._newest_s = seen.written_s
            self._not_before_s = -math.inf if self._first else self._looked_at_s
        if seen.through_s is not None and seen.through_s != self._through_s:
            self._through_s = seen.through_s
            written_at_s = now_s - max(seen.now_s - seen.through_s, 0.0)
            is_newest = seen.through_s == self._newest_s
            self._written_at_s = max(written_at_s, self._not_before_s) if is_newest else written_at_s
        self._looked_at_s, self._first = now_s, False


async def tend(
    stream: str, canaries: Canaries, store: AlertStore, ids: RecordIds, every_s: float | None
) -> tuple[Sighting, str]:
    """Write a canary if it is time (None: never), see how far it has come, and clear away those that are spent.

    Returns:
        Where it is, and what its record says, if its entry is done with and it has not come through yet.

    Raises:
        Unavailable: A backend does not answer.
    """
    seen = await canaries.write(stream, every_s, _payload())
    spent, says = list(seen.spent), ""
    if seen.place in ("acknowledged", "trimmed"):
        lost, says = await _what_became_of(ids.of_canary(stream, seen.entry_id), seen, store)
        if not says:
            await canaries.settle(stream, seen.entry_id, lost)
            spent.append(seen.entry_id)
            came = {"lost": lost} if lost else {"through_s": seen.written_s}
            seen = replace(seen, entry_id="", place="none", **came)
    for entry_id in spent:
        await store.remove(ids.of_canary(stream, entry_id))
        await canaries.drop(stream, entry_id)
    return seen, says


async def remove_orphans(canaries: Canaries, store: AlertStore, ids: RecordIds) -> None:
    """Remove records of canaries that are noted no more: a worker that was stopped for long wrote one too late.

    Raises:
        Unavailable: A backend does not answer.
    """
    for record in await store.search(RecordFilter(channel=(SINK,), canaries=True), ORPHANS_A_PAGE):
        place = ids.place(record.id) if is_canary(record.id) else None
        is_alive = record.delivery.state == "sending"  # it comes to an end by itself, as any alert does
        if place and not is_alive and not await canaries.noted(place[0], [place[1]]):
            await store.remove(record.id)


def whereabouts(seen: Sighting, says: str = "") -> str:
    """Say where a canary is, for people; `says` is what its record does, if somebody has looked."""
    match seen.place:
        case "unread":
            others = f", behind {seen.unread - 1:,} entries" if seen.unread and seen.unread > 1 else ""
            return f"the last one waits to be read{others}"
        case "pending":
            held = f", last seen {in_words(seen.held_s)} ago" if seen.held_s >= 1 else ""
            return f"the last one is held by consumer {one_line(seen.consumer)}{held}"
        case "acknowledged":
            return f"the record of the last one is {says}" if says else "the last one has been worked on"
        case "none" if seen.lost:
            return f"the last one was lost: {one_line(seen.lost)}"
    return "none is under way"


async def _what_became_of(record_id: str, seen: Sighting, store: AlertStore) -> tuple[str, str]:
    """Return how a canary was lost, and in which state it goes on; neither if it came through."""
    if seen.place == "trimmed":
        return "its entry was trimmed or deleted before it was read", ""
    try:
        stored = await store.get(record_id)
    except (NewerRecord, RefusedContent) as fault:
        return str(fault), ""
    if stored is None:
        return "its entry was acknowledged, and there is no record of it", ""
    state = stored.record.delivery.state
    if state == "delivered":
        return "", ""
    return ("", state) if state in STILL_UNDER_WAY else (f"its record is {state}", "")


def _payload() -> bytes:
    """Return an alert that nobody gets: it says so itself, should a human ever see it."""
    now = dt.datetime.now(dt.UTC)
    return encode(
        {
            "alert_id": f"canary-{secrets.token_hex(8)}",
            "rule_id": "canary",
            "view": "canary",
            "scope": "canary",
            "severity": "info",
            "title": "A canary of trio_alerts: it is sent to nobody",
            "occurred_at": now.isoformat(),
        }
    )
