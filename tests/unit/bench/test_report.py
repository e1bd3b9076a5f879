from pathlib import Path

from bench.claims import RUNS
from bench.report import in_turns


def test_two_checkouts_take_turns() -> None:
    """Each run is done with both, and who begins changes: what warms up, or slows down, favours neither."""
    plans = {"none-512": RUNS["none-512"]}
    turns = [[(name, plan.code) for name, plan in in_turns(plans, Path("/other"), number)] for number in range(2)]
    theirs, ours = ("none-512 (other)", Path("/other")), ("none-512", plans["none-512"].code)
    assert [[theirs, ours], [ours, theirs]] == turns


def test_every_second_repetition_goes_backwards() -> None:
    """Who comes later meets a server that has done more: so nobody always does."""
    plans = {name: RUNS[name] for name in ("opensearch-512", "opensearch-512-go")}
    assert list(plans.items()) == in_turns(plans, None, 0)
    assert list(plans.items())[::-1] == in_turns(plans, None, 1)
