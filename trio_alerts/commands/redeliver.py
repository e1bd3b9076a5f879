"""`redeliver`: undelivered alerts are due at once, and a running process sends them."""

import argparse
import datetime as dt
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import trio

from trio_alerts.backoff import RetryPolicy
from trio_alerts.commands.at_once import at_once
from trio_alerts.commands.command import Command
from trio_alerts.commands.filters import add_filters, record_filter
from trio_alerts.commands.operating import SETTINGS, Changed, LeftAlone, Operation, open_operation
from trio_alerts.delivery import Delivery, State
from trio_alerts.errors import SettingsError
from trio_alerts.pages import Pages
from trio_alerts.ports.store import RecordFilter
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line
from trio_alerts.transitions import lease_expired, redelivery_requested

PAGE = 200  # records a search
AT_ONCE = 32  # changes under way: what a small store takes as one batch
UNDELIVERED: tuple[State, ...] = ("failed", "retrying")

Result = Changed | LeftAlone


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    wanted = record_filter(arguments)
    if arguments.ids and wanted != RecordFilter():
        raise SettingsError("name records by their IDs, or filter them: not both")
    if arguments.ids:
        results = trio.run(_redeliver_named, settings, list(dict.fromkeys(arguments.ids)), arguments.dry_run)
    elif arguments.in_doubt or wanted != RecordFilter():
        states = (*wanted.state, "in_doubt") if arguments.in_doubt else wanted.state or UNDELIVERED
        results = trio.run(_redeliver_found, settings, replace(wanted, state=states), arguments.dry_run)
    else:
        raise SettingsError(
            "name the records to send again, or filter them, as in `redeliver --state failed`; "
            "`list --state failed` shows what there is"
        )
    return 1 if arguments.ids and _left_alone(results) else 0


async def _redeliver_named(settings: Settings, ids: Sequence[str], dry_run: bool) -> dict[str, Result]:
    async with open_operation(settings) as operation:
        results: dict[str, Result] = {}
        for start in range(0, len(ids), PAGE):
            page = ids[start : start + PAGE]
            results |= await _redeliver(page, operation, settings, states=None, dry_run=dry_run)
        _conclude(results, dry_run)
        return results


async def _redeliver_found(settings: Settings, wanted: RecordFilter, dry_run: bool) -> dict[str, Result]:
    async with open_operation(settings) as operation:
        results: dict[str, Result] = {}
        async for page in Pages(partial(operation.store.search, wanted, PAGE)):
            ids = [record.id for record in page]
            results |= await _redeliver(ids, operation, settings, states=wanted.state, dry_run=dry_run)
        _conclude(results, dry_run)
        return results


async def _redeliver(
    ids: Sequence[str], operation: Operation, settings: Settings, *, states: Collection[State] | None, dry_run: bool
) -> dict[str, Result]:
    """Make one page of records due, many at once, and say what came of each.

    Args:
        ids: Of the records.
        operation: The backends.
        settings: Schedule and policies.
        states: What a record must be in, when it is looked at: a search may be a second behind. None: any.
        dry_run: Write nothing.
    """
    pending = await operation.stream.pending_among(ids)
    results: dict[str, Result] = {}

    async def change(record_id: str) -> None:
        decide = partial(_decide, operation=operation, settings=settings, pending=record_id in pending, states=states)
        results[record_id] = await operation.change(record_id, decide, dry_run=dry_run)

    try:
        await at_once(AT_ONCE, change, ids)
    finally:
        for record_id in ids:
            if record_id in results:
                _tell(record_id, results[record_id], dry_run)
    return results


def _decide(
    delivery: Delivery,
    owner: str,
    *,
    operation: Operation,
    settings: Settings,
    pending: bool,
    states: Collection[State] | None,
) -> Delivery | str:
    now = operation.clock.now()
    hands_off = _hands_off(delivery, now, pending, states)
    if hands_off is not None:
        return hands_off
    if delivery.state == "sending":  # a crash cut it
        hold = frozenset(one.name for one in settings.channels if one.in_doubt_policy == "hold")
        delivery = lease_expired(delivery, now, RetryPolicy(settings.retry_schedule_s, hold))
    in_doubt = states is None or "in_doubt" in states
    return (
        redelivery_requested(delivery, owner, now, in_doubt=in_doubt) or "it is in doubt; --in-doubt sends it once more"
    )


def _hands_off(delivery: Delivery, now: dt.datetime, pending: bool, states: Collection[State] | None) -> str | None:
    """Say why a record must not be touched; None if it may."""
    settled = {
        "delivered": "it is delivered",
        "suppressed": f"the rule {delivery.suppressed_by!r} suppressed it",
        "quarantined": "its entry is in quarantine; `dead replay` puts it back",
    }
    if delivery.state in settled:
        return settled[delivery.state]
    if states is not None and delivery.state not in states:
        return f"it is {delivery.state} by now"
    if pending:
        return "its entry is still pending: a worker has it, or will take it over"
    if delivery.state == "sending" and delivery.lease_until is not None and delivery.lease_until > now:
        return "it is being sent now"
    return None


def _tell(record_id: str, result: Result, dry_run: bool) -> None:
    if isinstance(result, LeftAlone):
        what = f"left alone: {result.reason}"
    else:
        due = [channel.name for channel in result.delivery.channels if channel.state == "retrying"]
        what = f"{'would be' if dry_run else 'is'} due now through {', '.join(due)}"
    sys.stdout.write(f"{one_line(record_id)}\t{one_line(what)}\n")


def _conclude(results: dict[str, Result], dry_run: bool) -> None:
    left = _left_alone(results)
    due = len(results) - left
    what = "would be sent again (--dry-run)" if dry_run else "due now: a running process sends them"
    sys.stdout.write(f"{due:,} {what}; {left:,} left alone\n")


def _left_alone(results: dict[str, Result]) -> int:
    return sum(isinstance(result, LeftAlone) for result in results.values())


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", default=[], help="records, by the IDs that `list` shows")
    add_filters(parser)
    parser.add_argument(
        "--in-doubt", action="store_true", default=False, help="what is held in doubt: a receiver may get it twice"
    )
    parser.add_argument("--dry-run", action="store_true", default=False, help="change nothing, say what would be")


COMMAND = Command(
    execute=_execute,
    about="""\
Makes records due at once: the next process that looks for retries (`run`, every --redrive-every-s) sends them, through
every channel that has not accepted yet, with the same webhook-id, and with the whole retry schedule before them again.

By ID: whatever is not delivered. By filters, as in `list`: what is `failed` or `retrying`, or the states that --state
names; what is held in doubt only with --in-doubt (or --state in_doubt), since a receiver may have it already. What is
delivered is never sent again, nor what is being sent, nor what is still pending in the stream.

Says what came of each record, a line each. Exit code 1: a record that was named is left alone, or there is no such
record; 2: bad usage; 3 and 4 as with `list`, of Redis too: what was not said is not certain then, and it does no harm
to call again.""",
    examples=(
        "redeliver 1763251506275-0 1763251506275-1",
        "redeliver --state failed --since 1h --dry-run",
        "redeliver --in-doubt --view lending-risk",
    ),
    operands=("[ID…]",),
    add_options=_add_options,
    settings=SETTINGS,
)
