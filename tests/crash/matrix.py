"""All cells, by what is harmed."""

from collections.abc import Mapping

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

FAMILIES: Mapping[str, tuple[Cell, ...]] = {
    "Worker processes": processes.CELLS,
    "Redis": outages_of_redis.CELLS,
    "OpenSearch": outages_of_the_store.CELLS,
    "Receivers": outages_of_receivers.CELLS,
    "Silences": silences.CELLS,
    "Gates": gates.CELLS,
    "Configuration": (*configurations.CELLS, *reloads.CELLS),
    "Retention": retention.CELLS,
    "Migration": migrations.CELLS,
    "Canary": canaries.CELLS,
    "Chaos": chaos.CELLS,
}
CELLS: Mapping[str, Cell] = {cell.name: cell for cells in FAMILIES.values() for cell in cells}
