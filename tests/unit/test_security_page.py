"""The threat model claims nothing that no test keeps."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "| kept by |" not in line]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def test_each_claim_names_its_test() -> None:
    """A row without one would be a hope."""
    assert len(ROWS) > 40
    assert [] == [row for row in ROWS if not re.search(r"\| `tests/[\w/]+\.py::test_\w+`(, `[^`]+`)* \|$", row)]


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_the_tests_are_there(file: str, test: str) -> None:
    """Under the name that the page has, in the file that it names."""
    assert re.search(rf"^ *(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
