"""Files of alerts: which of the three forms it is, what is sent, and where mistakes are."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_alerts.operations.alert_file import FoundAlert, Problem, read_alerts

EXAMPLES = Path(__file__).parents[3] / "examples" / "alerts.jsonl"


def event(alert_id: str, **fields: object) -> dict[str, object]:
    required = {"rule_id": "r", "view": "v", "scope": "s", "severity": "high", "title": "t"}
    return {"alert_id": alert_id, **required, "occurred_at": "2026-11-16T08:00:00Z", **fields}


def line(alert_id: str, **fields: object) -> bytes:
    return msgspec.json.encode(event(alert_id, **fields))


def places(text: bytes) -> list[str]:
    alerts, problems = read_alerts(text)
    assert [] == problems
    return [f"{alert.place}: {alert.alert_id}" for alert in alerts]


def problems(text: bytes) -> list[Problem]:
    return read_alerts(text)[1]


def pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (line("a"), ["line 1: a"]),
        (line("a") + b"\n" + line("b"), ["line 1: a", "line 2: b"]),
        (b"\xef\xbb\xbf\r\n" + line("a") + b"\r\n \r\n" + line("b") + b"\r\n", ["line 2: a", "line 4: b"]),
        (pretty(event("a")), ["the object: a"]),
        (pretty([event("a"), event("b")]), ["item [0]: a", "item [1]: b"]),
        (b" [" + line("a") + b"]", ["item [0]: a"]),
        (b"[]", []),
        (b"", []),
        (b" \n\r\n", []),
    ],
    ids=["line", "lines", "windows", "object", "array", "short-array", "empty-array", "empty", "blank"],
)
def test_form_is_seen_from_the_text(text: bytes, expected: list[str]) -> None:
    """A JSON array, one object over several lines, or JSON lines; blank lines, BOM and CRLF do not matter."""
    assert expected == places(text)


def test_a_line_is_sent_as_it_is() -> None:
    """No byte of a line changes; items and objects lose only the space between tokens, and no digit."""
    spaced = line("a").replace(b'":', b'" : ').replace(b'"title"', b'"value_usd":1.10000000000000000001,"title"')

    assert [FoundAlert("line 1", "a", spaced)] == read_alerts(b"  " + spaced + b" \r\n")[0]
    assert [spaced.replace(b" : ", b":")] == [alert.payload for alert in read_alerts(b"[" + spaced + b"]")[0]]
    broken_up = spaced.replace(b",", b",\n")
    assert [spaced.replace(b" : ", b":")] == [alert.payload for alert in read_alerts(broken_up)[0]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (line("a") + b"\n{broken\n" + line("b") + b"\n[]", ["line 2: not JSON", "line 4: Expected `object`"]),
        (b'{"alert_id"\n' + line("b"), ["line 1: not JSON"]),
        (b"no json at all\n" + line("b"), ["line 1: not JSON"]),
        (b'{"alert_id": 1}', ["line 1: Expected `str`, got `int` - at `$.alert_id`"]),
        (line("a", view=""), ["line 1: Expected `str` of length >= 1 - at `$.view`"]),
        (b"[" + line("a") + b", 7]", ["item [1]: Expected `object`"]),
        (b"[" + line("a") + b",\n{}\n{}]", ["line 3: not JSON: JSON is malformed: expected ',' or ']'"]),
        (b"[" + line("a") + b",\n", ["line 1: not JSON: Input data was truncated"]),
        (pretty(event("a")).replace(b'"r",', b'"r"'), ["line 4: not JSON"]),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ["line 1: the JSON is nested too deeply"]),
        (b"[" * 1_000_000 + b"]" * 1_000_000, ["the file: the JSON is nested too deeply"]),
        (line("a", title="t" * 300 * 1024), ["line 1: the payload has 307,"]),
        (line("a").replace(b'"t"', rb'"\ud800"'), ["line 1: a string holds a lone surrogate"]),
        (line("a").replace(b'"t"', b'"\xff"'), ["line 1: not JSON"]),
    ],
    ids=[
        *("lines", "first line", "no JSON", "wrong type", "empty view", "item", "array", "cut array", "object"),
        *("deep line", "deep array", "large", "surrogate", "no UTF-8"),
    ],
)
def test_a_mistake_is_told_by_its_place(text: bytes, expected: list[str]) -> None:
    """By line in lines, by index in an array, by line where the whole is no JSON; everything else is still read."""
    told = [f"{problem.place}: {problem.reason}" for problem in problems(text)]

    assert len(expected) == len(told)
    for beginning, text_of_it in zip(expected, told, strict=True):
        assert text_of_it.startswith(beginning)


def test_examples_are_valid() -> None:
    """Every alert that the project ships can be sent, byte for byte."""
    lines = EXAMPLES.read_bytes().splitlines()
    alerts, wrong = read_alerts(EXAMPLES.read_bytes())

    assert [] == wrong
    assert lines == [alert.payload for alert in alerts]
    assert len(lines) >= 60


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:1a\n ', max_size=60).map(str.encode))
def test_any_bytes_are_read_or_told(text: bytes) -> None:
    """Whatever the file holds, it ends as alerts and problems, never as an exception."""
    alerts, wrong = read_alerts(text)

    assert [] == alerts
    assert bool(text.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n[]")) <= bool(wrong)
