"""The log's two formats: one record a line, nothing lost, no secret."""

import io
import logging
import os
from contextlib import redirect_stderr
from pathlib import Path

import msgspec
import pytest
from loguru import logger

from tests.support.calling import own_logging
from trio_alerts.log import LogFormat, print_error, set_up_logging
from trio_alerts.settings.addresses import parse_receiver_url


@pytest.fixture
def err() -> io.StringIO:
    return io.StringIO()


def log_all(err: io.StringIO, log_format: LogFormat, level: str = "info") -> None:
    """Log one record of each sort."""
    with redirect_stderr(err), own_logging():
        set_up_logging(log_format, level)
        logger.debug("quiet")
        logger.info("reading {_streams} as {consumer}", _streams="Alerts", consumer="me", reason="two words")
        below = ("two\nlines", "one")
        logger.warning(
            "{error}",
            error="a line\nand \x1b[31mmore",
            url=parse_receiver_url("https://hooks.example/secret"),
            _below=below,
        )


def test_text_is_one_line_a_record(err: io.StringIO) -> None:
    """Time in UTC, level, message, lines below; what could break a line or paint the terminal is spelled out."""
    log_all(err, "text")

    first, second, *below = err.getvalue().splitlines()
    assert first.endswith("Z INFO     reading Alerts as me")
    assert second.endswith(r"Z WARNING  a line\nand \x1b[31mmore")
    assert [r"    two\nlines", "    one"] == below


def test_json_is_one_object_a_line(err: io.StringIO) -> None:
    """Time, level, message, process, then the fields by their names; what is for people alone is none."""
    log_all(err, "json")

    first, second = map(msgspec.json.decode, err.getvalue().splitlines())
    assert first.pop("time").endswith("Z")
    assert {
        "level": "info",
        "message": "reading Alerts as me",
        "pid": os.getpid(),
        "consumer": "me",
        "reason": "two words",
    } == first
    assert ("a line\nand \x1b[31mmore", "https://hooks.example") == (second["message"], second["url"])
    assert ["error", "level", "message", "pid", "time", "url"] == sorted(second), "what text shows below it is no field"


def test_level_is_the_lowest_shown(err: io.StringIO) -> None:
    """`debug` shows everything, `error` no warning."""
    log_all(err, "text", "error")
    assert "" == err.getvalue()

    log_all(err, "text", "debug")
    assert ["DEBUG", "INFO", "WARNING"] == [line.split()[1] for line in err.getvalue().splitlines()[:3]]


def test_last_set_up_decides(err: io.StringIO) -> None:
    """Setting up twice writes each record once, in the last format."""
    with redirect_stderr(err), own_logging():
        set_up_logging("text")
        set_up_logging("json")
        logger.info("once")

    assert ["once"] == [msgspec.json.decode(line)["message"] for line in err.getvalue().splitlines()]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_traceback_shows_no_values(err: io.StringIO, log_format: LogFormat) -> None:
    """A traceback tells where; values of variables may be secrets. In JSON it is a field, not lines."""

    def fail(password: str) -> None:
        raise ValueError(len(password))

    with redirect_stderr(err), own_logging():
        set_up_logging(log_format)
        try:
            fail(7 * "x")
        except ValueError:
            logger.exception("it broke")

    assert "ValueError: 7" in err.getvalue()
    assert "raise ValueError(len(password))" in err.getvalue()
    assert "xxxxxxx" not in err.getvalue()
    if log_format == "json":
        (line,) = err.getvalue().splitlines()
        assert msgspec.json.decode(line)["exception"].startswith("Traceback")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"text": "\ud800"}, {"text": "\\ud800"}),
        ({"level": "mine"}, {"level": "warning", "level_": "mine"}),
        ({"value": {1, 2}}, {"value": [1, 2]}),
        ({"value": 2**70}, {"value": str(2**70)}),
        ({"value": object}, {"value": "<class 'object'>"}),
    ],
    ids=["surrogate", "same-name", "set", "huge", "other"],
)
def test_json_takes_every_field(err: io.StringIO, fields: dict[str, object], expected: dict[str, object]) -> None:
    """No value of a field costs the record; the record's own fields keep their names."""
    with redirect_stderr(err), own_logging():
        set_up_logging("json")
        logger.bind(**fields).warning("w")

    got = {name: value for name, value in msgspec.json.decode(err.getvalue()).items() if name in expected}
    assert {name: str(value) for name, value in expected.items()} == {name: str(value) for name, value in got.items()}


def test_warnings_of_libraries_come_in_our_format(err: io.StringIO) -> None:
    """What a library warns of through `logging` is a record of ours; what it tells below that is not."""
    with redirect_stderr(err), own_logging():
        set_up_logging("json")
        logging.getLogger("some.library").info("POST https://hooks.example/secret")
        logging.getLogger("some.library").warning("odd %s", "{thing}")

    (line,) = err.getvalue().splitlines()
    assert ("some.library: odd {thing}", "some.library") == (
        msgspec.json.decode(line)["message"],
        msgspec.json.decode(line)["library"],
    )


@pytest.mark.parametrize(
    ("log_format", "expected"),
    [
        ("text", ["<6>INFO     reading Alerts", "<3>ERROR    it broke", "<3>ValueError: seven", "<3>lines"]),
        ("json", ['<6>{"time":', '<3>{"time":']),
    ],
)
def test_the_journal_reads_the_level_of_each_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_format: LogFormat, expected: list[str]
) -> None:
    """Also of each line of a traceback; the journal has the time of its own, so that text has none."""
    with (tmp_path / "journal").open("w+") as err, redirect_stderr(err):
        there = os.fstat(err.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
        with own_logging():
            set_up_logging(log_format)
            logger.info("reading {_streams}", _streams="Alerts")
            logger.opt(exception=ValueError("seven\nlines")).error("it broke")
        print_error("trio-alerts: the end\n")
        err.seek(0)
        lines = err.read().splitlines()

    assert expected == [line[: len(start)] for line, start in zip(lines, expected, strict=False)]
    assert "<3>trio-alerts: the end" == lines[-1]
    assert ["<3>"] * (len(lines) - 1) == [line[:3] for line in lines[1:]]


@pytest.mark.parametrize("stream", ["", "1:2", "here", "8:0"])
def test_a_variable_that_names_another_file_is_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """A shell that sends stderr to a file leaves `JOURNAL_STREAM` set: the lines in the file are as ever."""
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    with (tmp_path / "file").open("w+") as err, redirect_stderr(err):
        with own_logging():
            set_up_logging("text")
            logger.info("well")
        err.seek(0)
        assert err.read().endswith("Z INFO     well\n")
