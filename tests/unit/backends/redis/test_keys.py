"""Names of the keys that belong to a stream."""

import pytest

from trio_alerts.backends.redis.keys import dead_letter_key, dropped_key, ledger_key, lock_key, lost_key


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        ("AlertStream", "{AlertStream}:dead"),
        ("{tenant}:alerts", "{tenant}:alerts:dead"),
        ("alerts:{7}", "alerts:{7}:dead"),
        ("open{", "{open{}:dead"),
        ("no{}tag", "{no{}tag}:dead"),
    ],
)
def test_the_dead_letter_stream_lies_beside_its_stream(stream: str, expected: str) -> None:
    """The braces put it into the stream's cluster slot; a name that has a slot of its own keeps it."""
    assert expected == dead_letter_key(stream)


def test_what_a_group_remembers_lies_beside_the_stream() -> None:
    """Each group has its own locks, ledger and log of what was lost; the log of drops belongs to the stream."""
    assert "{AlertStream}:lock:group:redrive" == lock_key("AlertStream", "group", "redrive")
    assert "{AlertStream}:ledger:group" == ledger_key("AlertStream", "group")
    assert "{AlertStream}:lost:group" == lost_key("AlertStream", "group")
    assert "{AlertStream}:dropped" == dropped_key("AlertStream")
