"""The directions of imports: the core knows no backend, and only backends know the libraries behind them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "trio_alerts"

# A room is a module of the package, or one of its folders. Each imports only from rooms of the lines above its own, and
# from itself: pure data and decisions first, then what reaches out, then the tasks, then what puts them together.
FLOORS = [
    {
        "errors",
        "clock",
        "text",
        "times",
        "exact_json",
        "pages",
        "outcome",
        "stop_signals",
        "redaction",
        "record_ids",
        "journal",
        "service_manager",
    },
    {"backoff", "http", "log_sink"},
    {"delivery", "event", "deployment", "secret", "batcher", "log"},
    {"record", "ledger", "record_state", "event_schema"},
    {"transitions", "retention"},
    {"held_back"},
    {"alert"},
    {"ports", "settings"},
    {
        "meter",
        "reminders",
        "routing",
        "channels",
        "backends",
        "backends.redis",
        "backends.opensearch",
        "backends.sqlite",
    },
    {"pipeline", "store", "operations", "shared_settings"},
    {"tracing", "supervisor", "reloads"},
    {"assembly"},
    {"demo", "web"},
    {"processes"},
    {"commands"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# The same inside the pipeline: what its tasks share, the four steps, the tasks, and the service that starts them.
PIPELINE = [
    {"fault_points", "uptime", "turn", "in_flight", "agenda", "channel_health", "newer_records", "bulkhead"},
    {"outage", "retired"},
    {"patient", "channel_gate"},
    {"state"},
    {"silences", "admission", "gates", "retention"},
    {"claim"},
    {"attempt", "quarantine"},
    {"process"},
    {"worker", "acknowledger", "keepalive", "guard", "janitor", "reporter", "pulse"},
    {"reader", "backlog", "refund", "drainer"},
    {"sweep"},
    {"redriver"},
    {"claimer"},
    {"service"},
]
STEP = {name: number for number, names in enumerate(PIPELINE) for name in names}

BORDERS = {
    "redis": "backends.redis",
    "hiredis": "backends.redis",
    "opensearchpy": "backends.opensearch",
    "sqlite3": "backends.sqlite",
    "httptools": "http",
    "opentelemetry": "tracing",
}


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"}


def imports(path: Path) -> Iterator[str]:
    """Yield what a file imports; of our own package, its modules without the package's name in front."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{path}: a relative import"
            where = (node.module or "").removeprefix("trio_alerts").removeprefix(".")
            for alias in node.names:
                module = f"{where}.{alias.name}".removeprefix(".")
                yield module if module in MODULES else where


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "backends" and len(parts) > 2 else parts[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_one_way(module: str) -> None:
    """A module imports from rooms above its own: the core nothing of a backend, a backend nothing of a task."""
    room = room_of(module)
    assert room in FLOOR, f"{module} has no place in the house"
    for imported in imports(MODULES[module]):
        if imported not in MODULES or room_of(imported) == room:
            continue
        below_a_backend = room.startswith("backends.") and room_of(imported) == "backends"
        assert below_a_backend or FLOOR[room_of(imported)] < FLOOR[room], f"{module} imports {imported}"


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) == "pipeline"])
def test_in_the_pipeline_too(module: str) -> None:
    """What the tasks share knows no step, a step no task, and a task not the service."""
    name = module.partition(".")[2]
    assert name in STEP, f"{module} has no place in the pipeline"
    inner = [imported.partition(".")[2] for imported in imports(MODULES[module]) if imported.startswith("pipeline.")]
    assert [] == [other for other in inner if STEP[other] > STEP[name]]


@pytest.mark.parametrize("module", MODULES)
def test_each_library_has_one_border(module: str) -> None:
    """redis, opensearchpy, sqlite3 and httptools are imported in one room each."""
    for imported in imports(MODULES[module]):
        border = BORDERS.get(imported.partition(".")[0])
        assert border is None or border == room_of(module), f"{module} imports {imported}"
