"""Silences: set, ended, and tried on the alerts of the last day before anybody sets one."""

import datetime as dt
import secrets
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Literal

import trio
from msgspec import Struct
from msgspec.structs import replace

from trio_alerts.errors import AlertError, NotFound, ParseFault, SettingsError
from trio_alerts.event import AlertEvent
from trio_alerts.exact_json import Timestamp
from trio_alerts.held_back import SILENCE
from trio_alerts.pages import Pages
from trio_alerts.ports.silences import Silence, Silences
from trio_alerts.ports.store import AlertStore, RecordFilter
from trio_alerts.routing.matchers import Matcher, parse_matcher
from trio_alerts.routing.proof import can_all_match
from trio_alerts.routing.silences import STALE_AFTER_S, all_match

MOST = 1_000  # active at a time: each alert is compared with all of them
LONGEST_WHY = 2_000  # characters: it goes into every record that is kept back
KEPT = dt.timedelta(days=30)  # after its end, for `silence list --all`
PREVIEWED = dt.timedelta(hours=24)
PAGE = 500  # records a search
NO_ALERT_MATCHES = "no alert can match all of these; where one of several values will do, write FIELD in [VALUE, VALUE]"
SHOWN = 5  # examples: enough to recognise what matches


class ListedSilence(Struct, frozen=True):
    """A silence and how it stands; the names are those of the JSON that `silence list` prints."""

    id: str
    state: Literal["active", "expired", "ended"]
    matchers: tuple[str, ...]
    since: Timestamp
    until: Timestamp
    why: str
    by: str
    ended_by: str | None


class MatchedAlert(Struct, frozen=True):
    """An alert that a silence would have matched, as short as it is recognised."""

    record_id: str
    occurred_at: Timestamp
    severity: str
    view: str
    scope: str
    title: str


class Preview(Struct, frozen=True):
    """What a silence would have matched: how many of those `seen`, of which severity, and the newest."""

    seen: int
    matching: int
    by_severity: Mapping[str, int]
    newest: tuple[MatchedAlert, ...]


def matchers_of(texts: Sequence[str], *, all_alerts: bool) -> tuple[Matcher, ...]:
    """Read the matchers of a silence.

    Raises:
        SettingsError: One of them cannot be read; or no alert can match them all; or there is none, and not every alert
            is meant; or both.
    """
    if bool(texts) == all_alerts:
        raise SettingsError(
            "--all-alerts matches every alert: give it, or matchers, not both"
            if all_alerts
            else "say which alerts, as in `silence add 'view = Lending'`; --all-alerts silences every one"
        )
    try:
        matchers = tuple(map(parse_matcher, texts))
    except ValueError as fault:
        raise SettingsError(str(fault)) from None
    if not can_all_match(matchers):
        raise SettingsError(NO_ALERT_MATCHES)
    return matchers


async def add_silence(
    silences: Silences, matchers: Sequence[str], until: dt.datetime | dt.timedelta, why: str, by: str
) -> Silence:
    """Set a silence, from now until a time, or for a time; return it.

    Raises:
        SettingsError: It would be over already, or too late to be a date; too long a reason; too many.
        Unavailable: It may have been set, or not.
    """
    if len(why) > LONGEST_WHY:
        raise SettingsError(f"why: at most {LONGEST_WHY:,} characters, not {len(why):,}")
    now = await silences.now()
    try:
        end = now + until if isinstance(until, dt.timedelta) else max(until, now).astimezone(dt.UTC)
    except OverflowError:
        raise SettingsError("the silence would end after the year 9999; make it shorter") from None
    if end <= now:
        raise SettingsError(f"the silence would be over already: it is {to_the_second(now)} on the Redis server")
    there = await all_silences(silences)
    if sum(one.is_active(now) for one in there) >= MOST:
        raise SettingsError(f"{MOST:,} silences are active, which is the most; end some, or use wider matchers")
    forgotten = [one.id for one in there if one.until < now - KEPT]
    while True:
        silence = Silence(id=secrets.token_hex(4), matchers=tuple(matchers), since=now, until=end, why=why, by=by)
        if await silences.add(silence, forgotten):
            return silence


async def end_silence(silences: Silences, silence_id: str, by: str) -> Silence:
    """End a silence now; return it as it was.

    Raises:
        NotFound: There is none of this ID.
        AlertError: It is over.
        Unavailable: It may have been ended, or not.
    """
    now = await silences.now()
    silence = next((one for one in await all_silences(silences) if one.id == silence_id), None)
    if silence is None:
        raise NotFound(f"there is no silence {silence_id!r}; `silence list` shows what there is")
    if not silence.is_active(now):
        raise AlertError(f"silence {silence_id} is over already: it ended at {to_the_second(silence.until)}")
    if not await silences.replace(replace(silence, until=now, ended_by=by)):
        raise AlertError(f"silence {silence_id} has vanished from Redis: it silences nothing")
    return silence


async def all_silences(silences: Silences) -> tuple[Silence, ...]:
    """Return all of them, those that are over included."""
    found = await silences.latest()
    return () if found is None else found.silences


async def see_them_end(silences: Silences, suppressed_by: Collection[str]) -> None:
    """Wait until no process believes any more in silences that ended just now: 2 s at most.

    Args:
        silences: The silences.
        suppressed_by: Which ones, as records name them; what is not there any more has ended.

    Raises:
        SettingsError: One of them is still active, and would only suppress again what is sent.
    """
    now, left_s = await silences.now(), 0.0
    for silence in await all_silences(silences):
        if f"{SILENCE}{silence.id}" in suppressed_by:
            if silence.is_active(now):
                raise SettingsError(
                    f"silence {silence.id} is still active: end it first, with `silence end {silence.id}`"
                )
            left_s = max(left_s, STALE_AFTER_S - (now - silence.until).total_seconds())
    await trio.sleep(left_s)


def listed(silence: Silence, now: dt.datetime) -> ListedSilence:
    """Say how a silence stands."""
    state: Literal["active", "expired", "ended"] = "expired" if silence.ended_by is None else "ended"
    return ListedSilence(
        id=silence.id,
        state="active" if silence.is_active(now) else state,
        matchers=silence.matchers,
        since=silence.since,
        until=silence.until,
        why=silence.why,
        by=silence.by,
        ended_by=silence.ended_by,
    )


async def list_silences(silences: Silences, *, ended: bool = False) -> list[ListedSilence]:
    """Return the silences that are active, those that end first at the top; and those that are over, if they are meant.

    Raises:
        Unavailable: Redis does not answer.
    """
    now, found = await silences.now(), await all_silences(silences)
    shown = sorted((one for one in found if ended or one.is_active(now)), key=lambda one: (one.until, one.id))
    return [listed(one, now) for one in shown]


async def preview(store: AlertStore, matchers: Sequence[Matcher], now: dt.datetime) -> Preview:
    """Count which alerts that occurred in the last 24 h a silence would have matched, as far as a search sees them."""
    seen, by_severity, newest = 0, Counter[str](), list[MatchedAlert]()
    async for page in Pages(partial(store.search, RecordFilter(since=now - PREVIEWED), PAGE)):
        for record in page:
            try:
                event = record.event()
            except ParseFault:
                continue  # a dead letter's: no alert, so nothing to silence
            seen += 1
            if all_match(matchers, event):
                by_severity[event.severity] += 1
                if len(newest) < SHOWN:
                    newest.append(_matched(record.id, event))
    return Preview(seen, by_severity.total(), by_severity, tuple(newest))


def _matched(record_id: str, event: AlertEvent) -> MatchedAlert:
    return MatchedAlert(record_id, event.occurred_at, event.severity, event.view, event.scope, event.title)


def to_the_second(time: dt.datetime) -> str:
    """Return a time in UTC, as people read it."""
    return f"{time.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
