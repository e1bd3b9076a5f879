"""`python -m bench`: the table of claims; or `run`, `console`, `retention`. Exit code 5: a run is void."""

import argparse
import contextlib
import os
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import get_args

from bench.claims import RUNS, claims
from bench.console import RECORDS, visit
from bench.delays import parse_delay
from bench.limited import run_limited
from bench.places import JAVA_OPTIONS, StoreKind
from bench.plan import Plan, RunResult, VoidRunError
from bench.processes import ROOT, Program, built
from bench.report import in_turns, show_beside, show_claims, show_pruning, show_runs, show_visits, write
from bench.retention import prune
from bench.run import run
from tests.support.servers import OpenSearchServer, UnavailableError

# What OpenSearch has had before its first run, in batches of both sizes: Java goes on compiling what is used often, and
# after the first of these alone an alert of 512 workers still cost twice what it does in the end.
WARM_UP = ((2_000, 60_000), (512, 80_000))
VOID = 5
CANNOT = 4


def main() -> int:
    """Do what the command line says; return the exit code."""
    options = _arguments()
    try:
        if options.command == "console":
            _visit_console(options)
            return 0
        if options.command == "retention":
            _prune(options)
            return 0
        return _measure(options)
    except VoidRunError as fault:
        print(f"VOID: {fault}", file=sys.stderr)
        return VOID
    except UnavailableError as fault:
        print(fault, file=sys.stderr)
        return CANNOT


def _measure(options: argparse.Namespace) -> int:
    plans = {"run": _plan(options)} if options.command == "run" else _possible(options.only)
    load_before = os.getloadavg()[0]
    every: list[dict[str, RunResult]] = []
    with _server(plans.values()) as opensearch:
        for number in range(options.repeat):
            done: dict[str, RunResult] = {}
            for name, plan in in_turns(plans, options.beside, number):
                print(f"{name}: {plan} ...", file=sys.stderr, flush=True)
                done[name] = (run if plan.limit is None else run_limited)(plan, opensearch)
                print(f"  {done[name].ledger}", file=sys.stderr)
            every.append(done)
    runs = {name: [done[name] for done in every] for name in every[0]}
    show_runs(runs)
    if options.beside is not None:
        show_beside(runs)
    claimed = show_claims(claims(), every) if options.command != "run" else []
    if options.results is not None:
        command = shlex.join(["python", "-m", "bench", *sys.argv[1:]])
        write(options.results, command, load_before, runs, claimed)
    return 0


def _visit_console(options: argparse.Namespace) -> None:
    trees = [ROOT] if options.beside is None else [ROOT, options.beside.resolve()]
    for store, server in _stores(options):
        show_visits(store, visit(store, server, options.records, trees, options.repeat))


def _prune(options: argparse.Namespace) -> None:
    for store, server in _stores(options):
        for _ in range(options.repeat):
            show_pruning(store, options.records, prune(store, server, options.records))


def _stores(options: argparse.Namespace) -> Iterator[tuple[StoreKind, OpenSearchServer | None]]:
    """Yield each store with its server, which runs until the next one is asked for."""
    stores: list[StoreKind] = ["sqlite", "opensearch"] if options.store is None else [options.store]
    for store in stores:
        print(f"{options.command}: {store}, {options.records:,} records ...", file=sys.stderr, flush=True)
        with contextlib.nullcontext() if store == "sqlite" else OpenSearchServer(java_options=JAVA_OPTIONS) as server:
            yield store, server


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.set_defaults(command="claims", repeat=1, results=None, beside=None)
    parser.add_argument(
        "--only", type=_chosen, default=RUNS, metavar="RUN,…", help=f"of {', '.join(RUNS)}; a prefix is enough"
    )
    commands = parser.add_subparsers()
    one = commands.add_parser("run", help="one run")
    one.set_defaults(command="run")
    for each in (parser, one):
        each.add_argument("--repeat", type=int, default=argparse.SUPPRESS, help="how often; medians are shown")
        each.add_argument(
            "--beside",
            type=Path,
            default=argparse.SUPPRESS,
            help="another checkout: each run is done with both, in turns",
        )
        each.add_argument("--results", type=Path, default=argparse.SUPPRESS, help="folder for results.json and plots")
    one.add_argument("--program", choices=get_args(Program), default="trio_alerts", help="the program, or a measure")
    one.add_argument("--store", choices=["none", "sqlite", "opensearch"], default="none")
    one.add_argument("--workers", type=int, default=512, help="of all processes together")
    one.add_argument("--processes", type=int, default=1)
    one.add_argument("--streams", type=int, default=1, help="on a Cluster, shared out to the processes; no store")
    one.add_argument("--alerts", type=int, default=20_480, help="at least three rounds of the workers")
    one.add_argument("--delay", type=parse_delay, default="fixed:0.1", help="fixed:S, exponential:S or heavy:S")
    one.add_argument("--hanging", type=float, default=0.0, help="share of alerts whose first request hangs")
    one.add_argument("--channels", type=int, default=1, help="alerts take turns; figures leave the last out")
    one.add_argument("--sick", action="store_true", help="the last channel hangs")
    one.add_argument("--limit", type=float, help="the channel takes so many a second; needs --rate, not --store none")
    one.add_argument("--rate", type=float, help="alerts a second on a schedule; without it, a backlog")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the program")
    console = commands.add_parser("console", help="every page over many records, while alerts arrive")
    console.set_defaults(command="console", repeat=3)
    retention = commands.add_parser("retention", help="many old records are deleted, while alerts arrive")
    retention.set_defaults(command="retention")
    for each in (console, retention):
        each.add_argument("--store", choices=["sqlite", "opensearch"], help="only this one")
        each.add_argument("--records", type=int, default=RECORDS, help="that are there (default: %(default)s)")
    retention.add_argument("--repeat", type=int, default=argparse.SUPPRESS, help="how often (1)")
    console.add_argument("--repeat", type=int, default=argparse.SUPPRESS, help="how often each page is visited (3)")
    console.add_argument("--beside", type=Path, default=argparse.SUPPRESS, help="another checkout, visited in turns")
    options = parser.parse_args()
    if options.command == "claims" and options.results is None and options.only is RUNS and options.beside is None:
        options.results = ROOT / "bench" / "results"
    return options


def _plan(options: argparse.Namespace) -> Plan:
    return Plan(
        program=options.program,
        store=options.store,
        workers=options.workers,
        alerts=options.alerts,
        delay=options.delay,
        processes=options.processes,
        streams=options.streams,
        rate=options.rate,
        hanging=options.hanging,
        channels=options.channels,
        sick=options.sick,
        limit=options.limit,
        settings=dict(one.split("=", 1) for one in options.set),
    )


def _chosen(names: str) -> dict[str, Plan]:
    prefixes = tuple(names.split(","))
    if unknown := [prefix for prefix in prefixes if not any(name.startswith(prefix) for name in RUNS)]:
        raise argparse.ArgumentTypeError(f"there is no run {', '.join(unknown)}; there are {', '.join(RUNS)}")
    return {name: plan for name, plan in RUNS.items() if name.startswith(prefixes)}


def _possible(plans: Mapping[str, Plan]) -> Mapping[str, Plan]:
    """Leave out, with one line, what cannot be run on this machine."""
    try:
        if any(plan.program == "go" for plan in plans.values()):
            built()
    except UnavailableError as fault:
        print(f"left out: {', '.join(name for name in plans if plans[name].program == 'go')}: {fault}", file=sys.stderr)
        return {name: plan for name, plan in plans.items() if plan.program != "go"}
    return plans


@contextlib.contextmanager
def _server(plans: Iterable[Plan]) -> Iterator[OpenSearchServer | None]:
    """Start OpenSearch if a run needs it: one server for all, so that both programs meet the same warm one."""
    if not any(plan.store == "opensearch" for plan in plans):
        yield None
        return
    with OpenSearchServer(java_options=JAVA_OPTIONS) as server:
        for workers, alerts in WARM_UP:
            run(Plan("trio_alerts", "opensearch", workers, alerts), server)
        yield server


if __name__ == "__main__":
    sys.exit(main())
