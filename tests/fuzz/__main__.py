"""Feed generated input to every border: `python -m tests.fuzz --cases 100000`, or `--only NAME --seed 17` for one."""

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from functools import partial

from tests.fuzz.target import Failed, Target, run_case
from tests.fuzz.targets import TARGETS

CHUNK = 200


def main() -> int:
    """Return 0 if no case broke a promise."""
    options = _parse()
    targets = [target for target in TARGETS if options.only in (None, target.name)]
    if not targets:
        sys.exit(f"no target is called {options.only!r}; there are: {', '.join(target.name for target in TARGETS)}")
    if options.seed is not None:
        return _report([one for target in targets if (one := run_case(target, options.seed))])
    started_s = time.monotonic()
    shares = sum(target.share for target in targets)
    failed: list[Failed] = []
    for target in targets:
        cases = -(-options.cases * target.share // shares)
        found = list(_run(target, range(options.start, options.start + cases), options.jobs))
        failed += found
        print(f"{target.name}: {cases:,} cases, {len(found)} failed", flush=True)
    print(f"together in {time.monotonic() - started_s:.0f} s: {len(failed)} failed")
    return _report(failed[:5])


def _run(target: Target, seeds: range, jobs: int) -> Iterator[Failed]:
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    with multiprocessing.get_context("fork").Pool(jobs) as pool:
        for found in pool.imap(partial(_run_chunk, TARGETS.index(target)), chunks):
            yield from found


def _run_chunk(number: int, seeds: range) -> list[Failed]:
    return [failed for seed in seeds if (failed := run_case(TARGETS[number], seed))]


def _report(failed: list[Failed]) -> int:
    for one in failed:
        print(f"\n{one.target}, seed {one.seed}:", one.error, sep="\n")
    return 1 if failed else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="how many together (default: %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    parser.add_argument("--only", help="one target by its name")
    parser.add_argument("--seed", type=int, help="one case, with its traceback")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
