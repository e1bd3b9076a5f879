"""`redeliver`: undelivered alerts are due at once, and a running process sends them."""

import argparse
import sys
from collections import Counter

import trio

from trio_alerts.backends.redis.silences import open_silences
from trio_alerts.backoff import RetryPolicy
from trio_alerts.commands.backends import SETTINGS, open_operator
from trio_alerts.commands.command import Command
from trio_alerts.commands.options import add_filters, add_flag, chosen_records
from trio_alerts.commands.output import print_json
from trio_alerts.errors import SettingsError
from trio_alerts.held_back import SILENCE
from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.redeliver import Redelivery, channels_made_due, names_of
from trio_alerts.operations.silences import see_them_end
from trio_alerts.ports.store import RecordFilter
from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    wanted = chosen_records(arguments)
    if arguments.ids and wanted != RecordFilter():
        raise SettingsError("name records by their IDs, or filter them: not both")
    if not arguments.ids and not arguments.in_doubt and wanted == RecordFilter():
        raise SettingsError(
            "name the records to send again, or filter them, as in `redeliver --state failed`; "
            "`list --state failed` shows what there is"
        )
    _refuse_wrong_suppressors(wanted, in_doubt=arguments.in_doubt, by_hand=arguments.through is not None)
    through = () if arguments.through is None else _names_of(arguments.through, settings)
    left_alone = trio.run(_redeliver, arguments, wanted, through, settings)
    return 1 if arguments.ids and left_alone else 0


async def _redeliver(
    arguments: argparse.Namespace, wanted: RecordFilter, through: tuple[str, ...], settings: Settings
) -> int:
    """Redeliver what was chosen, print what became of each, and return how many were left alone."""
    dry_run: bool = arguments.dry_run
    counts: Counter[type[Change | Skip]] = Counter()
    async with open_operator(settings) as operator:
        policy = RetryPolicy(settings.retry_schedule_s, settings.holding_channels)
        redelivery = Redelivery(operator=operator, policy=policy, dry_run=dry_run, through=through)
        if wanted.suppressed_by and not through:
            async with open_silences(settings) as silences:
                await see_them_end(silences, wanted.suppressed_by)
            results = redelivery.by_silence(wanted)
        elif arguments.ids:
            results = redelivery.by_id(arguments.ids)
        else:
            results = redelivery.by_filter(wanted, in_doubt=arguments.in_doubt)
        async for result in results:
            counts[type(result)] += 1
            _print(result, through, dry_run, as_json=arguments.json)
    what = "would be sent again (--dry-run)" if dry_run else "due now: a running process sends them"
    if not arguments.json:
        sys.stdout.write(f"{counts[Change]:,} {what}; {counts[Skip]:,} left alone\n")
    return counts[Skip]


def _names_of(channel: str, settings: Settings) -> tuple[str, ...]:
    try:
        return names_of(channel, settings)
    except ValueError as fault:
        raise SettingsError(f"--through {channel!r}: {fault}") from None


def _refuse_wrong_suppressors(wanted: RecordFilter, *, in_doubt: bool, by_hand: bool) -> None:
    for one in wanted.suppressed_by:
        if one.startswith(SILENCE) and by_hand:
            raise SettingsError(
                "--suppressed-by silence:ID sends through suppressed channels only: leave out --through"
            )
        if not (one.startswith(SILENCE) or by_hand):
            raise SettingsError(
                f"--suppressed-by {one!r} is not a silence, as in silence:1a2b3c4d: what a route suppresses has no "
                "channels to be sent through; name one with --through"
            )
    if wanted.suppressed_by and in_doubt:
        raise SettingsError("--suppressed-by sends through suppressed channels only: leave out --in-doubt")


def _print(result: Change | Skip, through: tuple[str, ...], dry_run: bool, *, as_json: bool) -> None:
    match result:
        case Skip(record_id, reason):
            document: dict[str, object] = {"record_id": record_id, "left_alone": reason}
            what = f"left alone: {reason}"
        case Change(record_id, delivery):
            due = channels_made_due(result, through)
            document = {"record_id": record_id, "state": delivery.state, "due": due, "dry_run": dry_run}
            what = f"{'would be' if dry_run else 'is'} due now through {', '.join(due)}"
    if as_json:
        print_json(document)
    else:
        sys.stdout.write(f"{one_line(record_id)}\t{one_line(what)}\n")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("ids", metavar="ID", nargs="*", default=[], help="records, by the IDs that `list` shows")
    add_filters(parser)
    add_flag(parser, "--in-doubt", "those held in doubt as well: a receiver may get them twice")
    parser.add_argument(
        "--through", metavar="CHANNEL", default=None, help="through this channel alone, whether it is theirs or not"
    )
    add_flag(parser, "--dry-run", "change nothing, print what would be done")


COMMAND = Command(
    execute=_execute,
    about="""\
Makes records due at once: the next process that looks for retries (`run`, every --redrive-every-s) sends them through
every channel that has not accepted them yet, with the same webhook-id and the whole retry schedule ahead of them.

By ID: any record that is not delivered. By filters, as in `list`: records that are `failed` or `retrying`, or in the
states that --state names; those held in doubt only with --in-doubt (or --state in_doubt), since a receiver may have
them already. A record that is delivered, being sent, or still pending in the stream is never sent again.

With --through, only that channel is due. If a record does not have it, it is added and stands in for those that have
not accepted: once it has accepted, their failures are made good. They go on with what they do by themselves. So also
what waits for a channel can be sent, and, with --suppressed-by ROUTE, what a route suppressed by mistake.

With --suppressed-by silence:ID: what a silence kept back, once it has ended, through the channels that it suppressed.

Prints one line per record. Exit code 1: a named record was left alone or does not exist; 2: bad usage; 3 and 4 as for
`list`, and for Redis as well. What became of records that were not reported is uncertain then; it is safe to run the
command again.""",
    examples=(
        "redeliver 1763251506275-0 1763251506275-1",
        "redeliver --state failed --since 1h --dry-run",
        "redeliver --in-doubt --view lending-risk",
        "redeliver --state failed --since 1h --through email",
        "redeliver --suppressed-by silence:1a2b3c4d",
    ),
    json="one object per line, of a record",
    operands=("[ID…]",),
    add_options=_add_options,
    settings=SETTINGS,
)
