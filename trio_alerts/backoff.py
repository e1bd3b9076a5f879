"""When to try again after a failed attempt: pure, the caller draws the jitter."""

from collections.abc import Sequence

from msgspec import Struct

from trio_alerts.outcome import Retry

JITTER = 0.2  # a step is stretched or shortened by up to this share, so that a crowd spreads out
RETRY_AFTER_SLACK_S = 7200.0  # a Retry-After is honoured up to twice the step plus this
OVERLOADED = 429
OVERLOAD_FLOOR_S = 60.0  # an overloaded receiver gets at least this long; Svix uses the same overload penalty


class RetryPolicy(Struct, frozen=True):
    """When to try again, when to give up, and when to leave it to a human.

    Args:
        schedule_s: The waits after the first, second, … attempt, in seconds.
        hold: The channels whose unseen outcomes wait for a human.
        jitter: From -1 to 1, drawn anew for each outcome; 0 gives the schedule itself.
        max_cuts: How many attempts in a row may end with their process.
    """

    schedule_s: Sequence[float]
    hold: frozenset[str] = frozenset()
    jitter: float = 0.0
    max_cuts: int = 5

    @property
    def patience_s(self) -> float:
        """For how long an alert may wait in a queue: as long as its whole schedule would have lasted, in seconds."""
        return sum(self.schedule_s)


def next_delay_s(policy: RetryPolicy, attempts: int, failure: Retry) -> float | None:
    """Return how long to wait after so many attempts (at least 1), the failed one included; None: no more."""
    if attempts > len(policy.schedule_s):
        return None
    step_s = policy.schedule_s[attempts - 1]
    asked_s = min(failure.after_s or 0.0, 2 * step_s + RETRY_AFTER_SLACK_S)
    floor_s = OVERLOAD_FLOOR_S if failure.status == OVERLOADED else 0.0
    return max(step_s * (1 + JITTER * policy.jitter), asked_s, floor_s)
