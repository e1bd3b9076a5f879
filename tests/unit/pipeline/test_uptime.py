import trio
from trio.testing import MockClock

from trio_alerts.pipeline.uptime import KEPT_GAPS, Uptime


async def test_only_what_is_answered_counts(autojump_clock: MockClock) -> None:
    """Two gaps, and one that goes on: what is left of the time since a moment, wherever that lies."""
    await trio.sleep(5)
    uptime = Uptime()
    for answers_s, fails_s in ((10, 2), (20, 3), (5, 0)):
        await trio.sleep(answers_s)
        uptime.failed(write=False)
        await trio.sleep(fails_s)
        if fails_s:
            uptime.answered(write=False)
    await trio.sleep(1)

    assert uptime.in_gap
    # It began at 5, and did not answer from 15 to 17, from 37 to 40, and since 45; it is 46 now.
    assert [35, 35, 25, 25, 24, 5, 5, 4, 0] == [uptime.since(moment) for moment in (0, 5, 15, 17, 18, 39, 40, 41, 45)]


async def test_it_stays_small(autojump_clock: MockClock) -> None:
    """A backend that comes and goes for ever: the last gaps are kept, and the time since then is exact."""
    uptime = Uptime()
    for _ in range(2 * KEPT_GAPS):
        await trio.sleep(1)
        uptime.failed(write=True)
        await trio.sleep(1)
        uptime.answered(write=True)

    assert 100 == uptime.since(trio.current_time() - 200)
    assert KEPT_GAPS == len(uptime._gaps)
