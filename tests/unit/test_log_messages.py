"""What is logged: messages and fields as `docs/logs.toml` describes them."""

import ast
import runpy
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = runpy.run_path(str(ROOT / "docs" / "generate.py"))
LOG, CALLS = GENERATED["LOG"], list(GENERATED["log_calls"]())
ALWAYS = {"time", "level", "message", "pid", "consumer", "exception"}  # these come from `log.py` and `run`


def complaints(call: ast.Call) -> Iterator[str]:
    """Say what is wrong with a call that logs: its message is one text, and what it is about are named fields."""
    message = GENERATED["message_of"](call)
    if not message:
        yield "the message is put together"
    if len(call.args) > 1 + (isinstance(call.func, ast.Attribute) and call.func.attr == "log"):
        yield "a value without a name"
    if "%" in message:
        yield "a % in the message"
    names = {word.arg or "**" for word in call.keywords}
    placeholders = {name for _, name, _, _ in string.Formatter().parse(message) if name is not None}
    yield from (f"nothing for {name!r}" for name in sorted(placeholders - names))
    for name in sorted(names):
        if name.startswith("_"):
            if name not in placeholders | {"_below"}:
                yield f"{name} is for the message alone, and not in it"
        elif name not in LOG["fields"] or name in ALWAYS - {"consumer"}:
            yield f"{name} is no field"


def test_every_call_of_the_logger_speaks_the_documented_vocabulary() -> None:
    """One name for one thing: no field that is not in the table, no value without a name, no message put together."""
    assert [] == [f"{place}:{call.lineno}: {wrong}" for place, call in CALLS for wrong in complaints(call)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('logger.info("{channel} is well", channel=name)', []),
        ('logger.info("for {_wait}", wait_s=2.0, _wait="2 s")', []),
        ('logger.opt(exception=fault).log("ERROR" if bad else "WARNING", "{error}", error=fault)', []),
        ('logger.info(f"{name} is well")', ["the message is put together"]),
        ('logger.info("%s is well" % name)', ["the message is put together"]),
        ('logger.info("%s is well", name)', ["a value without a name", "a % in the message"]),
        ('logger.log("INFO", "{} is well", name)', ["a value without a name", "nothing for ''"]),
        ('logger.bind(status=1).info("{channel} is well")', ["nothing for 'channel'"]),
        ('logger.info("well", chanel=name)', ["chanel is no field"]),
        ('logger.info("well", **fields)', ["** is no field"]),
        ('logger.info("well", message=name)', ["message is no field"]),
        ('logger.info("well", _wait=name)', ["_wait is for the message alone, and not in it"]),
    ],
)
def test_what_is_refused(source: str, expected: list[str]) -> None:
    """Each way to log past the vocabulary is noticed."""
    (call,) = GENERATED["log_calls_in"](source)

    assert expected == list(complaints(call))


def test_no_field_is_described_that_nobody_logs() -> None:
    """The table is as long as the vocabulary."""
    logged = {word.arg for _, call in CALLS for word in call.keywords}
    assert [] == [name for name in LOG["fields"] if name not in logged | ALWAYS]


def test_every_warning_and_error_is_explained() -> None:
    """Whoever is paged by a message finds in `docs/logs.md` what it means; nothing stands there that is never said."""
    said = {
        (place, GENERATED["message_of"](call))
        for place, call in CALLS
        if GENERATED["levels_of"](call) & {"warning", "error", "critical"}
    }
    explained = {(place, message) for place, messages in LOG["messages"].items() for message in messages}
    assert (set(), set()) == (said - explained, explained - said)


def test_every_line_is_found() -> None:
    """A module that logs has no call that these tests do not see."""
    for path in (ROOT / "trio_alerts").rglob("*.py"):
        place = path.relative_to(ROOT / "trio_alerts").with_suffix("").as_posix()
        names = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)]
        others = ("logger.remove", "logger.add", "logger.contextualize")
        used = sum(node.id == "logger" for node in names)
        assert used == sum(found == place for found, _ in CALLS) + sum(path.read_text().count(one) for one in others)
