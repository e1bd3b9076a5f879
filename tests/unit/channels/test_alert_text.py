from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from trio_alerts.channels.alert_text import REPEAT, cut, read_alert, utf8_bytes, utf16_units, visible
from trio_alerts.ports.channel import Message


def message(may_be_repeat: bool = False, **event: Any) -> Message:
    return Message("17-0", msgspec.json.encode(event), may_be_repeat=may_be_repeat)


@pytest.mark.parametrize("size", [len, utf16_units, utf8_bytes])
@pytest.mark.parametrize("text", ["", "a" * 50, "é" * 50, "💥" * 50, "a💥é" * 20])
@pytest.mark.parametrize("limit", [3, 4, 10, 49, 50, 51, 99, 100, 101, 200])
def test_a_text_is_cut_in_the_unit_of_its_service(size: Callable[[str], int], text: str, limit: int) -> None:
    """It is as long as allowed, and never ends with half a character."""
    shown = cut(text, limit, size)

    assert size(shown) <= limit
    if size(text) <= limit:
        assert text == shown
    else:
        assert shown.endswith("…")
        assert text.startswith(shown[:-1])
        assert limit - size(shown) < 4  # not a whole character more would have fitted


def test_nothing_hides_in_a_text() -> None:
    """What turns text around, has no width or controls a terminal is spelled out; lines stay lines."""
    assert "a\\u202eb\\u200bc\\x1b[31m\nnext\\r" == visible("a\u202eb\u200bc\x1b[31m\r\nnext\r")


def test_people_read_the_title_first() -> None:
    """Then that it may be a repeat, the facts, what it is about, and where to go."""
    lines = list(
        read_alert(
            message(
                may_be_repeat=True,
                severity="critical",
                title="Position\nliquidatable",
                view="Lending",
                value_usd=1234567.890123,
                labels={"team": "risk"},
                description="First.\nSecond.",
                links=["https://example.org/1"],
            )
        ).lines()
    )

    assert [
        "[CRITICAL] Position\\nliquidatable",
        REPEAT,
        "view: Lending",
        "value_usd: 1234567.890123",
        "team: risk",
        "record: 17-0",
        "",
        "First.",
        "Second.",
        "",
        "https://example.org/1",
    ] == lines


def test_a_number_of_nothing_is_a_fact() -> None:
    """A confidence of 0 is what people have to know."""
    facts = read_alert(message(title="x", block_number=0, confidence=0, value_usd=0.0)).facts

    assert [("block_number", "0"), ("value_usd", "0.0"), ("confidence", "0"), ("record", "17-0")] == facts


def test_a_label_passes_for_no_field() -> None:
    """Where names must differ, as in PagerDuty's details, neither takes the other's place."""
    facts = read_alert(message(view="Lending", labels={"view": "other", "record": "1-0", "team": "risk"})).facts

    assert [
        ("view", "Lending"),
        ("labels.view", "other"),
        ("labels.record", "1-0"),
        ("team", "risk"),
        ("record", "17-0"),
    ] == facts


def test_an_alert_that_is_over_says_so() -> None:
    """Nobody is to act on it."""
    assert "[HIGH] resolved: x" == read_alert(message(severity="high", title="x", status="resolved")).headline


@pytest.mark.parametrize("event", [{}, {"labels": [1], "links": "x", "title": 7, "severity": None}])
def test_whatever_it_is_it_can_be_read(event: dict[str, Any]) -> None:
    """A record that somebody changed is still sent."""
    assert list(read_alert(message(**event)).lines())
