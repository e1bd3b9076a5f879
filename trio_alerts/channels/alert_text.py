"""An alert as people read it in a chat, a mail or on a pager: lines of text in which nothing is hidden. Pure."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from trio_alerts.exact_json import decode_object
from trio_alerts.ports.channel import Message
from trio_alerts.text import one_line

REPEAT = "This may be a repeat: nobody saw whether an earlier attempt arrived."

MOST_FACTS = 24  # a message is read at a glance; `show ID` has the rest
_FACTS = (
    *("view", "scope", "rule_id", "source", "occurred_at", "network", "block_number", "tx_hash", "protocol"),
    *("contract", "value_usd", "threshold", "confidence", "alert_id"),
)
_OWN_NAMES = frozenset({*_FACTS, "record", "description", "note"})
_OVER = frozenset({"resolved", "retracted"})


class AlertText(NamedTuple):
    """What people read of an alert.

    Args:
        headline: One line: how severe it is, and its title.
        facts: Names and values, each one line.
        description: Any number of lines, or nothing.
        links: As the producer gave them, each one line.
        note: That it may be a repeat, or nothing.
    """

    headline: str
    facts: list[tuple[str, str]]
    description: str
    links: list[str]
    note: str

    def lines(self) -> Iterator[str]:
        """Yield all of it as lines of plain text."""
        yield self.headline
        if self.note:
            yield self.note
        yield from (f"{name}: {value}" for name, value in self.facts)
        yield from ("", *self.description.split("\n")) if self.description else ()
        yield from ("", *self.links) if self.links else ()


def read_alert(message: Message) -> AlertText:
    """Read what a channel sends; what is missing in it is left out."""
    event = decode_object(message.payload)
    severity = str(event.get("severity", "alert"))
    over = f"{event['status']}: " if event.get("status") in _OVER else ""
    facts = [(name, _line(event[name])) for name in _FACTS if event.get(name) not in (None, "")]
    labels = event.get("labels")
    if isinstance(labels, dict):
        # As in matchers: a label must not pass for a field of the alert, nor take the place of one.
        facts += [
            (f"labels.{name}" if name in _OWN_NAMES else _line(name), _line(value)) for name, value in labels.items()
        ]
    links = event.get("links")
    return AlertText(
        headline=f"[{one_line(severity.upper())}] {over}{_line(event.get('title')) or 'an alert without a title'}",
        facts=[*facts[:MOST_FACTS], ("record", one_line(message.id))],
        description=visible(str(event.get("description") or "")),
        links=[_line(link) for link in links] if isinstance(links, list) else [],
        note=REPEAT if message.may_be_repeat else "",
    )


def visible(text: str) -> str:
    """Return text of several lines with everything spelled out that hides, moves or turns around other text."""
    return "\n".join(map(one_line, text.replace("\r\n", "\n").split("\n")))


def cut(text: str, limit: int, size: Callable[[str], int]) -> str:
    """Return the beginning of a text that is too long, with "…" at its end; `size` measures it in a service's unit."""
    if size(text) <= limit:
        return text
    kept = text[:limit]
    while (excess := size(kept) + size("…") - limit) > 0:
        kept = kept[: -max(1, excess // 4)]  # a character has at most four units, as bytes of UTF-8
    return kept + "…"


def utf16_units(text: str) -> int:
    """Return how long a text is as JavaScript and Java count it: many characters outside of the BMP count twice."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def utf8_bytes(text: str) -> int:
    """Return how many bytes a text has in UTF-8."""
    return len(text.encode())


def _line(value: Any) -> str:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return "" if value is None else one_line(str(value))
