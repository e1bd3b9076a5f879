"""Names of the keys that belong to a stream."""

from itertools import product

import pytest

from trio_alerts.backends.redis import keys
from trio_alerts.backends.redis.keys import dead_letter_key, dropped_key, ledger_key, lock_key, lost_key
from trio_alerts.settings.kinds import CHANNEL_NAME, NAME, Kind


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


def allowed(kind: Kind, texts: list[str]) -> list[str]:
    """Return those of these texts that are names of this kind by the settings."""
    names: list[str] = []
    for text in texts:
        try:
            names.append(str(kind.check(text)))
        except ValueError:
            continue
    return names


def test_no_two_things_share_a_key() -> None:
    """Whatever streams, groups and channels are called, as far as the settings allow it: colons, names of our own."""
    texts = ["a", "b", "a:b", "b:a", ":", "a:", "dead", "due", "queue", "queue:a", "due:a:b", "{a}b"]
    streams, groups, channels = ["a", "b", "a:b", "{b}a"], allowed(NAME, texts), allowed(CHANNEL_NAME, texts)
    assert (texts, ["a", "b", "dead", "due", "queue"]) == (groups, channels)
    of_streams = (keys.dead_letter_key, keys.dropped_key)
    of_groups = (keys.lost_key, keys.ledger_key, keys.deployment_key, keys.silences_key, keys.due_key, keys.sweep_key)
    of_channels = (keys.queue_key, keys.probe_key, keys.gate_key, keys.lock_key)  # a lock's name is like a channel's
    named = [
        *(key(stream) for key, stream in product(of_streams, streams)),
        *(key(*names) for key, *names in product(of_groups, streams, groups)),
        *(key(*names) for key, *names in product(of_channels, streams, groups, channels)),
        *streams,
    ]
    assert len(named) == len(set(named))
