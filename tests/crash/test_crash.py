"""The short form of `python -m tests.crash`: cells that between them take every way through a crash."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest

from tests.crash.matrix import CELLS
from tests.crash.report import line
from tests.crash.run import run_cell
from tests.crash.servers import Servers
from tests.support.obtain import give_up
from tests.support.servers import UnavailableError


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers


@pytest.mark.parametrize(
    ("name", "store"),
    [
        ("kill-after-persist", "sqlite"),
        ("kill-in-retries", "sqlite"),
        ("sigterm-twice", "sqlite"),
        ("redis-restart", "sqlite"),
        ("redis-setid", "sqlite"),
        ("opensearch-503", "opensearch"),
    ],
)
def test_a_cell_is_balanced(name: str, store: Literal["sqlite", "opensearch"], servers: Servers) -> None:
    """Nothing is lost, and no repeat is without its mark."""
    try:
        result = run_cell(replace(CELLS[name], store=store), servers)
    except UnavailableError as error:
        give_up(str(error))
    assert [] == result.faults, line(result)
