"""Time windows of a route: days of the week and times of the day, by the wall clock of a place."""

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo, available_timezones

from trio_alerts.text import did_you_mean

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES = 24 * 60
# The keys of a window: the default, and what it means. The documentation shows them.
KEYS = {
    "days": ("every day", 'The days on which it opens: a list of days (`"sat"`) and ranges (`"mon-fri"`).'),
    "from": ("00:00", "When it opens."),
    "to": ("24:00", "When it closes; a time before `from` is one of the next day."),
    "tz": ("UTC", "Whose wall clock: a zone of the IANA time zone database, such as `Europe/Zurich`."),
}
_DAY, _MINUTE = f"({'|'.join(DAYS)})", "([01][0-9]|2[0-3]):[0-5][0-9]"
_SHAPES: Mapping[str, Mapping[str, object]] = {
    "days": {"type": "array", "items": {"type": "string", "pattern": f"^{_DAY}(-{_DAY})?$"}, "minItems": 1},
    "from": {"type": "string", "pattern": f"^{_MINUTE}$"},
    "to": {"type": "string", "pattern": f"^({_MINUTE}|24:00)$"},
    "tz": {"type": "string"},
}
# A year has every meeting of two zones' clock changes; they are made at full or half hours.
_SAMPLED_DAYS = 366
_CHANGES_EVERY = dt.timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Window:
    """A window that opens on some days of the week.

    It goes by what a clock on the wall shows: where the clock is put back, the repeated hour counts twice, and where it
    is put forward, the skipped one not at all. A window that ends before it begins ends on the next day.

    Args:
        days: The days on which it opens, 0 for Monday.
        start: The minute of the day in which it opens.
        end: The minute of the day before which it closes.
        zone: Whose wall clock.
    """

    days: frozenset[int]
    start: int
    end: int
    zone: ZoneInfo

    def is_open(self, now: dt.datetime) -> bool:
        """Say whether it is open at a time."""
        local = now.astimezone(self.zone)
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start < self.end:
            return self.start <= minute < self.end and day in self.days
        return (minute >= self.start and day in self.days) or (minute < self.end and (day - 1) % 7 in self.days)


def parse_window(table: Mapping[str, object]) -> Window:
    """Read a window: `{days = ["mon-fri"], from = "08:00", to = "18:00", tz = "Europe/Zurich"}`, each key optional.

    Raises:
        ValueError: It never opens, or a key of it is wrong; the text says what.
    """
    for key in table:
        if key not in KEYS:
            raise ValueError(f"there is no {key!r} in a window; it takes {', '.join(KEYS)}")
    start, end = _minute(table.get("from", "00:00"), "from"), _minute(table.get("to", "24:00"), "to")
    if start in (end, _DAY_MINUTES):
        raise ValueError("it never opens: `from` must differ from `to` and be before 24:00; for all day leave both out")
    days = table.get("days", list(DAYS))
    if not isinstance(days, list) or not days:
        raise ValueError('it never opens: `days` must be a list of days, such as ["mon-fri", "sun"]')
    return Window(frozenset(day for one in days for day in _days(one)), start, end, _zone(table.get("tz", "UTC")))


def window_schema() -> dict[str, object]:
    """Return the JSON Schema of a window. It knows no time zones, and not that a window must open."""
    keys = {
        name: {"description": f"{meaning} Default: {default}.", **_SHAPES[name]}
        for name, (default, meaning) in KEYS.items()
    }
    return {"type": "object", "properties": keys, "additionalProperties": False}


def representative_times(windows: Iterable[Window], since: dt.datetime) -> Iterator[dt.datetime]:
    """Yield times in the year from `since` on, so that whatever windows are ever open together are so at one of them.

    What is open changes only where a window begins or ends, at midnight, and where a clock is changed.
    """
    minutes: dict[ZoneInfo, set[int]] = {}
    for window in windows:
        minutes.setdefault(window.zone, {0}).update((window.start, window.end % _DAY_MINUTES))
    for zone, starts in minutes.items():
        for day in range(_SAMPLED_DAYS):
            date = since.date() + dt.timedelta(days=day)
            for minute in sorted(starts):
                local = dt.datetime.combine(date, dt.time(minute // 60, minute % 60), zone)
                yield local.astimezone(dt.UTC)
                if local.replace(fold=1).utcoffset() != local.utcoffset():
                    yield local.replace(fold=1).astimezone(dt.UTC)
        yield from _clock_changes(zone, since)


def _clock_changes(zone: ZoneInfo, since: dt.datetime) -> Iterator[dt.datetime]:
    time = since.replace(minute=0, second=0, microsecond=0)
    before = time.astimezone(zone).utcoffset()
    for _ in range(_SAMPLED_DAYS * 24 * 2):
        time += _CHANGES_EVERY
        offset = time.astimezone(zone).utcoffset()
        if offset != before:
            yield time
            before = offset


def _minute(value: object, key: str) -> int:
    time = re.fullmatch(r"([01][0-9]|2[0-3]):([0-5][0-9])|24:00", value) if isinstance(value, str) else None
    if time is None:
        raise ValueError(f'`{key}` must be a time from "00:00" to "24:00", not {str(value)!r}')
    return int(time[1]) * 60 + int(time[2]) if time[1] else _DAY_MINUTES


def _days(value: object) -> Sequence[int]:
    ends = value.split("-") if isinstance(value, str) else []
    for end in ends:
        if end not in DAYS:
            raise ValueError(f"`days` has {end!r}, which is none of {', '.join(DAYS)}")
    match ends:
        case [day]:
            return [DAYS.index(day)]
        case [first, last]:
            start = DAYS.index(first)
            return [(start + step) % 7 for step in range((DAYS.index(last) - start) % 7 + 1)]
    raise ValueError(f"`days` has {value!r}, which is neither a day nor a range such as mon-fri")


def _zone(value: object) -> ZoneInfo:
    try:
        return ZoneInfo(str(value))
    except (KeyError, ValueError, OSError):  # OSError: the name of a region, such as `Europe`
        shown = str(value)[:100]
        hint = did_you_mean(shown, available_timezones(), repr)
        raise ValueError(f"there is no time zone {shown!r}{hint}; zones are named like 'Europe/Zurich'") from None
