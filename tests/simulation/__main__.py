"""Run histories by their seeds: `python -m tests.simulation --seeds 2000`, or `--seed 17` to read one."""

import argparse
import os
import sys
import time

import msgspec

from tests.simulation.plan import Plan, plan_of
from tests.simulation.seeds import judge_all, shrunk
from tests.simulation.simulation import simulate


def main() -> int:
    """Return 0 if every promise was kept in every history."""
    options = _parse()
    if options.plan:
        return _show(msgspec.json.decode(options.plan, type=Plan), shrink=options.shrink)
    if options.seed is not None:
        return _show(plan_of(options.seed), shrink=options.shrink)
    return _run(range(options.start, options.start + options.seeds), options.jobs, first=options.first)


def _run(seeds: range, jobs: int, *, first: bool) -> int:
    started_s, steps, virtual_s, broken, count = time.monotonic(), 0, 0.0, 0, 0
    for verdict in judge_all(seeds, jobs):
        count += 1
        steps += verdict.steps
        virtual_s += verdict.virtual_s
        if verdict.broken:
            broken += 1
            print(f"seed {verdict.seed}: {verdict.broken}", flush=True)
            if first:
                break
    took_s = time.monotonic() - started_s
    print(
        f"{count} histories, {steps:,} steps, {virtual_s / 3600:.1f} h of virtual time, in {took_s:.1f} s "
        f"({count / took_s:.1f}/s): {broken} broken"
        + ("; python -m tests.simulation --seed N shows one, --shrink makes it small" if broken else "")
    )
    return 1 if broken else 0


def _show(plan: Plan, *, shrink: bool) -> int:
    if shrink:
        plan = shrunk(plan)
    report = simulate(plan, log=True)
    for line in report.history.lines():
        print(line)
    print(f"\nplan: {msgspec.json.encode(plan).decode()}")
    print(f"history {report.digest[:16]}, {report.steps} steps: {report.broken or 'every promise was kept'}")
    return 1 if report.broken else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many histories (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=0, help="processes (default: one a processor)")
    parser.add_argument("--first", action="store_true", help="stop at the first that is broken")
    parser.add_argument("--seed", type=int, help="show the history of one seed")
    parser.add_argument("--plan", help="show the history of a plan in JSON, as it is printed")
    parser.add_argument("--shrink", action="store_true", help="with --seed or --plan: leave out what is not needed")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # somebody has read enough
        os._exit(1)
