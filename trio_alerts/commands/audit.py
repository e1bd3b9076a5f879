"""`audit`: every alert that was ever seen has ended as something, or is on its way."""

import argparse
import sys
from collections.abc import Iterator

import trio

from trio_alerts.backends.redis.standing import open_ledger
from trio_alerts.commands.backends import SETTINGS, open_both
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_flag
from trio_alerts.commands.output import print_json
from trio_alerts.errors import LedgerError
from trio_alerts.ledger import FATES, Balance
from trio_alerts.operations.audit import accept_losses, audit
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    found = trio.run(_audit, settings, arguments.accept_losses)
    if arguments.json:
        print_json(_as_object(found, arguments.deep))
    else:
        sys.stdout.writelines(f"{line}\n" for line in _page(found, arguments.deep))
    if found.taken_away and not found.missing:
        raise LedgerError(
            f"the ledger does not balance: {found.taken_away} times a stream or its group was deleted, replaced or "
            "moved while entries were, or may have been, unread: `lost upstream` is about what went with it. Once you "
            "know why: `audit --accept-losses`"
        )
    if found.missing:
        what = "1 alert is" if len(found.missing) == 1 else f"{len(found.missing):,} alerts are"
        hint = "" if arguments.deep else "; --deep lists what is missing"
        raise LedgerError(f"the ledger does not balance: {what} missing{hint}")
    return 0


async def _audit(settings: Settings, accept: bool) -> Balance:
    async with open_both(open_ledger(settings), settings) as (ledger, store):
        if accept:
            await accept_losses(ledger, settings.stream_names)
        return await audit(ledger, store, settings.stream_names)


def _as_object(found: Balance, deep: bool) -> dict[str, object]:
    rendered: dict[str, object] = {"seen": found.seen}
    rendered |= {fate: found.fates[fate] for fate in FATES}
    rendered |= {"missing": len(found.missing), "taken_away": found.taken_away}
    rendered["balanced"] = found.balanced
    if deep:
        rendered["missing_ids"] = sorted(found.missing)
    return rendered


def _page(found: Balance, deep: bool) -> Iterator[str]:
    yield f"{'seen':<16}  {found.seen:>12,}"
    for fate in FATES:
        yield f"{'not read yet' if fate == 'not_read' else fate.replace('_', ' '):<16}  {found.fates[fate]:>12,}"
    yield f"{'missing':<16}  {len(found.missing):>12,}"
    if deep:
        for record_id, trace in sorted(found.missing.items()):
            yield f"missing: {one_line(record_id)}: {trace}"
    if found.balanced:
        yield "the ledger balances"


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_flag(parser, "--deep", "list the IDs that are missing")
    add_flag(
        parser,
        "--accept-losses",
        "acknowledge that streams or groups were taken away, so that the ledger can balance again",
    )


COMMAND = Command(
    execute=_execute,
    about="""\
Takes every ID that was ever seen (in the stream, as a record, a dead letter or a drop) and accounts for it:

  seen = delivered + failed + suppressed + in doubt + retrying + waiting + in flight + not read yet + quarantined
         + dropped + lost upstream + unknown (a newer version of the program wrote the record)
         + pruned (its record was settled and old, and deleted: keep_records_s)

Anything else is missing: an entry that was acknowledged by hand, a record that was deleted. It is looked for several
times before it is reported, so processes may keep running. An entry that was trimmed from the stream is accounted for
by its record; one that was trimmed or deleted unread is `lost upstream`. The IDs are held in memory, about 1 KB each;
the alerts are not.

A stream or a group that was deleted, replaced, or moved past unread entries takes an unknown number with it: the ledger
does not balance until you pass --accept-losses. Apart from that, nothing is changed. Exit code 5: something is missing;
3 and 4 as for `list`, and for Redis as well.""",
    examples=("audit", "audit --deep", "audit --json | jq .missing"),
    json="one object, on one line",
    add_options=_add_options,
    settings=SETTINGS,
)
