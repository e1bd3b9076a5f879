import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.backoff import OVERLOAD_FLOOR_S, RetryPolicy, next_delay_s
from trio_alerts.outcome import Retry

POLICY = RetryPolicy((5.0, 30.0))


def test_the_schedule_is_followed_and_then_exhausted() -> None:
    """After the last wait there is no next attempt."""
    assert [5.0, 30.0, None] == [next_delay_s(POLICY, n, Retry("x")) for n in (1, 2, 3)]


@given(st.floats(-1, 1))
def test_jitter_stays_within_a_fifth(jitter: float) -> None:
    """A step is stretched or shortened by at most 20 %."""
    delay_s = next_delay_s(RetryPolicy((5.0, 30.0), jitter=jitter), 2, Retry("x"))
    assert delay_s is not None
    assert 24.0 <= delay_s <= 36.0


@pytest.mark.parametrize(
    ("outcome", "delay_s"),
    [
        (Retry("x", 503, after_s=3.0), 5.0),
        (Retry("x", 503, after_s=90.0), 90.0),
        (Retry("x", 503, after_s=1e6), 2 * 5.0 + 7200.0),
        (Retry("x", 429), OVERLOAD_FLOOR_S),
        (Retry("x", 429, after_s=10.0), OVERLOAD_FLOOR_S),
        (Retry("x", 429, after_s=600.0), 600.0),
    ],
)
def test_retry_after_and_the_floor(outcome: Retry, delay_s: float) -> None:
    """The larger of header and schedule counts, capped at twice the step plus 2 h; a 429 waits for at least 60 s."""
    assert delay_s == next_delay_s(POLICY, 1, outcome)


def test_jitter_never_undercuts_what_the_receiver_asked_for() -> None:
    """A Retry-After is a promise to the receiver: only the schedule's own step is shortened."""
    assert 5.0 == next_delay_s(RetryPolicy((5.0,), jitter=-1.0), 1, Retry("x", 503, after_s=5.0))
