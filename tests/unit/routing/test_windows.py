"""Time windows: when they are open, on days when clocks change too, and which are refused."""

import datetime as dt
from collections.abc import Mapping

import pytest

from trio_alerts.routing.windows import parse_window, representative_times

ZURICH = {"tz": "Europe/Zurich"}
OFFICE = {"days": ["mon-fri"], "from": "08:00", "to": "18:00", **ZURICH}
NIGHT = {"days": ["fri"], "from": "22:00", "to": "06:00", **ZURICH}


@pytest.mark.parametrize(
    ("window", "time", "expected"),
    [
        (OFFICE, "2026-11-26T07:00:00Z", True),
        (OFFICE, "2026-11-26T06:59:59Z", False),
        (OFFICE, "2026-11-26T16:59:59Z", True),
        (OFFICE, "2026-11-26T17:00:00Z", False),
        (OFFICE, "2026-11-28T10:00:00Z", False),  # a Saturday
        (OFFICE, "2026-07-16T06:00:00Z", True),  # in summer it opens an hour earlier, as people do
        (OFFICE, "2026-07-16T16:00:00Z", False),
        (NIGHT, "2026-11-27T21:00:00Z", True),
        (NIGHT, "2026-11-28T04:59:00Z", True),  # the night of Friday ends on Saturday
        (NIGHT, "2026-11-28T05:00:00Z", False),
        (NIGHT, "2026-11-26T22:00:00Z", False),
        (NIGHT, "2026-11-27T04:00:00Z", False),
        ({"days": ["sat-mon"]}, "2026-11-30T23:59:59Z", True),
        ({"days": ["sat-mon"]}, "2026-12-01T00:00:00Z", False),
        ({"days": ["sat-mon"]}, "2026-11-28T00:00:00Z", True),
        ({"from": "18:00", "to": "00:00"}, "2026-11-26T23:59:59Z", True),
        ({"from": "18:00", "to": "00:00"}, "2026-11-26T00:00:00Z", False),
        ({}, "2026-11-26T00:00:00Z", True),
        # 2026-10-25 02:30 in Zurich comes twice, 2026-03-29 02:30 never.
        ({"from": "02:15", "to": "02:45", **ZURICH}, "2026-10-25T00:30:00Z", True),
        ({"from": "02:15", "to": "02:45", **ZURICH}, "2026-10-25T01:30:00Z", True),
        ({"from": "02:15", "to": "02:45", **ZURICH}, "2026-03-29T00:59:59Z", False),
        ({"from": "02:15", "to": "02:45", **ZURICH}, "2026-03-29T01:00:00Z", False),
    ],
)
def test_a_window_goes_by_the_clock_on_the_wall(window: Mapping[str, object], time: str, expected: bool) -> None:
    """It opens at its first minute and is closed at its last, by local time, whatever the offset to UTC is then."""
    assert expected == parse_window(window).is_open(dt.datetime.fromisoformat(time))


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        ({"from": "08:00", "to": "08:00"}, "it never opens"),
        ({"from": "24:00"}, "it never opens"),
        ({"days": []}, "it never opens"),
        ({"days": "mon"}, "`days` must be a list of days"),
        ({"days": ["mon-fry"]}, "`days` has 'fry', which is none of mon, tue, wed, thu, fri, sat, sun"),
        ({"days": ["mon-wed-fri"]}, "neither a day nor a range"),
        ({"days": [1]}, "neither a day nor a range"),
        ({"from": "8:00"}, '`from` must be a time from "00:00" to "24:00", not \'8:00\''),
        ({"to": 18}, "`to` must be a time"),
        ({"form": "08:00"}, "there is no 'form' in a window; it takes days, from, to, tz"),
        ({"tz": "Europe/Zurch"}, "there is no time zone 'Europe/Zurch' (did you mean 'Europe/Zurich'?)"),
        ({"tz": "Europe"}, "there is no time zone 'Europe'"),
        ({"tz": "../../etc/passwd"}, "there is no time zone '../../etc/passwd'"),
        ({"tz": "a\0"}, "there is no time zone 'a\\x00'"),
        ({"tz": ""}, "there is no time zone ''"),
        ({"tz": 1}, "there is no time zone '1'"),
    ],
)
def test_a_wrong_window_is_refused(window: Mapping[str, object], problem: str) -> None:
    """What never opens, and what cannot be read, is refused in one sentence that names it."""
    with pytest.raises(ValueError, match=r".") as caught:
        parse_window(window)

    assert problem in str(caught.value)


def test_representative_times_meet_every_state() -> None:
    """No minute of a year finds windows of three zones open that were not open together at one of the chosen times."""
    windows = [
        parse_window(OFFICE),
        parse_window({**OFFICE, "tz": "America/New_York", "from": "02:30"}),
        parse_window({"from": "22:15", "to": "01:45", "tz": "Australia/Lord_Howe"}),  # moves its clocks by half an hour
    ]
    since = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)
    minutes = (since + dt.timedelta(minutes=15 * number) for number in range(4 * 24 * 365))

    def opened(time: dt.datetime) -> tuple[bool, ...]:
        return tuple(window.is_open(time) for window in windows)

    assert set(map(opened, minutes)) <= set(map(opened, representative_times(windows, since)))


@pytest.mark.parametrize(
    "time",
    [
        "2027-03-28T01:00:00Z",  # the clock goes from 02:00 to 03:00
        "2027-10-31T01:00:00Z",  # from 03:00 back to 02:00
        "2027-10-31T00:15:00Z",  # 02:15 for the first time
        "2027-10-31T01:15:00Z",  # and for the second
    ],
)
def test_changes_of_the_clock_are_representative(time: str) -> None:
    """Both changes of the year, and both times of an hour that comes twice, are looked at."""
    window = parse_window({"from": "02:15", "to": "02:45", **ZURICH})
    times = set(representative_times([window], dt.datetime(2026, 11, 26, tzinfo=dt.UTC)))

    assert dt.datetime.fromisoformat(time) in times
