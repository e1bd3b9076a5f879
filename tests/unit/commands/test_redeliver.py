"""`redeliver` and `resolve`: their arguments, what they print, and their exit codes."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio
from msgspec.structs import replace

from tests.contracts.silences import silence
from tests.support.calling import call
from tests.support.fakes.silences import FakeSilences
from tests.unit.operations.desk import DELIVERED, FAILED, IN_DOUBT, RETRYING, SILENCED, Desk
from trio_alerts.commands import redeliver, resolve
from trio_alerts.commands.backends import operator_name
from trio_alerts.operations.records import Operator
from trio_alerts.ports.silences import Silences
from trio_alerts.settings.settings import Settings


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()

    @asynccontextmanager
    async def opened(_: Settings) -> AsyncIterator[Operator]:
        await trio.lowlevel.checkpoint()
        yield desk.operator

    @asynccontextmanager
    async def silences(settings: Settings) -> AsyncIterator[Silences]:
        await trio.lowlevel.checkpoint()
        yield FakeSilences(desk.server, settings)

    monkeypatch.setattr(redeliver, "open_operator", opened)
    monkeypatch.setattr(redeliver, "open_silences", silences)
    monkeypatch.setattr(resolve, "open_operator", opened)
    return desk


def test_each_record_is_a_line_and_the_last_one_counts(desk: Desk) -> None:
    """Named by their IDs, one of them left alone: exit code 1."""
    ids = [desk.put(1, FAILED), desk.put(2, DELIVERED)]

    called = call("redeliver", *ids)

    assert 1 == called.exit_code
    assert [
        "1-0\tis due now through webhook",
        "2-0\tleft alone: it is delivered",
        "1 due now: a running process sends them; 1 left alone",
    ] == called.out.splitlines()


def test_each_record_is_an_object_for_programs(desk: Desk) -> None:
    """What is due, or why it was left alone; no line counts them."""
    ids = [desk.put(1, FAILED), desk.put(2, DELIVERED)]

    called = call("redeliver", "--json", "--dry-run", *ids)

    assert 1 == called.exit_code
    assert [
        {"record_id": "1-0", "state": "retrying", "due": ["webhook"], "dry_run": True},
        {"record_id": "2-0", "left_alone": "it is delivered"},
    ] == [msgspec.json.decode(line) for line in called.out.splitlines()]


def test_a_dry_run_says_so(desk: Desk) -> None:
    """Options may stand between the IDs: shell users append and insert them as they think of them."""
    ids = [desk.put(number, FAILED) for number in (1, 2)]

    called = call("redeliver", ids[0], "--dry-run", ids[1])

    assert 0 == called.exit_code
    assert "1-0\twould be due now through webhook\n" in called.out
    assert called.out.endswith("\n2 would be sent again (--dry-run); 0 left alone\n")
    assert ["failed", "failed"] == desk.states


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--view a", "retrying retrying in_doubt failed"),
        ("--state retrying --view a", "failed retrying in_doubt failed"),
        ("--in-doubt", "failed retrying retrying failed"),
        ("--in-doubt --state failed --view a", "retrying retrying retrying failed"),
    ],
)
def test_filters_are_passed_on(desk: Desk, argv: str, expected: str) -> None:
    """What is left alone then is no error: nobody named it."""
    for number, delivery in enumerate([FAILED, RETRYING, IN_DOUBT], 1):
        desk.put(number, delivery, view="a")
    desk.put(4, FAILED, view="b")

    assert 0 == call("redeliver", *argv.split()).exit_code
    assert expected.split() == desk.states


@pytest.mark.parametrize("argv", [[], ["1-0", "--view", "a"], ["1-0", "--state", "failed"], ["--dry-run"]])
def test_it_must_be_said_what_is_sent_again(desk: Desk, argv: list[str]) -> None:
    """Nothing, or both ways at once: exit code 2, and no write."""
    desk.put(1, FAILED)

    assert 2 == call("redeliver", *argv).exit_code
    assert [FAILED.state] == desk.states


PAGER = '[[channels]]\nname = "pager"\naliases = ["webhook"]\nurl = "https://pager.example/"\n'


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "alerts.toml"
    path.write_text(PAGER + '[[channels]]\nname = "email"\nurl = "https://mail.example/"\n', "utf-8")
    return str(path)


def test_a_channel_can_be_chosen(desk: Desk, config: str) -> None:
    """By its name or an alias; one line a record says through what it is due."""
    desk.put(1, FAILED)
    desk.put(2, RETRYING)

    called = call("redeliver", "--config", config, "--through", "email", "--state", "failed")
    assert (0, "1-0\tis due now through email\n") == (called.exit_code, called.out.splitlines(keepends=True)[0])
    assert ["webhook", "email"] == [channel.name for channel in desk.store["1-0"].channels]
    assert RETRYING == desk.store["2-0"]
    called = call("redeliver", "--config", config, "--through", "webhook", "2-0")
    assert (0, 1) == (called.exit_code, len(desk.store["2-0"].channels))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["1-0", "--through", "pagr"], "--through 'pagr': there is no such channel (did you mean 'pager'?)"),
        (["--through", "email"], "name the records to send again, or filter them"),
        (["--through", "email", "--suppressed-by", "silence:1a2b"], "leave out --through"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(desk: Desk, config: str, argv: list[str], message: str) -> None:
    """One message, exit code 2, and no write."""
    desk.put(1, FAILED)
    called = call("redeliver", "--config", config, *argv)

    assert (2, ["failed"]) == (called.exit_code, desk.states)
    assert message in called.err


def test_resolve_says_what_the_record_is_now(desk: Desk) -> None:
    """A second time nothing is in doubt: exit code 1; what is neither "delivered" nor "failed" is refused."""
    record_id = desk.put(1, IN_DOUBT)

    called = call("resolve", record_id, "failed")
    assert (0, f"{record_id}: settled as failed; the record is failed\n") == (called.exit_code, called.out)
    again = call("resolve", record_id, "delivered")
    said = f"trio-alerts: {record_id}: left alone: no channel of it is in doubt, the record is failed\n"
    assert (1, said) == (again.exit_code, again.err)
    assert 2 == call("resolve", record_id, "maybe").exit_code

    record_id = desk.put(2, IN_DOUBT)
    settled = msgspec.json.decode(call("resolve", record_id, "delivered", "--json").out)
    assert {"record_id": record_id, "resolution": "delivered", "state": "delivered"} == settled


def test_somebody_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers run as users that no file knows."""

    def nobody() -> str:
        raise KeyError

    monkeypatch.setattr("getpass.getuser", nobody)
    assert operator_name().partition("@")[0].isdecimal()


def test_what_a_silence_kept_back_is_sent_once_it_has_ended(desk: Desk) -> None:
    """One that is still active would only suppress it once more: exit code 2, and no write."""
    desk.put(1, SILENCED)
    desk.put(2, FAILED)
    active = silence("1a2b")  # to the fake server, it is 1970
    trio.run(FakeSilences(desk.server, Settings()).add, active)

    refused = call("redeliver", "--suppressed-by", "silence:1a2b")
    assert (2, ["suppressed", "failed"]) == (refused.exit_code, desk.states)
    assert "silence 1a2b is still active: end it first, with `silence end 1a2b`" in refused.err

    trio.run(FakeSilences(desk.server, Settings()).replace, replace(active, until=dt.datetime.fromtimestamp(0, dt.UTC)))
    called = call("redeliver", "--suppressed-by", "silence:1a2b")
    assert 0 == called.exit_code
    assert ["1-0\tis due now through webhook", "1 due now: a running process sends them; 0 left alone"] == (
        called.out.splitlines()
    )
    assert ["retrying", "failed"] == desk.states


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--suppressed-by", "night"], "'night' is not a silence, as in silence:1a2b3c4d"),
        (["--suppressed-by", "silence:1a2b", "--in-doubt"], "leave out --in-doubt"),
        (["1-0", "--suppressed-by", "silence:1a2b"], "not both"),
    ],
)
def test_only_silences_are_lifted(desk: Desk, argv: list[str], message: str) -> None:
    """What a route suppresses has no channels."""
    desk.put(1, SILENCED)
    called = call("redeliver", *argv)

    assert (2, ["suppressed"]) == (called.exit_code, desk.states)
    assert message in called.err
