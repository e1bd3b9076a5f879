import pytest

pytest.register_assert_rewrite("tests.store_contract", "tests.stream_contract", "tests.support.raw_receiver")
