"""A soak: real Valkey, OpenSearch and worker processes under steady traffic, one of them killed every so often.

`python -m tests.soak` ends with 1 if the ledger does not balance, or if the memory of the worker that nobody kills is
not flat. A soak of a few minutes shows that it works; what it says about memory needs twenty.
"""

import argparse
import sys
from functools import partial

from tests.crash.report import summary
from tests.crash.run import CellResult, run_cell
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
    soak = Soak(options.minutes, options.rate, options.seed, partial(print, flush=True))
    with Servers() as servers:
        result = run_cell(soak.cell(), servers)
    print(_summary(soak, result))
    return 1 if result.faults else 0


def _summary(soak: Soak, result: CellResult) -> str:
    traffic = {
        "minutes, seed": f"{soak.took_s / 60:.1f}, {soak.seed}",
        "alerts a second": f"{result.balance.emitted / soak.took_s:.1f}" if soak.took_s else "none",
        "workers killed": soak.kills,
    }
    memory = ["\nresident memory, MiB: medians of the quarters of the time"]
    for who, quarters in soak.memory.quarters().items():
        memory.append(f"{who:22}" + "".join(f"{mib:>12.1f}" for mib in quarters))
    if soak.peak:
        memory.append(f"the survivor's peak: {soak.peak / MIB:.1f} MiB; last quarter over second: {soak.ratio():.3f}")
    return summary(result, traffic, {"held": result.balance.held}, *memory)


if __name__ == "__main__":
    sys.exit(main())
