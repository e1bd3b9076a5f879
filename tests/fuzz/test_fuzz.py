"""The short form of `make fuzz`: some generated input for every border."""

import pytest

from tests.fuzz.target import Target, run_case
from tests.fuzz.targets import TARGETS

CASES = 300


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name.replace(" ", "-"))
def test_generated_input_breaks_no_promise(target: Target) -> None:
    """Whatever comes from outside, the program neither crashes nor hangs, and loses nothing."""
    for seed in range(CASES):
        failed = run_case(target, seed)
        assert failed is None, f"{target.name}, seed {seed}: {failed.error}"
