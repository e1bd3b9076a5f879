import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.http.status import classify_status, parse_retry_after
from trio_alerts.outcome import Accepted, Refused, Retry

NOW = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_accepted(status: int) -> None:
    """Any 2xx means that the receiver has the alert."""
    assert isinstance(classify_status(status), Accepted)


@pytest.mark.parametrize("status", [400, 410, 413, 422])
def test_refusals_are_final(status: int) -> None:
    """These statuses say that the same bytes will never be accepted."""
    outcome = classify_status(status, "why")
    assert Refused(f"refused with {status}", status, "why") == outcome
    assert outcome.needs_human


@pytest.mark.parametrize(
    ("status", "unseen", "human"),
    [
        *((status, False, True) for status in (301, 302, 307, 308, 401, 403, 404)),
        *((status, False, False) for status in (405, 409, 425, 429, 498, 501, 505, 519, 528, 599)),
        *((status, True, False) for status in (408, 499, 500, 502, 503, 504, *range(520, 528))),
    ],
)
def test_everything_else_may_pass(status: int, unseen: bool, human: bool) -> None:
    """Others are retried; what a front may have said leaves the outcome unseen; some need a human all the same."""
    assert Retry(f"answered {status}", status, None, unseen, needs_human=human) == classify_status(status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("9" * 50, 999_999_999.0),
        ("²", None),
        ("Mon, 23 Nov 2026 12:02:00 GMT", 120.0),
        ("Mon, 23 Nov 2026 12:02:00 -0000", 120.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("Monday, 23-Nov-26 12:02:00 GMT", 120.0),
        ("Mon Nov 23 12:02:00 2026", 120.0),
        ("Mon, 20 Nov 9999999999 12:00:00 GMT", None),
        ("Mon, 20 Nov 10000 12:00:00 GMT", None),
        ("Mon, 20 Nov 0000 12:00:00 GMT", 0.0),
        ("Mon, 32 Nov 2026 12:00:00 GMT", None),
        ("Mon, 23 Nov 2026 12:00:61 GMT", None),
        ("Mon, 23 Nov 2026 12:00:00 +99999999999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 251_606_951_939.0),
        ("Mon, 23 Nov 2026 12:02:00 GMT" + " " * 100 + "x", None),
        ("Mon, 2\u0663 Nov 2026 12:02:00 GMT", None),
        ("12:00", None),
        (",", None),
        ("\0", None),
        ("9" * 5_000, 999_999_999.0),
        ("1e3", None),
        ("+5", None),
        ("inf", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    """Both forms of RFC 9110 are understood; nonsense is as good as nothing, and never more than that."""
    assert seconds == parse_retry_after([header], NOW)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [((), None), (("soon", "7", "3"), 7.0), (("soon", "later"), None), (("7", "Mon, 23 Nov 2026 12:02:00 GMT"), 120.0)],
)
def test_of_several_retry_afters_the_longest_that_can_be_read_counts(
    headers: tuple[str, ...], seconds: float | None
) -> None:
    """A proxy may add its own: to wait for the longer one is kept to both."""
    assert seconds == parse_retry_after(headers, NOW)


DATES = st.tuples(
    st.sampled_from(["Mon, ", "Monday, ", "Mon ", "", ","]),
    st.text("0123456789-:+., ²\u0663", max_size=12),
    st.sampled_from([" Nov ", "-Nov-", " ", " XYZ "]),
    st.one_of(st.integers(-(10**12), 10**12).map(str), st.text(max_size=5)),
    st.sampled_from([" 12:00:00", " 25:61:99", ""]),
    st.one_of(st.sampled_from([" GMT", " EST", ""]), st.integers(-(10**9), 10**9).map("{:+}".format)),
).map("".join)


@given(st.one_of(DATES, st.text(max_size=80), st.text(max_size=80).map("Mon, 20 Nov ".__add__)))
def test_no_retry_after_is_more_than_a_number_or_nothing(header: str) -> None:
    """Whatever a receiver writes there, reading it raises nothing."""
    wait_s = parse_retry_after([header], NOW)
    assert wait_s is None or 0 <= wait_s
