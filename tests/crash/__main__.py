"""The crash matrix: real processes, real servers, and receivers that keep their own ledger.

`python -m tests.crash` runs all cells, prints a line for each, and ends with 1 if any of them does not balance.
"""

import argparse
import sys
from pathlib import Path

from tests.crash.matrix import CELLS
from tests.crash.report import head, line, page
from tests.crash.run import CellResult, run_cell
from tests.crash.servers import Servers

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def main() -> int:
    """Run what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the cells and run none")
    parser.add_argument("--only", action="append", metavar="NAME", help="run the cells whose name contains this")
    parser.add_argument("--write", action="store_true", help=f"write the table to docs/{PAGE.name}; not with --only")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write is for the whole matrix")
    wanted = [cell for name, cell in CELLS.items() if not options.only or any(part in name for part in options.only)]
    if options.list:
        print("\n".join(f"{cell.name:24} {cell.about}" for cell in wanted))
        return 0
    if not wanted:
        parser.error(f"no cell is called {' or '.join(options.only)}; --list names them")
    results: dict[str, CellResult] = {}
    print(head(), flush=True)
    with Servers() as servers:
        for cell in wanted:
            results[cell.name] = run_cell(cell, servers)
            print(line(results[cell.name]), flush=True)
        if options.write:
            PAGE.write_text(page(results, servers))
    bad = sum(bool(result.faults) for result in results.values())
    print(f"\n{len(results) - bad} of {len(results)} cells are balanced")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
