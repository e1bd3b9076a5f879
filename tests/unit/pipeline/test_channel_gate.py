"""A channel's gate in one process: what it tells the others, and when nobody need be asked."""

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.outcome import Accepted, Later, Outcome, Refused, Retry
from trio_alerts.pipeline.channel_gate import ChannelGate
from trio_alerts.pipeline.outage import Signal
from trio_alerts.ports.gates import ROW, Closed, GateView, News, Rate

BUSY = Retry("answered 503", 503)


class Urgent(Signal):
    """Counts how often the others have to hear of something at once."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def set(self) -> None:
        self.count += 1


def gate(rate: Rate | None = None) -> tuple[ChannelGate, Urgent]:
    urgent = Urgent()
    return ChannelGate(("pager",), rate, urgent), urgent


def note(gate: ChannelGate, *outcomes: Outcome | Later) -> None:
    """Note outcomes of different alerts."""
    for number, outcome in enumerate(outcomes):
        gate.note(outcome, f"{number}-0", trio.current_time())


async def test_a_channel_that_is_well_has_no_news(autojump_clock: MockClock) -> None:
    """However much it accepts, nobody need hear of it, and nobody is asked."""
    ours, urgent = gate()
    note(ours, Accepted(200), Accepted(200))
    assert ours.take_news(1.0) is None
    ours.saw(GateView(), 1.0)
    assert (True, None, 0) == (ours.is_free, ours.closed(), urgent.count)


async def test_failures_are_news_once(autojump_clock: MockClock) -> None:
    """With the IDs of a row, at most, and how many attempts there were; then there are none until the next."""
    ours, urgent = gate()
    note(ours, *[BUSY] * 25)
    news = ours.take_news(1.0)
    assert News(failed=tuple(f"{number}-0" for number in range(ROW)), attempts=25, reason="answered 503") == news
    assert (None, 0) == (ours.take_news(2.0), urgent.count)


async def test_an_alert_that_always_fails_counts_once(autojump_clock: MockClock) -> None:
    """Twenty attempts of one alert say nothing about the receiver."""
    ours, _ = gate()
    for _ in range(20):
        ours.note(BUSY, "1-0", trio.current_time())
    assert News(failed=("1-0",), attempts=20, reason="answered 503") == ours.take_news(1.0)


@pytest.mark.parametrize("answer", [Accepted(200), Refused("refused with 400", 400)])
async def test_an_acceptance_forgets_what_failed_before_it(answer: Outcome, autojump_clock: MockClock) -> None:
    """A receiver that refuses an alert is there; what fails afterwards begins a row."""
    ours, _ = gate()
    note(ours, BUSY, BUSY, answer)
    assert ours.take_news(1.0) is None
    note(ours, BUSY)
    assert News(failed=("0-0",), attempts=1, reason="answered 503") == ours.take_news(1.0)


async def test_an_acceptance_is_news_while_others_see_failures(autojump_clock: MockClock) -> None:
    """At once if they saw the first one before it, and not again; one from before their first failure is none."""
    ours, urgent = gate()
    await trio.sleep(10)
    note(ours, Accepted(200))
    await trio.sleep(1)
    ours.saw(GateView(row=3, attempts=3, failing_s=0.5), 11.0)
    assert (None, 0) == (ours.take_news(11.0), urgent.count)

    ours.saw(GateView(row=3, attempts=3, failing_s=1.5), 11.0)
    assert 1 == urgent.count
    assert News(accepted=True) == ours.take_news(11.0)
    ours.saw(GateView(row=1, attempts=1, failing_s=1.5), 11.0)
    assert (None, 1) == (ours.take_news(11.0), urgent.count)


async def test_the_others_hear_at_once_that_a_breaker_can_close(autojump_clock: MockClock) -> None:
    """Nobody waits a second longer for a receiver that is back."""
    ours, urgent = gate()
    ours.saw(GateView(row=10, attempts=10, failing_s=60.0, open_s=50.0), 0.0)
    assert (False, Closed("breaker", 0.0)) == (ours.is_free, ours.closed())
    note(ours, Accepted(200))
    assert 1 == urgent.count
    assert News(accepted=True) == ours.take_news(0.0)
    ours.saw(GateView(changed=True), 0.0)
    assert (True, None) == (ours.is_free, ours.closed())


async def test_a_services_own_word_is_urgent(autojump_clock: MockClock) -> None:
    """One answer is enough, and the next one says it again."""
    ours, urgent = gate()
    note(ours, Retry("Slack said invalid_auth", 200, needs_human=True, stop=True))
    news = ours.take_news(0.0)
    assert News(failed=("0-0",), attempts=1, reason="Slack said invalid_auth", stopped=True) == news
    assert 1 == urgent.count
    note(ours, BUSY)
    assert News(failed=("0-0",), attempts=1, reason="answered 503") == ours.take_news(0.0)


async def test_a_limit_closes_at_once_and_is_told(autojump_clock: MockClock) -> None:
    """Here before the others know; it is neither a failure nor an acceptance."""
    ours, urgent = gate()
    note(ours, BUSY, Later("limited: answered 429", 30.0, 429))
    assert (False, Closed("limit", 30.0), 1) == (ours.is_free, ours.closed(), urgent.count)
    await trio.sleep(10)
    news = ours.take_news(10.0)
    assert News(failed=("0-0",), attempts=1, reason="answered 503", limited_s=20.0) == news
    ours.saw(GateView(limited_s=20.0), 10.0)
    assert ours.take_news(10.0) is None
    await trio.sleep(20)
    ours.saw(GateView(), 30.0)
    assert (True, None) == (ours.is_free, ours.closed())


async def test_what_a_gate_answered_is_known_until_then(autojump_clock: MockClock) -> None:
    """So a burst of arrivals costs one command for each token, not one for each alert."""
    ours, _ = gate(Rate(1.0))
    assert (False, None) == (ours.is_free, ours.closed())
    ours.answered(Closed("rate", 0.75))
    assert Closed("rate", 0.75) == ours.closed()
    await trio.sleep(0.5)
    assert Closed("rate", 0.25) == ours.closed()
    await trio.sleep(0.25)
    assert ours.closed() is None
    assert "<ChannelGate of pager: open>" == repr(ours)
