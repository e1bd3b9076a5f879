"""What the demo emits: the example alerts again and again, each as if it had just happened, and a few that are none."""

import datetime as dt
from collections.abc import Iterator
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any

import trio_alerts
from trio_alerts.errors import StartError
from trio_alerts.event import MAX_PAYLOAD_BYTES
from trio_alerts.exact_json import decode_object, encode

Fields = dict[Any, Any]  # of an entry, all bytes: redis-py's own types for these cannot be met by a plain dict


def read_examples() -> list[dict[str, Any]]:
    """Return the alerts of `examples/alerts.jsonl`; the wheel carries a copy of it.

    Raises:
        StartError: The installation is not whole.
    """
    packaged = resources.files("trio_alerts.demo") / "alerts.jsonl"
    in_the_repository = Path(trio_alerts.__file__).parents[1] / "examples" / "alerts.jsonl"
    for place in (packaged, in_the_repository):
        if place.is_file():
            return [decode_object(line) for line in place.read_bytes().splitlines()]
    raise StartError(f"the sample alerts are missing: neither {packaged} nor {in_the_repository} exists")


def sample_entries(alerts: int, examples: list[dict[str, Any]]) -> Iterator[Fields]:
    """Yield the fields of so many alerts, and evenly among them those of `MALFORMED` entries that are none."""
    malformed = malformed_entries(examples[0])
    every = max(1, alerts // (MALFORMED + 1))
    for number in range(alerts):
        if number and number % every == 0:
            yield from islice(malformed, 1)
        yield {b"event": encode(renewed(examples[number % len(examples)], number))}
    yield from malformed


def renewed(example: dict[str, Any], number: int) -> dict[str, Any]:
    """Return an example as a new alert: an `alert_id` of its own, and now as its time."""
    now = dt.datetime.now(dt.UTC)
    alert = example | {"alert_id": f"demo-{number:05}", "occurred_at": now, "emitted_at": now}
    alert.pop("supersedes", None)  # names another example
    alert.pop("expires_at", None)
    return alert


def malformed_entries(example: dict[str, Any]) -> Iterator[Fields]:
    """Yield what a broken producer might write; none of it can ever be an alert."""
    whole = encode(example)
    yield {b"alert": whole}  # the wrong field
    yield {b"event": whole[: len(whole) // 2]}  # cut in the middle
    yield {b"event": encode({name: value for name, value in example.items() if name != "view"})}
    yield {b"event": encode(example | {"severity": "urgent"})}
    yield {b"event": encode(example | {"description": "x" * MAX_PAYLOAD_BYTES})}


MALFORMED = 5  # what `malformed_entries` yields
