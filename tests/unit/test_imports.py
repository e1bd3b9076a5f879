"""The directions of imports: the core knows no backend, and only backends know the libraries behind them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "trio_alerts"
BORDER_LIBRARIES = {"redis", "hiredis", "opensearchpy", "sqlite3", "aiohttp", "httptools"}

# Each module imports only from modules to its left, or from its own group: pure data and decisions first, then what
# the tasks share, then the tasks, then what puts them together.
LAYERS = [
    {
        "errors",
        "clock",
        "retry",
        "fault",
        "batcher",
        "printable",
        "duration",
        "hosts",
        "networks",
        "uptime",
        "stop_signals",
        "redaction",
    },
    {"deployment"},
    {"delivery"},
    {"alert", "ledger"},
    {"ports", "in_flight", "outage", "channel_health", "turn"},
    {"secret"},
    {"setting_urls"},
    {"setting_kinds"},
    {"settings"},
    {"settings_source"},
    {"routing"},
    {"pipeline"},
    {"notify"},
    {"process"},
    {"worker", "keepalive", "guard", "janitor", "reporter"},
    {"reader", "redriver", "refund"},
    {"claimer"},
    {"service"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
HTTP = ("http_answer", "http_pool", "http_socket", "http_transport")

# They put together what the others are.
EDGE = {"assembly", "log", "log_sink", "commands", "demo", "supervisor", "__main__", "__init__"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert 0 == node.level, f"{path}: a relative import"
            yield node.module or ""


MODULES = [(".".join(path.relative_to(PACKAGE).with_suffix("").parts), path) for path in sorted(PACKAGE.rglob("*.py"))]


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_imports_point_one_way(name: str, path: Path) -> None:
    """A module imports what stands below it: the core nothing of a backend, a backend nothing of a task."""
    top = name.partition(".")[0]
    wanted = [imported for imported in imports(path) if imported.startswith("trio_alerts.")]
    inner = {imported.split(".")[1] for imported in wanted}
    if top in EDGE:
        return
    if top == "backends":
        below = {
            "errors",
            "retry",
            "batcher",
            "networks",
            "printable",
            "redaction",
            *LAYERS[1],
            *LAYERS[2],
            *LAYERS[3],
            *LAYERS[4],
            "secret",
            "settings",
        }
        assert inner <= {"backends", *below}, name
    elif top == "channels":
        allowed = {f"trio_alerts.backends.{name}" for name in ("address_check", *HTTP)}
        assert inner <= {"backends", "ports", "retry", "redaction"}, name
        assert {imported for imported in wanted if imported.startswith("trio_alerts.backends")} <= allowed, name
    else:
        assert top in RANK, f"{name} has no place in the layers"
        assert all(RANK.get(imported, 99) <= RANK[top] for imported in inner), f"{name} imports {inner}"


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_only_backends_know_the_libraries_behind_them(name: str, path: Path) -> None:
    """redis, opensearchpy, sqlite3 and the like are imported in `backends/` alone; httpx there and in channels."""
    used = {imported.partition(".")[0] for imported in imports(path)}
    if not name.startswith("backends."):
        assert not used & BORDER_LIBRARIES, name
    if not name.startswith(("backends.", "channels.", "demo")):
        assert "httpx" not in used, name
