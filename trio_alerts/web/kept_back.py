"""What a silence kept back, sent after all: what the page of a silence and the API do."""

from collections import Counter

from starlette.exceptions import HTTPException
from starlette.requests import Request

from trio_alerts.errors import SettingsError
from trio_alerts.held_back import SILENCE
from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.silences import see_them_end
from trio_alerts.ports.store import RecordFilter
from trio_alerts.web.desk import Desk
from trio_alerts.web.visitors import log_change, visitor_of


def kept_back_by(silence_id: str) -> RecordFilter:
    """Return the filter of what a silence kept back."""
    return RecordFilter(suppressed_by=(f"{SILENCE}{silence_id}",))


async def send_kept_back(
    desk: Desk, request: Request, silence_id: str, *, dry_run: bool
) -> Counter[type[Change | Skip]]:
    """Make due what a silence kept back, log it, and count what is due and what was left alone.

    Raises:
        HTTPException: The silence is active (409).
        Unavailable: A backend does not answer; some may be due by then, which the log says.
    """
    wanted = kept_back_by(silence_id)
    redelivery = await desk.redelivery(visitor_of(request).name, dry_run=dry_run)
    try:
        await see_them_end(desk.redis.silences, wanted.suppressed_by)
    except SettingsError as fault:
        raise HTTPException(409, str(fault)) from None
    counts = Counter[type[Change | Skip]]()
    try:
        async for result in redelivery.by_silence(wanted):
            counts[type(result)] += 1
    finally:
        if counts[Change] and not dry_run:
            log_change(request, f"made due what silence {silence_id} kept back ({counts[Change]:,})")
    return counts
