"""All cells, by what is harmed."""

from collections.abc import Mapping
from dataclasses import replace

from tests.crash import (
    canaries,
    chaos,
    configurations,
    gates,
    migrations,
    outages_of_receivers,
    outages_of_redis,
    outages_of_the_store,
    processes,
    reloads,
    retention,
    silences,
)
from tests.crash.cell import Cell


def _on_both_stores(cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Return cells, which use OpenSearch, and the same ones on SQLite."""
    twins = (
        replace(cell, name=f"{cell.name}-sqlite", about=f"`{cell.name}` on SQLite", store="sqlite") for cell in cells
    )
    return (*cells, *twins)


FAMILIES: Mapping[str, tuple[Cell, ...]] = {
    "Worker processes": processes.CELLS,
    "Redis": outages_of_redis.CELLS,
    "OpenSearch": outages_of_the_store.CELLS,
    "Receivers": outages_of_receivers.CELLS,
    "Silences": silences.CELLS,
    "Gates": gates.CELLS,
    "Configuration": (*configurations.CELLS, *_on_both_stores(reloads.CELLS)),
    "Retention": _on_both_stores(retention.CELLS),
    "Migration": migrations.CELLS,
    "Canary": _on_both_stores(canaries.CELLS),
    "Chaos": chaos.CELLS,
}
CELLS: Mapping[str, Cell] = {cell.name: cell for cells in FAMILIES.values() for cell in cells}
