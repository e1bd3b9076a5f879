"""How `pytest -n` spreads the tests, which decides how many servers are started."""

import pytest

from tests.support.spreading import Spreading

pytestmark = pytest.mark.support


@pytest.mark.parametrize(
    ("together", "test"),
    [
        ("opensearch3", "tests/real/test_run.py::test_a_run[valkey+opensearch3]"),
        ("opensearch3", "tests/real/test_opensearch_client.py::test_a_search[opensearch3-1::2]"),
        ("opensearch2", "tests/real/test_opensearch_client.py::test_a_search[opensearch2-1::2]"),
        ("opensearch3", "tests/real/test_servers.py::test_a_given_opensearch_is_used"),
        ("tests/real/test_run.py", "tests/real/test_run.py::test_a_run[valkey+sqlite]"),
        ("tests/unit/backends/opensearch/x.py", "tests/unit/backends/opensearch/x.py::TestBulk::test_a_bulk"),
    ],
)
def test_tests_that_share_a_server_stay_together(
    together: str, test: str, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each OpenSearch has one process that starts it; every other file is one process's, with its module's fixtures."""
    monkeypatch.setattr(pytestconfig.option, "tx", ["popen"])

    assert together == Spreading(pytestconfig)._split_scope(test)
