"""A soak: real Valkey, OpenSearch and worker processes under steady traffic, one of them killed every so often.

`python -m tests.soak` ends with 1 if the ledger does not balance, or if the memory of the worker that nobody kills is
not flat. A soak of a few minutes shows that it works; what it says about memory needs twenty.
"""

import argparse
import sys

from tests.crash.run import Result, run_cell
from tests.crash.servers import Servers
from tests.soak.memory import MIB
from tests.soak.traffic import Soak


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=20.0, help="how long")
    parser.add_argument("--rate", type=float, default=50.0, help="alerts a second")
    parser.add_argument("--seed", type=int, default=1, help="chooses the kills and what the receiver answers")
    options = parser.parse_args()
    soak = Soak(options.minutes, options.rate, options.seed, _say)
    with Servers() as servers:
        result = run_cell(soak.cell(), servers)
    _say(_table(soak, result))
    return 1 if result.faults else 0


def _table(soak: Soak, result: Result) -> str:
    found = result.balance
    rows = {
        "minutes, seed": f"{soak.took_s / 60:.1f}, {soak.seed}",
        "alerts a second": f"{found.emitted / soak.took_s:.1f}" if soak.took_s else "none",
        "workers killed": soak.kills,
        "emitted": found.emitted,
        "delivered": found.delivered,
        "failed": found.failed,
        "quarantined": found.quarantined,
        "held": found.held,
        "lost": len(found.lost),
        "duplicates unmarked": found.duplicates_unmarked,
        "duplicates marked": found.marked,
        "time to drain": "never" if result.drain_s is None else f"{result.drain_s:.1f} s",
    }
    lines = [f"{name:22}{number:>12}" for name, number in rows.items()]
    lines.append("\nresident memory, MiB: medians of the quarters of the time")
    for who, quarters in soak.memory.quarters().items():
        lines.append(f"{who:22}" + "".join(f"{mib:>12.1f}" for mib in quarters))
    if soak.peak:
        lines.append(f"the survivor's peak: {soak.peak / MIB:.1f} MiB; last quarter over second: {soak.ratio():.3f}")
    lines += [f"NOT BALANCED: {fault}" for fault in result.faults] or ["balanced, and memory is flat"]
    return "\n".join([*lines, *([f"logs: {result.folder}"] if result.folder else [])])


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
