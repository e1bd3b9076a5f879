"""Named fault points: places where a test can make a real process die, fail or hang.

Off by default. `TRIO_ALERTS_FAULT=POINT:ACTION[:COUNT]` arms one of them, for the COUNT-th time that it is reached.
"""

import os
import signal

import trio
from loguru import logger

from trio_alerts.errors import SettingsError

MIGRATION = (  # of `migrate`, in its order; the last one of `migrate --abort`
    "migrate_named",
    "migrate_created",
    "migrate_page",
    "migrate_blocked",
    "migrate_caught_up",
    "migrate_verified",
    "migrate_swapped",
    "migrate_removed",
)
POINTS = (
    "after_read",
    "after_parse",
    "after_gate",
    "after_persist",
    "before_send",
    "after_acceptance",
    "after_send",
    "after_update",
    "after_waiting",
    "after_note",
    "after_ack",
    "after_claim",
    "before_fallback",
    "before_prune",
    "after_prune",
    *MIGRATION,
)
ACTIONS = ("kill", "raise", "hang")


class InjectedFault(Exception):
    """The fault that was injected: an unexpected exception, which is the point."""


class FaultPoint:
    """The armed point, if any.

    Args:
        spec: The value of `TRIO_ALERTS_FAULT`; empty: nothing is armed.

    Raises:
        SettingsError: It is no POINT:ACTION[:COUNT].
    """

    def __init__(self, spec: str = "") -> None:
        self._point = self._action = ""
        self._left = 0
        if not spec:
            return
        point, _, rest = spec.partition(":")
        action, _, count = rest.partition(":")
        if point not in POINTS or action not in ACTIONS or not (count or "1").isdecimal() or count == "0":
            raise SettingsError(
                f"TRIO_ALERTS_FAULT={spec!r} is not POINT:ACTION[:COUNT] with POINT one of {', '.join(POINTS)}, "
                f"ACTION one of {', '.join(ACTIONS)} and COUNT at least 1"
            )
        self._point, self._action, self._left = point, action, int(count or "1")
        logger.warning("FAULT INJECTION IS ON: {fault}", fault=spec)

    async def reach(self, point: str) -> None:
        """Do what was asked for, if this is the armed point and its time has come."""
        if point != self._point:
            return
        self._left -= 1
        if self._left != 0:
            return
        if self._action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._action == "raise":
            raise InjectedFault(f"injected at {point}")
        await trio.sleep_forever()
