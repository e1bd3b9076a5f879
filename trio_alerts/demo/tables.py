"""How the demo's figures look: the live view and the reckoning, at most 80 columns wide."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trio_alerts.delivery import State
from trio_alerts.demo.crew import PROCESSES, TASKS
from trio_alerts.demo.ledger import STATES, EntryCounts, Evidence, ReceiverBook, marked_repeats
from trio_alerts.demo.receivers import SLOW_S

COLOURS = {
    "delivered": "green",
    "retrying": "yellow",
    "waiting": "yellow",
    "failed": "red",
    "in_doubt": "yellow",
    "suppressed": "cyan",
    "quarantined": "magenta",
}
BAR_COLUMNS = 40
SHOWN: tuple[State, ...] = ("delivered", "retrying", "waiting", "failed")  # while it runs
PIPELINE = "rule engine > Valkey stream > worker processes > SQLite records, 7 receivers"


@dataclass(frozen=True, slots=True)
class View:
    """One moment of the demo: `total` entries will have been emitted in the end; `rate_per_s` is that of late.

    `workers` has the name of each process, its process ID, and what became of it.
    """

    elapsed_s: float
    total: int
    counts: EntryCounts
    rate_per_s: float | None
    books: Sequence[ReceiverBook]
    workers: Sequence[tuple[str, int, str]] = field(default=())


@dataclass(frozen=True, slots=True)
class Summary:
    """What the demo says at the end: `rate_per_s` is that of the steady phase, None if there were too few alerts.

    `faults` are what does not balance and `events` what happened on the way, a sentence each.
    """

    elapsed_s: float
    evidence: Evidence
    faults: Sequence[str]
    rate_per_s: float | None
    events: Sequence[str]


def live_view(view: View) -> RenderableType:
    """Return one moment of the demo."""
    title = Table.grid(expand=True)
    title.add_column()
    title.add_column(justify="right")
    rate = "" if view.rate_per_s is None else f"{view.rate_per_s:.0f} alerts/s   "
    title.add_row(Text("trio_alerts demo", "bold"), Text(f"{rate}{view.elapsed_s:.1f} s", "dim"))
    parts = (title, Text(PIPELINE, "dim"), _progress(view), Text(), _receivers_now(view), Text(), _crew(view))
    return Group(Text(), *parts)


def summary_view(summary: Summary) -> RenderableType:
    """Return the end of the demo: where every entry is, what the receivers say, and the verdict."""
    evidence = summary.evidence
    title = Text.assemble(
        ("Where they are", "bold"), (f"   asked of Valkey and SQLite after {summary.elapsed_s:.1f} s", "dim")
    )
    rate = "too few alerts to tell" if summary.rate_per_s is None else f"{summary.rate_per_s:.0f} alerts/s"
    workers = PROCESSES * TASKS
    best = f"{workers} workers, {SLOW_S * 1000:.0f} ms an alert: {workers / SLOW_S:.0f}/s at best"
    parts: list[RenderableType] = [title, _states(evidence), Text(), _receivers_at_the_end(evidence), Text()]
    parts += [Text(f"steady rate: {rate} ({best})"), *map(Text, summary.events), Text()]
    if summary.faults:
        faults = (Text(f"- {fault}", "red") for fault in summary.faults)
        parts += [Text("The ledger does NOT balance:", "bold red"), *faults]
    else:
        parts.append(Text(f"The ledger balances: {_praise(evidence)}", "bold green"))
    return Group(Text(), *parts, Text())


def summary_document(summary: Summary) -> dict[str, object]:
    """Return what programs are told at the end."""
    counts = summary.evidence.counts
    books = summary.evidence.books
    return {
        "balanced": not summary.faults,
        "faults": summary.faults,
        "emitted": counts.emitted,
        "records": counts.by_state,
        "quarantined": counts.dead,
        "accepted": {book.name: book.accepted for book in books},
        "elapsed_s": round(summary.elapsed_s, 3),
        "rate_per_s": summary.rate_per_s,
        "events": summary.events,
    }


def _progress(view: View) -> Table:
    counts = view.counts
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=11)
    table.add_column(justify="right", min_width=6)
    table.add_column()
    shown = [("emitted", counts.emitted), ("stored", counts.stored)]
    shown += [(state, counts.by_state.get(state, 0)) for state in SHOWN]
    shown.append(("quarantined", counts.dead))
    for name, count in shown:
        colour = COLOURS.get(name, "default")
        bar = ProgressBar(view.total, count, width=BAR_COLUMNS, complete_style=colour, finished_style=colour)
        table.add_row(name, Text(f"{count:,}", colour if count else "dim"), bar)
    return table


def _receivers_now(view: View) -> Table:
    table = _columns("receiver", "", "requests", "accepted", "refused", "repeats", "waiting")
    for book in view.books:
        waiting = view.counts.queues.get(book.name, 0)
        numbers = _numbers(book.requests, book.accepted, book.refused, book.repeated, waiting)
        table.add_row(book.name, Text(book.manner, "dim"), *numbers)
    return table


def _receivers_at_the_end(evidence: Evidence) -> Table:
    table = _columns("receiver", "requests", "accepted", "refused", "repeats", "marked in doubt", "waiting")
    for book in evidence.books:
        marked, waiting = marked_repeats(book, evidence.records), evidence.counts.queues.get(book.name, 0)
        numbers = _numbers(book.requests, book.accepted, book.refused, book.repeated, marked, waiting)
        table.add_row(book.name, *numbers)
    return table


def _columns(*names: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="left" if name in ("receiver", "") else "right", no_wrap=True)
    return table


def _numbers(*counts: int) -> list[Text]:
    return [Text(f"{count:,}", "" if count else "dim") for count in counts]


def _crew(view: View) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, process_id, status in view.workers:
        colour = "red" if "killed" in status else "dim"
        table.add_row(name, Text(f"pid {process_id}", "dim"), Text(status, colour))
    return table


def _states(evidence: Evidence) -> Table:
    counts = evidence.counts
    table = Table.grid(padding=(0, 2))
    table.add_column(min_width=11)
    table.add_column(justify="right", min_width=6)
    table.add_column(style="dim")
    for state in STATES:
        count = counts.by_state.get(state, 0)
        table.add_row(
            state, Text(f"{count:,}", COLOURS[state] if count else "dim"), _why(evidence, state) if count else ""
        )
    reasons = ", ".join(
        f"{reason} {count}" for reason, count in sorted(Counter(why for _, why in evidence.dead).items())
    )
    table.add_row("quarantined", Text(f"{counts.dead:,}", COLOURS["quarantined"] if counts.dead else "dim"), reasons)
    sign = "=" if counts.accounted_for == counts.emitted else "is not"
    table.add_row(
        Text("together", "bold"),
        Text(f"{counts.accounted_for:,}", "bold"),
        Text(f"{sign} {counts.emitted:,} emitted", "bold"),
    )
    return table


def _why(evidence: Evidence, state: str) -> str:
    """Say why records are in a state: by their last errors, the most frequent first."""
    if state == "delivered":
        return "accepted by all that their routes name, or by the fallback"
    if state == "waiting":
        queues = Counter(channel for record in evidence.records.values() for channel in record.delivery.queues)
        return ", ".join(f"{count} for {channel}" for channel, count in queues.items())
    errors = Counter(
        record.delivery.last_error or record.delivery.suppressed_by or ""
        for record in evidence.records.values()
        if record.delivery.state == state
    )
    return ", ".join(error for error, _ in errors.most_common(2))


def _praise(evidence: Evidence) -> str:
    emitted, repeats = evidence.counts.emitted, sum(book.repeated for book in evidence.books)
    if repeats == 0:
        marked = "nothing was sent twice"
    else:
        marked = "the 1 repeat is marked in doubt" if repeats == 1 else f"all {repeats:,} repeats are marked in doubt"
    return f"{emitted:,} emitted, {emitted:,} accounted for, none lost; {marked}."
