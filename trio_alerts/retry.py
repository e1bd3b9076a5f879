"""Pure decisions about attempts: what an answer means, and when to try again. No I/O, no clock, no chance."""

import datetime as dt
import email.utils
from collections.abc import Iterable, Sequence
from typing import ClassVar

from msgspec import Struct

REFUSED_FOR_GOOD = frozenset({400, 410, 413, 422})  # the same bytes will never be accepted
NEEDS_A_HUMAN = frozenset({401, 403, 404})  # it may pass, but only after somebody mends a credential or an address
# What gateways, proxies and load balancers answer for a receiver that may have taken the request: timed out (408, 504),
# gone (499 is nginx's), broken (500, 502, 503), Cloudflare's own (520 to 527). Whose answer it is, nobody can tell.
UNSEEN_STATUSES = frozenset({408, 499, 500, 502, 503, 504, *range(520, 528)})
OVERLOAD_FLOOR_S = 60.0  # after a 429 the receiver gets at least this long; Svix uses the same overload penalty
RETRY_AFTER_SLACK_S = 7200.0  # a Retry-After is honoured up to twice the step plus this
LONGEST_WAIT_S = 999_999_999  # 31 years: whatever is longer is capped by the schedule anyway
_LONGEST_DATE = 64  # characters; those of RFC 9110 have at most 33
JITTER = 0.2  # a step is stretched or shortened by up to this share, so that a crowd spreads out


class Accepted(Struct, frozen=True):
    """The receiver has taken the alert."""

    reason: ClassVar[None] = None
    unseen: ClassVar[bool] = False

    status: int | None = None
    answer: str = ""


class Retry(Struct, frozen=True):
    """The attempt failed in a way that may pass.

    Args:
        reason: What happened, in words for a log line, without secrets.
        status: The HTTP status, if there was one.
        after_s: What the receiver asked for with `Retry-After`, in seconds.
        unseen: The receiver may have taken the request: nobody saw the outcome.
        answer: The beginning of the receiver's answer.
        human: Waiting alone will hardly mend it.
    """

    reason: str
    status: int | None = None
    after_s: float | None = None
    unseen: bool = False
    answer: str = ""
    human: bool = False


class Refused(Struct, frozen=True):
    """The receiver said no for good: a human must look."""

    unseen: ClassVar[bool] = False

    reason: str
    status: int | None = None
    answer: str = ""


Outcome = Accepted | Retry | Refused


def classify_status(status: int, answer: str = "") -> Outcome:
    """Decide what an HTTP answer means for the attempt.

    Args:
        status: The HTTP status code.
        answer: The beginning of the body, kept with the attempt.
    """
    if 200 <= status <= 299:
        return Accepted(status, answer)
    if status in REFUSED_FOR_GOOD:
        return Refused(f"refused with {status}", status, answer)
    return Retry(f"answered {status}", status, None, status in UNSEEN_STATUSES, answer)


def needs_a_human(outcome: Outcome) -> bool:
    """Tell whether an outcome is logged as an error at once: waiting alone will hardly mend it."""
    if isinstance(outcome, Retry):
        return outcome.human or outcome.status in NEEDS_A_HUMAN or 300 <= (outcome.status or 0) <= 399
    return isinstance(outcome, Refused)


def parse_retry_after(headers: Iterable[str], now: dt.datetime) -> float | None:
    """Return the seconds that an answer's `Retry-After` asks for (RFC 9110, 10.2.3), or None if none makes sense.

    Args:
        headers: Each as it came, seconds or a date. There should be one; of several, the longest wait counts.
        now: For dates.
    """
    waits_s = [wait_s for header in headers if (wait_s := _wait_asked_for(header.strip(), now)) is not None]
    return max(waits_s, default=None)


def _wait_asked_for(text: str, now: dt.datetime) -> float | None:
    if not text.isascii():
        return None
    if text.isdigit():
        return float(min(int(text[:_LONGEST_DATE]), LONGEST_WAIT_S))
    if len(text) > _LONGEST_DATE:
        return None
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ArithmeticError, LookupError, TypeError, ValueError):  # it has raised each of these for something
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return max(0.0, (moment - now).total_seconds())


def next_delay_s(schedule_s: Sequence[float], attempts: int, outcome: Retry, jitter: float) -> float | None:
    """Return how long to wait after a failed attempt, or None when the schedule is exhausted.

    Args:
        schedule_s: The waits after the first, second, … attempt, in seconds.
        attempts: Attempts so far, the failed one included (at least 1).
        outcome: The failure.
        jitter: From -1 to 1; 0 gives the schedule itself.
    """
    if attempts > len(schedule_s):
        return None
    step_s = schedule_s[attempts - 1]
    wanted_s = min(outcome.after_s or 0.0, 2 * step_s + RETRY_AFTER_SLACK_S)
    floor_s = OVERLOAD_FLOOR_S if outcome.status == 429 else 0.0
    return max(step_s * (1 + JITTER * jitter), wanted_s, floor_s)
