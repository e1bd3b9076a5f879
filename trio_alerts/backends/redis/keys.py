"""Names of the keys that belong to a stream, all in its own cluster slot.

No two things share a key, although groups may have colons in their names: what follows a group's name, a channel's or a
lock's, has none. The one exception, the streams `a` and `{a}`, is refused by the settings.
"""


def dead_letter_key(stream: str) -> str:
    """Name the dead-letter stream of a stream."""
    return _beside(stream, "dead")


def lock_key(stream: str, group: str, name: str) -> str:
    """Name a lock of one group: other groups of the stream do other work."""
    return _beside(stream, f"lock:{group}:{name}")


def dropped_key(stream: str) -> str:
    """Name the log (a stream) of what operators dropped from the dead-letter stream."""
    return _beside(stream, "dropped")


def lost_key(stream: str, group: str) -> str:
    """Name the log (a stream) of entries that were deleted while they were pending in the group."""
    return _beside(stream, f"lost:{group}")


def ledger_key(stream: str, group: str) -> str:
    """Name the hash of what the group has to remember.

    Its fields: `start`, the ID behind which it began; `lost`, how many entries were lost unread; `told`, how many of
    them somebody was told of.
    """
    return _beside(stream, f"ledger:{group}")


def deployment_key(stream: str, group: str) -> str:
    """Name the key that holds the identity of the deployment that the group of a stream belongs to."""
    return _beside(stream, f"deployment:{group}")


def silences_key(stream: str, group: str) -> str:
    """Name the hash of the silences of one group, and of their version."""
    return _beside(stream, f"silences:{group}")


def due_key(stream: str, group: str) -> str:
    """Name the sorted set of the stream's records by when somebody has to look at them again."""
    return _beside(stream, f"due:{group}")


def queue_key(stream: str, group: str, channel: str) -> str:
    """Name the sorted set of the stream's records that wait for a channel, the most severe first, then the oldest."""
    return _beside(stream, f"queue:{group}:{channel}")


def probe_key(stream: str, group: str, channel: str) -> str:
    """Name the sorted set of the same records by how often they were tried, then as in the queue."""
    return _beside(stream, f"probe:{group}:{channel}")


def sweep_key(stream: str, group: str) -> str:
    """Name the hash of when the group last swept the store: `began`, `ended`, and `since` without a break, in ms."""
    return _beside(stream, f"sweep:{group}")


def gate_key(stream: str, group: str, channel: str) -> str:
    """Name the hash of a channel's gate; the stream is the alphabetically first one."""
    return _beside(stream, f"gate:{group}:{channel}")


def canaries_key(stream: str) -> str:
    """Name the hash of the stream's entries that are canaries, of whatever group."""
    return _beside(stream, "canaries")


def canary_key(stream: str, group: str) -> str:
    """Name the hash of how the canary of one group stands."""
    return _beside(stream, f"canary:{group}")


def _beside(stream: str, suffix: str) -> str:
    """A name that chooses its slot by braces keeps them, any other is put into braces."""
    opening = stream.find("{")
    has_tag = opening >= 0 and stream.find("}", opening) > opening + 1
    return f"{stream}:{suffix}" if has_tag else f"{{{stream}}}:{suffix}"
