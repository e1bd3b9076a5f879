"""What stops a process, from its first line on: signals, or for a child of `supervise` its parent.

Imported before everything else, and imports nothing that takes time.
"""

import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

CHILD = "_TRIO_ALERTS_CHILD"  # not TRIO_ALERTS_…: that would be a setting
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # a terminal that is closed sends the last


def child_number() -> int | None:
    """Tell which child of `supervise` this process is, from 1; None if it is none."""
    number = os.environ.get(CHILD)
    return None if number is None else int(number)


def stop_signals() -> list[signal.Signals]:
    """Return those that stop this process: all but a SIGHUP that it was started to ignore, as `nohup` does."""
    return [one for one in STOP_SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


class EarlySignals:
    """Signals before anybody waits for them: nothing has begun, so the process just ends, with exit code 0.

    A child ignores them for good: systemd and terminals signal every process of a group, and it is its parent that
    says what is meant.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._over = False

    def catch(self, argv: Sequence[str]) -> None:
        """Catch them, if this may be a service."""
        if not {"run", "console"}.isdisjoint(argv[1:]):
            self._before = {one: signal.getsignal(one) for one in stop_signals()}
            for one in self._before:
                signal.signal(one, self._end if child_number() is None else signal.SIG_IGN)

    def release(self) -> None:
        """Let them do what they did before: this is no service."""
        for one, handler in self._before.items():
            signal.signal(one, handler)

    def hand_over(self) -> None:
        """Note that the service waits for them; those that come when it does no more find a process that ends."""
        self._over = True

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if not self._over:
            os._exit(0)  # an exception could be caught by whatever is being imported


EARLY = EarlySignals()
