"""The rules of a queue against each other, in every order of steps: they hold together, and none can be left out."""

import pytest

from tests.simulation.queue_model import RULES, explore

WITH_LOSSES = {
    "the record comes before XACK": "it never ends",
    "an entry that finds its record waiting is not sent": "sent although the gate granted nothing",
    "a claim is a conditional write": "taken from a living owner",
    "the record decides, not the hint": "delivered, and then something else",
    "what is still pending is left to its holder": "taken from a living owner",
    "a takeover counts a doubt": "sent again without a doubt marked",
    "a sweep finds what has no hint": "it never ends",
}
WITHOUT_LOSSES = {  # the sweep would make them good, a minute late
    "the hint comes before XACK": "it never ends",
    "an entry that finds its record waiting writes the hint too": "it never ends",
    "a hint that is taken stays, for a lease": "it never ends",
    "a hint is removed only if nobody has written it since": "it never ends",
    "an operator writes the record before the hint": "it never ends",
}


def test_the_rules_hold_in_every_order_of_steps_although_hints_are_lost() -> None:
    """A process dies anywhere, hints vanish and fail to be written: nobody sends what is not theirs, and it ends."""
    states, broken = explore()
    assert not broken
    assert states > 10_000


def test_nothing_waits_for_the_sweep_while_no_hint_is_lost() -> None:
    """A process dies anywhere, and the hints alone bring the alert to its end."""
    states, broken = explore(losses=False)
    assert not broken
    assert states > 9_000


@pytest.mark.parametrize("rule", sorted(RULES))
def test_no_rule_can_be_left_out(rule: str) -> None:
    """Without any one of the rules, some order of steps breaks a promise: the one that the rule is for."""
    losses = rule in WITH_LOSSES
    _, broken = explore(RULES - {rule}, losses=losses)
    wanted = {**WITH_LOSSES, **WITHOUT_LOSSES}[rule]
    assert broken.startswith(wanted)
