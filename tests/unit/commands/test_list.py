"""`list` and `show`: which records, and how they are printed."""

import datetime as dt
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from tests.support.calling import call
from tests.support.fakes.store import FakeStore
from tests.support.waiting import waiting
from tests.unit.operations import desk
from trio_alerts import store as stores
from trio_alerts.backoff import RetryPolicy
from trio_alerts.commands import list_records
from trio_alerts.delivery import ChannelDelivery, Delivery
from trio_alerts.errors import StartError
from trio_alerts.held_back import first_state, silenced, standby
from trio_alerts.outcome import Accepted, Outcome, Retry
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.transitions import first_attempt, next_attempt, settled, suppressed

NOW = dt.datetime(2026, 11, 16, 9, 0, tzinfo=dt.UTC)


def record(number: int, delivery: Delivery | None = None, **fields: object) -> Record:
    return desk.record(number, delivery or suppressed("night"), **fields)


def retrying() -> Delivery:
    """One channel accepted, the other did not: its answer tries to paint the terminal."""
    sending = first_attempt(["chat", "pager"], "me/1", NOW, 60)
    outcomes: dict[str, tuple[Outcome, float]] = {
        "chat": (Accepted(204, reference="1503435956.000001\n"), 0.25),
        "pager": (Retry("HTTP 503", 503, unseen=True, answer="busy\x1b[2J\nlater"), 1.5),
    }
    return settled(sending, outcomes, NOW, RetryPolicy((5, 30)))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    store = FakeStore()

    @asynccontextmanager
    async def open_store(_: Settings) -> AsyncIterator[FakeStore]:
        await trio.lowlevel.checkpoint()
        yield store

    monkeypatch.setattr(stores, "open_store", open_store)
    return store


def test_a_record_of_a_newer_version_is_listed_as_unknown(store: FakeStore) -> None:
    """`list` shows what everybody knows of it; `show` says why there is no more."""
    store.put(record(1))
    store.put(record(2, retrying()))
    store.unknown_in = lambda one: "delivery.state 'paused'" if one.id == "2-0" else ""
    rows = [line.split("\t")[:4] for line in call("list").out.splitlines()]
    assert [("2-0", "unknown"), ("1-0", "suppressed")] == [(row[0], row[3]) for row in rows[1:]]

    shown = call("show", "2-0")
    assert 1 == shown.exit_code
    assert "a newer version wrote record '2-0': this one does not know delivery.state 'paused'" in shown.err


def test_what_is_suppressed_says_by_whom(store: FakeStore) -> None:
    """Whatever its last attempt ended with."""
    busy = settled(first_attempt(["a"], "me/1", NOW, 60), {"a": (Retry("busy"), 0.1)}, NOW, RetryPolicy((0.0,)))
    again = next_attempt(busy, "me/2", NOW, 60)
    store.put(record(1, silenced(again, "1a2b", "a drill", NOW)))
    store.put(record(2))
    assert ["night", "silence:1a2b"] == [line.split("\t")[-1] for line in call("list").out.splitlines()[1:]]


def test_canaries_are_listed_if_asked_for(store: FakeStore) -> None:
    """They are no alerts; who knows the ID of one is shown it."""
    store.put(record(1))
    canary = record(2)
    store.put(Record("~canary|2-0", canary.body, canary.delivery))

    assert 1 == len(call("list").out.splitlines()[1:])
    assert ["~canary|2-0", "1-0"] == [one.split("\t")[0] for one in call("list", "--canaries").out.splitlines()[1:]]
    assert 0 == call("show", "~canary|2-0").exit_code


def ids(*argv: str) -> list[str]:
    called = call("list", "--json", *argv)
    assert 0 == called.exit_code
    assert called.err == "" or msgspec.json.decode(called.err)["message"].endswith(" shows the next")
    return [msgspec.json.decode(one)["record_id"] for one in called.out.splitlines()]


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("", [4, 3, 2, 1]),
        ("--view a", [2, 1]),
        ("--view a --view b", [3, 2, 1]),
        ("--view a --severity low", [2]),
        ("--scope x:y", [3]),
        ("--rule-id r2", [4]),
        ("--state retrying", [4]),
        ("--state suppressed --state failed --severity high", [3, 1]),
        ("--since 2026-11-16T08:00:02Z", [4, 3, 2]),
        ("--until 2026-11-16T09:00:02+01:00", [1]),
        ("--alert-id alert-2", [2]),
        ("--tx 0xaBcD", [3]),
        ("--tx 0xABCD --tx 0x12", [4, 3]),
        ("--address 0xfeed", [4, 1]),
        ("--label team=risk", [2, 1]),
        ("--label team=risk --label team=ops --label asset=", [3]),
        ("--channel pager", [4]),
        ("--fingerprint f1 --view a", [1]),
        ("--title oracle,late", [2]),
        ("--limit 2", [4, 3]),
        ("--view none", []),
    ],
)
def test_filters(store: FakeStore, argv: str, expected: list[int]) -> None:
    """Options of one name are alternatives, different ones are joined by and; the newest comes first."""
    texts: list[dict[str, object]] = [
        {"view": "a", "fingerprint": "f1", "labels": {"team": "risk"}, "addresses": ["0xFEED"]},
        {"view": "a", "severity": "low", "labels": {"team": "risk"}, "title": "The oracle is late"},
        {"view": "b", "scope": "x:y", "labels": {"team": "ops", "asset": ""}, "tx_hash": "0xABCD"},
        {"rule_id": "r2", "severity": "info", "contract": "0xFeed", "tx_hash": "0x12", "fingerprint": "f1"},
    ]
    for number, fields in enumerate(texts, 1):
        delivery = retrying() if number == 4 else None
        store.put(record(number, delivery, occurred_at=f"2026-11-16T08:00:0{number}Z", **fields))

    assert [f"{number}-0" for number in expected] == ids(*argv.split())


def test_how_many_there_are_is_told_if_there_are_more(store: FakeStore) -> None:
    """On standard error, so that it is in nobody's data; filters count, and what is complete needs no line."""
    for number in range(100, 352):
        store.put(record(number, view="a" if number < 150 else "b"))

    assert re.fullmatch(r"50 of 252; --after \S+ shows the next\n", call("list").err)
    assert re.fullmatch(r"1 of 50; --after \S+ shows the next\n", call("list", "--view", "a", "--limit", "1").err)
    assert "" == call("list", "--view", "a").err
    assert "" == call("list", "--limit", "252").err

    note = msgspec.json.decode(call("list", "--json", "--view", "a", "--limit", "1").err)
    assert ["message", "shown", "matching", "after"] == list(note)
    assert (1, 50) == (note["shown"], note["matching"])


@pytest.mark.parametrize("limit", ["1", "3", "7", "8", "50"])
def test_pages_follow_each_other_while_alerts_come_in(limit: str, store: FakeStore) -> None:
    """By the cursor that the page before ended with: nothing is missing, nothing comes twice, and what is new waits."""
    for number in range(1, 9):
        store.put(record(number, view="a"))

    found: list[str] = []
    after: list[str] = []
    for page in range(9):
        called = call("list", "--json", "--view", "a", "--limit", limit, *after)
        found += [msgspec.json.decode(one)["record_id"] for one in called.out.splitlines()]
        store.put(record(100 + page, view="a"))
        if not called.err:
            break
        after = ["--after", msgspec.json.decode(called.err)["after"]]
    assert [f"{number}-0" for number in range(8, 0, -1)] == found


@pytest.mark.parametrize(
    "cursor", ["", "x", "W251bGwsIjEtMCJd!", "WzEsIjEtMCJd", "ÄÖ", "1-0", "bnVsbA", "WyJhIiwiXHVkODAwIl0"]
)
def test_a_broken_cursor_is_refused(cursor: str, store: FakeStore) -> None:
    """Cut, changed, or something else: exit code 2, and nothing is asked."""
    called = call("list", "--after", cursor)
    assert (2, []) == (called.exit_code, store.calls)
    assert f"{cursor!r} is not a cursor; copy the one that the page before ended with" in called.err


class Interrupting:
    """Lets something happen before each look of `list --follow`, in place of the pause; interrupts it at the end."""

    def __init__(self, *events: Callable[[], object]) -> None:
        self.events = list(events)
        self.pauses_s: list[float] = []

    async def __call__(self, pause_s: float) -> None:
        await trio.lowlevel.checkpoint()
        if not pause_s:  # the fake's own
            return
        self.pauses_s.append(pause_s)
        if not self.events:
            raise KeyboardInterrupt
        self.events.pop(0)()


def test_follow_shows_what_comes_and_what_changes(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest last, then each that is new or in another state, once; an interrupt is a clean end."""
    for number in range(1, 6):
        store.put(record(number))
    pauses = Interrupting(
        lambda: store.put(record(7)),
        lambda: store.put(record(3, retrying())),
        lambda: None,
        lambda: store.put(record(6)),
    )
    monkeypatch.setattr(trio, "sleep", pauses)

    called = call("list", "--follow", "--limit", "2")
    rows = [line.split("\t") for line in called.out.splitlines()]
    expected = [("4-0", "suppressed"), ("5-0", "suppressed"), ("7-0", "suppressed"), ("3-0", "retrying")]
    assert list(list_records.COLUMNS) == rows[0]
    assert [*expected, ("6-0", "suppressed")] == [(row[0], row[3]) for row in rows[1:]]
    assert (0, "") == (called.exit_code, called.err)
    assert {list_records.LOOK_PAUSE_S} == set(pauses.pauses_s)


def test_follow_survives_an_outage_with_one_line(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it lasts; what came meanwhile is shown after it, and the next outage is told again."""
    store.put(record(1))

    def goes_away() -> None:
        store.fail_next("search", "down", times=3)
        store.put(record(2))

    nothing = [lambda: None] * 3
    monkeypatch.setattr(trio, "sleep", Interrupting(goes_away, *nothing, goes_away, *nothing))

    called = call("list", "--follow", "--json", "--state", "suppressed")
    assert ["1-0", "2-0"] == [msgspec.json.decode(line)["record_id"] for line in called.out.splitlines()]
    line = {"message": "the store is down; what comes meanwhile is shown when it answers again"}
    assert (0, [line, line]) == (called.exit_code, [msgspec.json.decode(one) for one in called.err.splitlines()])


def test_follow_begins_with_the_newest(store: FakeStore) -> None:
    """A place among old records is for pages."""
    called = call("list", "--follow", "--after", "WyIxIiwiMS0wIl0")
    assert 2 == called.exit_code
    assert "--follow begins with the newest records" in called.err


def test_default_limit_is_fifty(store: FakeStore) -> None:
    """Without `--limit` a call prints 50 records at most."""
    for number in range(100, 160):
        store.put(record(number))

    assert 50 == len(ids())


def test_json_is_the_whole_document(store: FakeStore) -> None:
    """One line a record, exactly as stored: no digit, no field is lost."""
    kept = record(1, retrying(), value_usd=2**70, details={"note": "\u00e9 \u2028", "raw": [1.0, 2]})
    store.put(kept)

    assert kept.to_json().decode() + "\n" == call("list", "--json").out
    assert kept.to_json().decode() + "\n" == call("show", "--json", "1-0").out


def test_outside_a_terminal_columns_are_separated_by_tabs(store: FakeStore) -> None:
    """First the names, then a line each; nothing in an alert can add a column or a line."""
    store.put(record(1, title="two\ttabs\nand a line", view="vue é"))
    store.put(record(2, retrying(), occurred_at="2026-11-16T08:00:04.123Z"))

    names, second, first = (text.split("\t") for text in call("list").out.splitlines())

    assert list(list_records.COLUMNS) == names
    assert ["2-0", "2026-11-16T08:00:04Z", "high", "retrying", "v", "s", "t", "1", "HTTP 503"] == second
    assert [
        "1-0",
        "2026-11-16T08:00:00Z",
        "high",
        "suppressed",
        "vue é",
        "s",
        r"two\ttabs\nand a line",
        "0",
        "night",
    ] == first


def test_in_a_terminal_there_is_a_table(store: FakeStore) -> None:
    """It fits the terminal, keeps IDs whole, and shows no escape sequence of an alert."""
    store.put(record(1, title="\x1b[2Jpainted " + "long " * 100))
    store.put(record(1234567890123, title="中文" * 50))

    out = call("list", terminal=True).out
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()

    assert all(name in lines[0] for name in list_records.COLUMNS)
    assert ["1234567890123-0", "1-0"] == sorted((text.split()[0] for text in lines[1:3]), key=len, reverse=True)
    assert "2 records" == lines[3].strip()
    assert all(len(text) <= 160 for text in lines)
    assert r"\x1b[2Jpainted" in "".join(lines)
    assert "\x1b[2J" not in out


def test_nothing_found(store: FakeStore) -> None:
    """No record is no error: an empty table, or only the names of the columns."""
    assert "0 records" in call("list", terminal=True).out
    assert 1 == len(call("list").out.splitlines())


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ("--severity hihg", "(did you mean high?)"),
        ("--state in-doubt", "(did you mean in_doubt?)"),
        ("--limit 0", "must be a whole number from 1 to 1,000,000, not '0'"),
        ("--limit ²", "must be a whole number from 1 to 1,000,000, not '²'"),
        ("--since yesterday", "'yesterday' is not a date or time"),
        ("--label team", "'team' is not KEY=VALUE, as in team=risk"),
        ("--label =risk", "'=risk' is not KEY=VALUE, as in team=risk"),
        ("--title …", "there is no word in '…'"),
        ("--tx \udcff", r"'\udcff' is not UTF-8"),
    ],
)
def test_bad_filters(store: FakeStore, argv: str, expected: str) -> None:
    """A value that no record can have is refused, exit code 2."""
    called = call("list", *argv.split())

    assert (2, []) == (called.exit_code, store.calls)
    assert expected in called.err


def test_show_says_why_a_channel_is_held_back(store: FakeStore) -> None:
    """For whom it waits or stands by, and until when; that another one is needed no more."""
    later = NOW + dt.timedelta(seconds=320)
    channels = (
        waiting("slack", NOW, later),
        standby("email", ["slack", "chat"], later),
        ChannelDelivery("sms", "spared"),
        ChannelDelivery("chat", "waiting", next_attempt_at=later, unconfigured_since=NOW),
        ChannelDelivery("mail", "suppressed", next_attempt_at=later, since=NOW, fallback_of=("chat",)),
    )
    store.put(record(1, first_state(channels, "me/1", NOW, 60.0)))

    lines = call("show", "1-0").out.splitlines()

    for channel, said in (
        ("slack", "waits until the service takes more alerts, to 2026-11-16 09:05:20Z at the longest"),
        ("email", "stands by for slack or chat, due 2026-11-16 09:05:20Z"),
        ("sms", "needed no more: another channel made it good"),
        ("chat", "waits for a process that knows this channel, to 2026-11-16 09:05:20Z at the longest"),
        ("mail", "suppressed with its primaries; sent after all, they have 5 min before it is due"),
    ):
        assert f"  {said}" == lines[lines.index(f"channel {channel}:") + 1]


def test_show_tells_everything(store: FakeStore) -> None:
    """The alert's fields, its delivery, each channel with its attempts; text of others is made safe."""
    store.put(
        record(
            1,
            retrying(),
            title="Oracle \x1b[31mdeviation",
            value_raw="115792089237316195423570985008687907853269984665640564039457584007913129639935",
            labels={"team": "risk"},
            details={"prices": [1.10, 2]},
            strange="kept",
        )
    )

    called = call("show", "1-0")

    assert (0, "") == (called.exit_code, called.err)
    lines = called.out.splitlines()
    assert r"Oracle \x1b[31mdeviation" == lines[0]
    rows = [text.split(maxsplit=1) for text in lines if len(text.split(maxsplit=1)) == 2]
    for row in (
        ["alert_id", "alert-1"],
        ["value_raw", str(2**256 - 1)],
        ["labels", '{"team":"risk"}'],
        ['"strange":', '"kept"'],
        ["state", "retrying"],
        ["in_doubt", "1"],
        ["next_attempt_at", "2026-11-16T09:00:05Z"],
        ["2026-11-16T08:59:59.750000Z", "0.25 s  accepted  204"],
        ["2026-11-16T08:59:58.500000Z", "1.5 s  retry  503  HTTP 503  (outcome unseen)"],
        ["answer:", r"busy\x1b[2J\nlater"],
        ["reference:", r"1503435956.000001\n"],
    ):
        assert row in rows
    assert "channel chat:" in lines
    assert "channel pager:" in lines


def test_show_of_an_unknown_record(store: FakeStore) -> None:
    """Exit code 1, and where it was looked for."""
    called = call("show", "9-9", store_url="http://user:hunter2@127.0.0.1:9200")

    assert 1 == called.exit_code
    assert (
        "trio-alerts: there is no record '9-9' in http://127.0.0.1:9200\n"
        "`list` shows the newest IDs, `emit` those that it sends; an entry that was not read yet has no record\n"
    ) == called.err


@pytest.mark.parametrize("argv", [("list",), ("show", "1-0")])
def test_a_store_that_cannot_be_trusted(store: FakeStore, argv: tuple[str, ...]) -> None:
    """A wrong index is no empty answer: exit code 3. A store that does not answer: exit code 4."""
    store.schema_fault = "view is text"
    assert (3, "trio-alerts: view is text\n") == (call(*argv).exit_code, call(*argv).err)

    store.schema_fault = ""
    store.fail_next("search", "down")
    store.fail_next("get", "down")
    called = call(*argv)
    assert (4, "", "trio-alerts: the store is down\n") == (called.exit_code, called.out, called.err)


def test_a_store_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreachable when it is opened: exit code 4."""

    def open_store(_: Settings) -> None:
        raise StartError("cannot connect to http://127.0.0.1:9200")

    monkeypatch.setattr(stores, "open_store", open_store)

    assert 4 == call("list").exit_code
