"""`audit`: every alert that was ever seen has ended as something, or is on its way."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack

import msgspec
import trio

from trio_alerts.backends.redis.standing import open_ledger
from trio_alerts.commands.command import Command
from trio_alerts.commands.evidence import Verdict, gather_verdict
from trio_alerts.commands.operating import SETTINGS
from trio_alerts.commands.reading import enter_both, open_records
from trio_alerts.deployment import refuse_foreign
from trio_alerts.errors import LedgerError
from trio_alerts.ledger import FATES
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    verdict = trio.run(_audit, settings, arguments.accept_losses)
    if arguments.json:
        sys.stdout.buffer.write(msgspec.json.encode(_as_object(verdict, arguments.deep)) + b"\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _page(verdict, arguments.deep))
    if verdict.taken_away and not verdict.missing:
        raise LedgerError(
            f"the ledger does not balance: {verdict.taken_away} times a stream or its group was deleted, replaced or "
            "moved while entries were, or may have been, unread: `lost upstream` is about what went with it. Once you "
            "know why: `audit --accept-losses`"
        )
    if verdict.missing:
        what = "1 alert is" if len(verdict.missing) == 1 else f"{len(verdict.missing):,} alerts are"
        hint = "" if arguments.deep else "; --deep names what is missing"
        raise LedgerError(f"the ledger does not balance: {what} missing{hint}")
    return 0


async def _audit(settings: Settings, accept_losses: bool) -> Verdict:
    async with AsyncExitStack() as opened:
        ledger, store = await enter_both(opened, open_ledger(settings), open_records(settings))
        await refuse_foreign(ledger, store)
        if accept_losses:
            for stream in settings.stream_names:
                await ledger.lost_unread(stream)  # what is found only now is accepted too
                await ledger.accept_losses(stream)
        return await gather_verdict(ledger, store, settings.stream_names)


def _as_object(verdict: Verdict, deep: bool) -> dict[str, object]:
    told: dict[str, object] = {"seen": verdict.seen}
    told |= {fate: verdict.fates[fate] for fate in FATES}
    told |= {"missing": len(verdict.missing), "taken_away": verdict.taken_away}
    told["balanced"] = verdict.balanced
    if deep:
        told["missing_ids"] = sorted(verdict.missing)
    return told


def _page(verdict: Verdict, deep: bool) -> Iterator[str]:
    yield f"{'seen':<16}  {verdict.seen:>12,}"
    for fate in FATES:
        yield f"{'not read yet' if fate == 'not_read' else fate.replace('_', ' '):<16}  {verdict.fates[fate]:>12,}"
    yield f"{'missing':<16}  {len(verdict.missing):>12,}"
    if deep:
        for record_id, trace in sorted(verdict.missing.items()):
            yield f"missing: {one_line(record_id)}: {trace}"
    if verdict.balanced:
        yield "the ledger balances"


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deep", action="store_true", default=False, help="name the IDs that are missing")
    parser.add_argument("--json", action="store_true", default=False, help="one object, on one line")
    parser.add_argument(
        "--accept-losses",
        action="store_true",
        default=False,
        help="note that you know of streams and groups that were taken away, so that the ledger can balance again",
    )


COMMAND = Command(
    execute=_execute,
    about="""\
Takes every ID that was ever seen (in the stream, as a record, in quarantine, in the log of drops) and accounts for it:

  seen = delivered + failed + suppressed + in doubt + retrying + in flight + not read yet + quarantined + dropped
         + lost upstream

What is left is missing: an entry that somebody acknowledged by hand, a record that somebody deleted. It is looked for
again before it is called so, and processes may carry alerts meanwhile. What was trimmed from the stream and has a
record is accounted for by its record; what was trimmed or deleted unread is `lost upstream`. The IDs are held in
memory, about 1 KB each; the alerts are not.

A stream or a group that was deleted, replaced, or moved past entries that nobody had read takes with it an unknown
number: the ledger does not balance until somebody says --accept-losses. But for that, nothing is changed. Exit code 5:
something is missing; 3 and 4 as with `list`, of Redis too.""",
    examples=("audit", "audit --deep", "audit --json | jq .missing"),
    add_options=_add_options,
    settings=SETTINGS,
)
