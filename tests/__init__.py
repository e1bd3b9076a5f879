import pytest

pytest.register_assert_rewrite("tests.contracts.store", "tests.contracts.stream", "tests.support.raw_receiver")
