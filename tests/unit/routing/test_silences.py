"""The cache of silences: what it holds, and when it must not be believed."""

import datetime as dt

import msgspec
import pytest

from tests.contracts.silences import SINCE, silence
from tests.unit.operations.desk import FAILED, record
from trio_alerts.event import AlertEvent
from trio_alerts.ports.silences import Silence, SilenceList
from trio_alerts.routing.silences import SilenceCache

HOUR = dt.timedelta(hours=1)


def event(**fields: object) -> AlertEvent:
    return record(1, FAILED, **{"view": "Lending", **fields}).event()


def cache(*silences: Silence, now: dt.datetime = SINCE) -> SilenceCache:
    made = SilenceCache()
    assert [] == made.check(SilenceList("1", silences), now, 0.0)
    return made


def test_before_the_first_check_nothing_is_silenced() -> None:
    """A process that never saw the silences knows of none."""
    assert SilenceCache().matching(event(), SINCE, 0.0) is None
    assert SilenceCache().version is None


@pytest.mark.parametrize(("hours", "matches"), [(-1, True), (0, True), (1.999, True), (2, False), (3, False)])
def test_the_end_of_a_silence_is_not_in_it(hours: float, matches: bool) -> None:
    """From that moment on it silences nothing, whether a check came by or not. The start is who set it."""
    now = SINCE + hours * HOUR
    assert matches == (cache(silence()).matching(event(), now, 0.0) is not None)
    assert matches == bool(cache(silence(), now=now).active)


@pytest.mark.parametrize(("now_s", "matches"), [(0.0, True), (2.0, True), (2.001, False)])
def test_it_is_believed_for_two_seconds(now_s: float, matches: bool) -> None:
    """From when the question was asked, not from its answer; a check that found nothing new renews it."""
    kept = cache(silence())
    assert matches == (kept.matching(event(), SINCE, now_s) is not None)
    kept.check(None, SINCE, 10.0)
    assert matches == (kept.matching(event(), SINCE, 10.0 + now_s) is not None)


def test_the_first_that_matches_is_named() -> None:
    """All matchers of a silence must hold; a silence without one matches every alert."""
    first, second = silence("1", "view = Lending", "severity = low"), silence("2", "view = Lending")
    every = Silence(id="3", matchers=(), since=SINCE, until=SINCE + HOUR, why="", by="")
    kept = cache(first, second, every)

    assert first == kept.matching(event(severity="low"), SINCE, 0.0)
    assert second == kept.matching(event(severity="high"), SINCE, 0.0)
    assert every == kept.matching(event(view="DEX"), SINCE, 0.0)


def test_a_clock_that_was_set_forward_for_a_moment_ends_no_silence() -> None:
    """What looked over is active again when the clock is back, without a new version."""
    kept = cache(silence(), now=SINCE + 3 * HOUR)
    assert () == kept.active
    assert [] == kept.check(None, SINCE, 1.0)
    assert kept.matching(event(), SINCE, 1.0) is not None


def test_what_cannot_be_understood_is_named_once() -> None:
    """With the ID; the others are taken over."""
    kept = SilenceCache()
    (problem,) = kept.check(SilenceList("1", (silence("1", "mood ~ bad"), silence("2"))), SINCE, 0.0)
    assert problem.startswith("silence 1 silences nothing: ")
    assert [] == kept.check(None, SINCE, 0.5)
    assert silence("2") == kept.matching(event(), SINCE, 1.0)


def test_one_with_a_field_that_is_not_known_cannot_be_read() -> None:
    """A newer version wrote it: the field may narrow it, and noise is better than silence."""
    document = msgspec.json.encode(silence())
    assert silence() == msgspec.json.decode(document, type=Silence)
    with pytest.raises(msgspec.ValidationError, match="unknown field `channels`"):
        msgspec.json.decode(document[:-1] + b',"channels":["pager"]}', type=Silence)
