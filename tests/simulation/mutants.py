"""Show that the simulation has teeth: every mistake of `mutations.py` is made once, on a copy, and must be noticed.

`python -m tests.simulation.mutants` prints which seed or test noticed which; exit code 1 if one survives.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.simulation.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "trio_alerts"
BOUND_S = 600.0  # for one mutant: 2,000 histories take a fifth of it


def main() -> int:
    """Return 0 if every mistake was noticed, and the program as it is breaks no promise."""
    options = _parse()
    chosen = [one for one in MUTATIONS if options.only in one.name]
    width = max(len(one.name) for one in chosen)
    survivors = 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary, ThreadPoolExecutor(options.jobs) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.jobs):
            copies.put(_copy(Path(temporary) / str(number)))

        def judged(mutation: Mutation) -> tuple[Mutation, str, float]:
            started_s, copy = time.monotonic(), copies.get()
            try:
                return mutation, judge(mutation, copy, options.seeds), time.monotonic() - started_s
            finally:
                copies.put(copy)

        for mutation, noticed, took_s in pool.map(judged, chosen):
            survivors += noticed.startswith(("SURVIVED", "NOT APPLICABLE"))
            print(f"{mutation.name:<{width}}  {took_s:6.1f} s  {noticed}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} not noticed")
    return 1 if survivors else 0


def judge(mutation: Mutation, copy: Path, seeds: int) -> str:
    """Make a mistake in a copy, say what noticed it, and undo it."""
    file = copy / PACKAGE / mutation.file
    text = file.read_text()
    if text.count(mutation.old) != 1:
        return f"NOT APPLICABLE: {mutation.file} has {text.count(mutation.old)} times: {mutation.old.strip()[:100]}"
    file.write_text(text.replace(mutation.old, mutation.new))
    try:
        if mutation.test:
            return _by_test(mutation.test, copy)
        return _by_seed(copy, seeds)
    finally:
        file.write_text(text)


def _by_seed(copy: Path, seeds: int) -> str:
    command = [sys.executable, "-m", "tests.simulation", "--seeds", str(seeds), "--jobs", "1", "--first"]
    ended = _run(command, copy)
    lines = ended.stdout.splitlines()
    if ended.returncode == 0:
        return f"SURVIVED {seeds} seeds"
    if lines and lines[0].startswith("seed "):
        return lines[0][:200]
    return f"NOT APPLICABLE: the simulation failed: {ended.stderr.strip().splitlines()[-1:]}"


def _by_test(test: str, copy: Path) -> str:
    ended = _run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test], copy)
    if ended.returncode == 0:
        return f"SURVIVED {test}"
    if ended.returncode == 1:
        return f"test {test.partition('::')[2]}"
    return f"NOT APPLICABLE: pytest ended with {ended.returncode}: {ended.stdout.strip().splitlines()[-1:]}"


def _run(command: list[str], copy: Path) -> subprocess.CompletedProcess[str]:
    # The copy's package must win over the installed one; bytecode is not kept, since a mistake may be undone within
    # the second that bytecode is dated by.
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=BOUND_S
    )


def _copy(to: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", ".*", "real")
    for name in (PACKAGE, "tests"):
        shutil.copytree(ROOT / name, to / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", to)
    where = _run([sys.executable, "-c", f"import {PACKAGE}; print({PACKAGE}.__file__)"], to).stdout.strip()
    if not Path(where).is_relative_to(to):
        raise RuntimeError(f"the copy is not what Python imports: {where}")
    return to


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, help="how many histories a mutant must survive")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many mutants at once")
    parser.add_argument("--only", default="", help="only mutants whose name has this in it")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
