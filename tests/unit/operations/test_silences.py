"""Setting, ending and trying out silences, on fakes."""

import datetime as dt

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from tests.contracts.silences import silence
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.stream_server import FakeServer
from tests.unit.operations.desk import DELIVERED, NOW, Desk
from trio_alerts.delivery import Delivery
from trio_alerts.errors import AlertError, SettingsError
from trio_alerts.operations import silences as operations
from trio_alerts.operations.silences import (
    LONGEST_WHY,
    add_silence,
    all_silences,
    end_silence,
    matchers_of,
    preview,
    see_them_end,
)
from trio_alerts.record import Record
from trio_alerts.settings.settings import Settings
from trio_alerts.transitions import quarantined

START = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> FakeSilences:
    server = FakeServer()
    monkeypatch.setattr(server, "time", START.timestamp)
    return FakeSilences(server, Settings())


async def test_a_silence_begins_now_and_ends_as_asked(kept: FakeSilences) -> None:
    """For a time, or until one; both by the server's clock."""
    first = await add_silence(kept, ["view = a"], HOUR, "why", "ann")
    second = await add_silence(kept, [], START + 2 * HOUR, "why", "ann")

    assert (START, START + HOUR, ("view = a",)) == (first.since, first.until, first.matchers)
    assert (START + 2 * HOUR, ()) == (second.until, second.matchers)
    assert (first, second) == await all_silences(kept)


@pytest.mark.parametrize(
    ("until", "message"),
    [
        (START, "over already: it is 1970-01-01T00:00:00Z on the Redis server"),
        (START - HOUR, "over already"),
        (dt.timedelta(days=366 * 9000), "after the year 9999"),
        (dt.datetime.fromisoformat("9999-12-31T23:30:00-01:00"), "after the year 9999"),
        (dt.datetime.fromisoformat("0001-01-01T00:30:00+01:00"), "over already"),
    ],
)
async def test_an_end_that_is_none_is_refused(
    kept: FakeSilences, until: dt.datetime | dt.timedelta, message: str
) -> None:
    """Nothing is written."""
    with pytest.raises(SettingsError, match=message):
        await add_silence(kept, ["view = a"], until, "why", "ann")
    assert () == await all_silences(kept)


@pytest.mark.parametrize("until", ["9999-12-31T23:59:59+00:00", "9999-12-31T00:00:00-01:00"])
async def test_a_silence_without_an_end_in_sight_keeps_nobody_from_the_next(kept: FakeSilences, until: str) -> None:
    """The last day there is means "for good"; it is kept in UTC, and others can be set beside it."""
    end = dt.datetime.fromisoformat(until)
    made = [await add_silence(kept, ["view = a"], end, "why", "ann") for _ in range(2)]

    assert [(end, dt.UTC)] * 2 == [(one.until, one.until.tzinfo) for one in made]
    assert 2 == len(await all_silences(kept))


async def test_a_reason_has_a_bound(kept: FakeSilences) -> None:
    """Whoever pastes a log where a sentence is asked for is told so, by a page as by a command."""
    await add_silence(kept, ["view = a"], HOUR, "w" * LONGEST_WHY, "ann")
    with pytest.raises(SettingsError, match=r"^why: at most 2,000 characters, not 2,001$"):
        await add_silence(kept, ["view = a"], HOUR, "w" * (LONGEST_WHY + 1), "ann")


async def test_there_is_a_most(kept: FakeSilences, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every alert is compared with every active one; those that are over do not count."""
    monkeypatch.setattr(operations, "MOST", 2)
    first, _ = [await add_silence(kept, ["view = a"], HOUR, "why", "ann") for _ in range(2)]
    with pytest.raises(SettingsError, match="2 silences are active"):
        await add_silence(kept, ["view = a"], HOUR, "why", "ann")
    await end_silence(kept, first.id, "ann")
    await add_silence(kept, ["view = a"], HOUR, "why", "ann")


async def test_an_id_that_is_taken_is_drawn_again(kept: FakeSilences, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's silence is written over."""
    drawn = iter(["aa", "aa", "bb"])
    monkeypatch.setattr("secrets.token_hex", lambda _: next(drawn))
    made = [await add_silence(kept, ["view = a"], HOUR, "why", "ann") for _ in range(2)]
    assert ["aa", "bb"] == [one.id for one in made]


async def test_what_is_over_for_thirty_days_is_forgotten(kept: FakeSilences) -> None:
    """When the next one is set; until then `list --all` shows it."""
    for one, days in (("old", 31), ("recent", 29)):
        await kept.add(replace(silence(one), until=START - dt.timedelta(days=days)))
    made = await add_silence(kept, ["view = a"], HOUR, "why", "ann")
    assert {"recent", made.id} == {one.id for one in await all_silences(kept)}


async def test_an_end_is_written_into_the_silence(kept: FakeSilences) -> None:
    """It is over from now on, and says who ended it; a second end is refused."""
    made = await add_silence(kept, ["view = a"], HOUR, "why", "ann")
    await end_silence(kept, made.id, "bob")

    (ended,) = await all_silences(kept)
    assert (START, "bob", False) == (ended.until, ended.ended_by, ended.is_active(START))
    with pytest.raises(AlertError, match=f"silence {made.id} is over already: it ended at 1970-01-01T00:00:00Z"):
        await end_silence(kept, made.id, "bob")
    with pytest.raises(AlertError, match="there is no silence 'ff'"):
        await end_silence(kept, "ff", "bob")


@pytest.mark.parametrize(("ended_s_ago", "waits_s"), [(0.0, 2.0), (0.5, 1.5), (2.0, 0.0), (60.0, 0.0)])
async def test_what_a_silence_kept_back_waits_until_no_process_believes_in_it(
    kept: FakeSilences, autojump_clock: MockClock, ended_s_ago: float, waits_s: float
) -> None:
    """A process that saw it last 2 s ago silences nothing any more; one that was lost needs no wait."""
    await kept.add(replace(silence("1a"), until=START - dt.timedelta(seconds=ended_s_ago)))
    await kept.add(replace(silence("2b"), until=START + HOUR))

    await see_them_end(kept, ["silence:1a", "silence:lost"])
    assert waits_s == trio.current_time()
    with pytest.raises(SettingsError, match="silence 2b is still active"):
        await see_them_end(kept, ["silence:1a", "silence:2b"])


@pytest.mark.parametrize(
    ("texts", "all_alerts", "message"),
    [
        ([], False, "say which alerts"),
        (["view = a"], True, "not both"),
        (["view = a", "mood = bad"], False, "mood"),
    ],
)
def test_matchers_are_checked_first(texts: list[str], all_alerts: bool, message: str) -> None:
    """One clear message each."""
    with pytest.raises(SettingsError, match=message):
        matchers_of(texts, all_alerts=all_alerts)


async def test_a_preview_counts_the_last_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """By severity, with the newest as examples; older alerts and dead letters do not count."""
    monkeypatch.setattr(operations, "PAGE", 3)
    desk = Desk()
    hours = [0, 1, 23, 24, 25, 2]
    for number, ago in enumerate(hours, 1):
        desk.put(
            number,
            DELIVERED,
            view="a" if number != 6 else "b",
            severity=["high", "low"][number % 2],
            occurred_at=(NOW - dt.timedelta(hours=ago)).isoformat(),
        )
    desk.store.put(Record("9-0", b'{"stream_id":"9-0"}', quarantined(Delivery(state="sending"), "bad_json")))

    found = await preview(desk.store, matchers_of(["view = a"], all_alerts=False), NOW)
    assert (5, {"low": 2, "high": 2}) == (found.seen, found.by_severity)
    assert ["4-0", "3-0", "2-0", "1-0"] == [one.record_id for one in found.newest]
