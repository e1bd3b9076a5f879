"""What a run prints, and the page that it writes for readers."""

import os
import platform
from collections.abc import Mapping

from tests.crash.cell import QUICK
from tests.crash.matrix import FAMILIES
from tests.crash.run import CellResult
from tests.crash.servers import Servers

COLUMNS = {
    "emitted": "entries that the producer added to the stream: the sum of the six columns after it",
    "delivered": "their record says `delivered`, and every one of their receivers has accepted them, by its own ledger",
    "failed": "their record says `failed`, and the reason",
    "quarantined": "they are in the dead-letter stream",
    "held": "their record says `in_doubt`: they wait for a human, since the channel's policy is `hold`",
    "gone": "somebody deleted the entry before any worker had read it, or the record after it was delivered",
    "lost": "none of that is true; **must be 0**",
    "unmarked": "duplicates that the record does not count in its channel's `in_doubt`; **must be 0**",
    "marked": "duplicates that it does count",
    "drain s": "seconds from the end of the harm, or of the traffic if that came later, until nothing was left to do",
}

INTRODUCTION = """\
# Reliability

What becomes of alerts when processes are killed and servers fail, measured: real worker processes, a real Valkey, a
real OpenSearch, and receivers that keep their own ledger of what they were sent. The promises behind it are explained
in [How it works](how-it-works.md).

    make crash

runs all of it, and fails if a single cell does not balance. `python -m tests.crash --list` names the cells,
`--only NAME` runs some of them, and `--write` has written this page: {machine}.

In every cell two workers (two processes of `trio-alerts run`) share the work, and {emitted} alerts come in the middle
of the harm. Every third alert goes to two channels, the others to one. A process that ends is replaced by a fresh one,
as a supervisor would. The waits are short, so that a cell takes seconds:

{settings}

{columns}

A duplicate is a request that arrives after one with the same `webhook-id` that the receiver had decided to accept.
Between a receiver's decision and our record of it there is a window that nobody can close. What counts is that every
repeat is marked, so that it can be found, and that it carries the same `webhook-id`, so that the receiver can drop it.
An answer such as 500 or 503, which a front may give for a receiver that accepted, is marked for itself: its mark covers
no duplicate.

A cell is balanced when nothing is lost, no duplicate is unmarked, nothing is pending, no record or request belongs to
an alert that was never emitted, exactly those alerts failed or were quarantined that had to, no process ended in a way
that was not planned, and the last workers stopped with exit code 0.
"""

DEFINITIONS = """\
## What must hold where somebody deletes

- **`redis-flushall`, `redis-del`, `redis-no-data`**: what was unread has gone with the stream, and only that.
  Everything that any worker had been given before is delivered and recorded, and so is everything that comes
  afterwards: the group is created again, at the start of the stream.
- **`redis-setid`**: the group reads from an earlier ID again. Nothing is sent twice: the records say what was done, and
  entries whose owner is alive are left to it.
- **`opensearch-deleted`**: each worker notices, ends with exit code 3 and acknowledges nothing that it could not
  record; a fresh process creates the index anew. Every alert reaches its receivers. Records of alerts that were
  finished have gone with the index. So has the knowledge of which attempts were under way: repeats of those cannot be
  marked, and are counted in the notes instead.
- **`kill-hold`**: the first channel's policy is `hold`, so it never gets an alert twice. What was cut waits for a
  human.
- **`chaos-*`**: the history is chosen by a seed, which is among the notes. With `CRASH_SEED=…` in the
  environment, `python -m tests.crash --only chaos-1` chooses the same disruptions again; their timing is the machine's.
  Workers die so often there that `max_deliveries` is 50; else entries that were in flight each time would be taken for
  poison.

## Three minutes of chaos

    make chaos

runs one parent with three worker processes for three minutes under 20 alerts a second, and does harm of every kind, one
after the other, each as often as every other: kill -9, SIGSTOP and SIGTERM to one of the processes; kill -9 and SIGTERM
to the parent, and SIGTERM to the whole group, once its processes read; Redis paused; Redis killed, and started with its
data; the SQLite file locked or, with `STORE=opensearch`, OpenSearch overloaded, held, and answered for by a sign-in
page; and every gate and every hint in Redis deleted. This last one comes at most every 90 seconds: what waits just then
is found by the next sweep, up to a minute later. Meanwhile a quarter of the first receiver's answers are 500, 503, a
reset after it has accepted, or none at all.

It ends with 1 if anything is lost, a duplicate is not marked, a process ends in a way that was not planned, or **an
alert takes more than 90 seconds from XADD to its last acceptance**, harm included. That bound is for the waits above, a
retry schedule of half seconds, harm of up to 4 seconds at a time and processes that take 3 seconds to start on a busy
machine; half of the alerts take 2.4. Where processes take longer to start, it may be exceeded: with OpenSearch on two
slow cores, where a group was back only after 6 seconds, half of the alerts took 8 to 10, and the slowest 88 in one run
and 136 in another. With the defaults, add the steps of the retry schedule that an alert goes through, and
`claim_idle_s` for each process that dies with it. `SEED=…`, which is printed first, chooses the same harm in the same
order again; its timing is the machine's.
"""


def head() -> str:
    """Return the heading of the printed table."""
    return f"{'cell':22}" + "".join(f"{name:>12}" for name in COLUMNS) + "  notes"


def line(result: CellResult) -> str:
    """Return a cell's line, and what is wrong with it below that."""
    numbers = "".join(f"{number:>12}" for number in _numbers(result))
    faults = "".join(f"\n  NOT BALANCED: {fault}" for fault in result.faults)
    where = f"\n  logs: {result.folder}" if result.folder else ""
    return f"{result.cell.name:22}{numbers}  {', '.join(result.notes)}{faults}{where}"


def summary(result: CellResult, before: Mapping[str, object], after: Mapping[str, object], *more: str) -> str:
    """Return what came of one long cell, a line each.

    Args:
        result: Whose balance stands in the middle.
        before: Lines above it.
        after: Lines below it.
        more: Whole lines below those.
    """
    found = result.balance
    rows = {
        **before,
        "emitted": found.emitted,
        "delivered": found.delivered,
        "failed": found.failed,
        "quarantined": found.quarantined,
        "lost": len(found.lost),
        "duplicates unmarked": found.duplicates_unmarked,
        "duplicates marked": found.marked,
        "drain s": _drain_s(result),
        **after,
    }
    lines = [f"{name:22}{number:>14}" for name, number in rows.items()]
    faults = [f"NOT BALANCED: {fault}" for fault in result.faults] or ["balanced"]
    return "\n".join([*lines, *more, *faults, *([f"logs: {result.folder}"] if result.folder else [])])


def page(results: Mapping[str, CellResult], servers: Servers) -> str:
    """Return the page: how it was measured, what the columns mean, and one table for each family of cells."""
    columns = "\n".join(
        ["| column | means |", "|---|---|", *(f"| {name} | {about} |" for name, about in COLUMNS.items())]
    )
    parts = [
        INTRODUCTION.format(
            machine=_machine(servers),
            emitted=max(result.balance.emitted for result in results.values()),
            settings="\n".join(f"    {name} = {value}" for name, value in QUICK.items() if name != "log_format"),
            columns=columns,
        )
    ]
    for family, cells in FAMILIES.items():
        rows = [_row(results[cell.name]) for cell in cells if cell.name in results]
        heading = [f"## {family}\n", f"| cell | what happens | {' | '.join(COLUMNS)} | notes |"]
        parts.append("\n".join([*heading, "|---|---|" + "--:|" * len(COLUMNS) + "---|", *rows, ""]))
    return "\n".join([*parts, DEFINITIONS])


def _row(result: CellResult) -> str:
    notes = [*result.notes, *(f"**not balanced: {fault}**" for fault in result.faults)]
    cells = [f"`{result.cell.name}`", result.cell.about, *_numbers(result), ", ".join(notes)]
    return f"| {' | '.join(cells)} |"


def _numbers(result: CellResult) -> list[str]:
    found = result.balance
    counts = (found.emitted, found.delivered, found.failed, found.quarantined, found.held, found.excused)
    return [
        *map(str, counts),
        str(len(found.lost)),
        str(found.duplicates_unmarked),
        str(found.marked),
        _drain_s(result),
    ]


def _drain_s(result: CellResult) -> str:
    return "never" if result.drain_s is None else f"{result.drain_s:.1f}"


def _machine(servers: Servers) -> str:
    with servers.redis.client() as client:
        about = client.info("server")
    valkey = about.get("valkey_version", about["redis_version"])
    return (
        f"on {os.cpu_count()} cores, {platform.system()} on {platform.machine()}, "
        f"Python {platform.python_version()}, Valkey {valkey}, OpenSearch {servers.opensearch.version()}"
    )
