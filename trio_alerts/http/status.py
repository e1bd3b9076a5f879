"""What an HTTP answer means for an attempt: its status, and its `Retry-After`."""

import datetime as dt
import email.utils
from collections.abc import Iterable

from trio_alerts.outcome import Accepted, Outcome, Refused, Retry

REFUSED_FOR_GOOD = frozenset({400, 410, 413, 422})  # the same bytes will never be accepted
# It may pass, but only after somebody fixes a credential or an address. Redirects are not followed.
NEEDS_HUMAN = frozenset({401, 403, 404, *range(300, 400)})
# What gateways, proxies and load balancers answer for a receiver that may have taken the request: timed out (408, 504),
# gone (499 is nginx's), broken (500, 502, 503), Cloudflare's own (520 to 527). Nobody can tell whose answer it is.
UNSEEN_STATUSES = frozenset({408, 499, 500, 502, 503, 504, *range(520, 528)})
LONGEST_WAIT_S = 999_999_999  # 31 years: whatever is longer is capped by the schedule anyway
_LONGEST_DATE = 64  # characters; those of RFC 9110 have at most 33


def classify_status(status: int, answer: str = "") -> Outcome:
    """Decide what an HTTP status means for the attempt; the beginning of the body (`answer`) is kept with it."""
    if 200 <= status <= 299:
        return Accepted(status, answer)
    if status in REFUSED_FOR_GOOD:
        return Refused(f"refused with {status}", status, answer)
    return Retry(f"answered {status}", status, None, status in UNSEEN_STATUSES, answer, status in NEEDS_HUMAN)


def parse_retry_after(headers: Iterable[str], now: dt.datetime) -> float | None:
    """Return the seconds that an answer's `Retry-After` asks for (RFC 9110, 10.2.3), or None if none can be read.

    Args:
        headers: The values as they came, seconds or a date. There should be one; of several, the longest wait counts.
        now: For dates.
    """
    waits_s = [wait_s for header in headers if (wait_s := _wait_s(header.strip(), now)) is not None]
    return max(waits_s, default=None)


def _wait_s(text: str, now: dt.datetime) -> float | None:
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
