import subprocess
import sys

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.errors import SettingsError
from trio_alerts.pipeline.fault_points import FaultPoint, InjectedFault


@pytest.mark.parametrize("spec", ["x", "after_send", "after_send:boom", "nowhere:kill", "after_send:kill:0", "a:b:c:d"])
def test_a_fault_that_makes_no_sense_is_refused(spec: str) -> None:
    """A test that arms nothing by a slip of the pen would prove nothing."""
    with pytest.raises(SettingsError, match="POINT:ACTION"):
        FaultPoint(spec)


async def test_nothing_is_armed_by_default() -> None:
    """Without the variable every point is passed."""
    await FaultPoint().reach("after_send")


async def test_raise_happens_at_its_point_and_count_only() -> None:
    """The COUNT-th time, and only then."""
    fault = FaultPoint("after_send:raise:2")
    await fault.reach("after_send")
    await fault.reach("after_update")
    with pytest.raises(InjectedFault, match="after_send"):
        await fault.reach("after_send")
    await fault.reach("after_send")


async def test_hang_hangs(autojump_clock: MockClock) -> None:
    """A hanging worker can still be cancelled."""
    with trio.move_on_after(1000) as scope:
        await FaultPoint("before_send:hang").reach("before_send")
    assert scope.cancelled_caught


def test_kill_kills() -> None:
    """It is SIGKILL: nothing is cleaned up."""
    code = """
import trio
from trio_alerts.pipeline.fault_points import FaultPoint

trio.run(FaultPoint("after_ack:kill").reach, "after_ack")
"""
    assert -9 == subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode
