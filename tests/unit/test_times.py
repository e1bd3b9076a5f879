"""Times and durations as people write them."""

import datetime as dt

import pytest

from trio_alerts.times import count, moment

NOW = dt.datetime(2026, 11, 16, 9, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", dt.datetime(2026, 11, 16, 8, 59, 30, tzinfo=dt.UTC)),
        ("90m", dt.datetime(2026, 11, 16, 7, 30, tzinfo=dt.UTC)),
        ("1h", dt.datetime(2026, 11, 16, 8, 0, tzinfo=dt.UTC)),
        ("7d", dt.datetime(2026, 11, 9, 9, 0, tzinfo=dt.UTC)),
        ("1w", dt.datetime(2026, 11, 9, 9, 0, tzinfo=dt.UTC)),
        ("2026-11-16T10:00:00.5+01:00", dt.datetime(2026, 11, 16, 9, 0, 0, 500_000, tzinfo=dt.UTC)),
    ],
)
def test_moments(text: str, expected: dt.datetime) -> None:
    """RFC 3339 in any zone, or so long ago."""
    assert expected == moment(text, NOW)


@pytest.mark.parametrize("text", ["", "1", "h", "1y", "-1h", "999999999w", "2026-11-16", "2026-11-16T08:00:00", "٣h"])
def test_no_moments(text: str) -> None:
    """A time without a zone would mean another moment on another machine."""
    with pytest.raises(ValueError, match="is not a date or time"):
        moment(text, NOW)


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "1.0", "501", "1_0", "٣", " 1", "1\n", "9" * 5000])
def test_no_counts(text: str) -> None:
    """Digits, and no more of them than make sense."""
    with pytest.raises(ValueError, match="must be a whole number from 1 to 500"):
        count(500)(text)
