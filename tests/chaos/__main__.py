"""Chaos: everything that can go wrong, at once, for three minutes, on real processes and servers.

`python -m tests.chaos` ends with 1 if an alert was lost, a repeat not marked, or an alert took longer than
docs/reliability.md says. The seed chooses the same disruptions in the same order; their timing is the machine's.
"""

import argparse
import random
import sys
from functools import partial

from tests.chaos.storm import STALL_S, Storm
from tests.crash.report import summary
from tests.crash.run import CellResult, run_cell
from tests.crash.servers import Servers


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=180.0, help="how long")
    parser.add_argument("--rate", type=float, default=20.0, help="alerts a second")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="chooses the disruptions")
    parser.add_argument("--store", choices=["sqlite", "opensearch"], default="sqlite", help="where records live")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.store}")
    storm = Storm(options.seconds, options.rate, options.seed, options.store, partial(print, flush=True))
    with Servers() as servers:
        result = run_cell(storm.cell(), servers)
    print(_summary(storm, result))
    return 1 if result.faults else 0


def _summary(storm: Storm, result: CellResult) -> str:
    way = {"longest way, s": f"{storm.longest_s:.1f} of {STALL_S:g}", "median way, s": f"{storm.median_s:.1f}"}
    disruptions = [f"{count:>3} times: {name}" for name, count in sorted(storm.disruptions.items())]
    return summary(result, {"seed": storm.seed}, way, *disruptions)


if __name__ == "__main__":
    sys.exit(main())
