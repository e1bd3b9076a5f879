"""What stops a process, or has it reload, from its first line on: signals, or for a child of a `Family` its parent.

Imported before everything else, and imports nothing that takes time.
"""

import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

CHILD = "_TRIO_ALERTS_CHILD"  # not TRIO_ALERTS_…: that would be a setting
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # the last: where nothing can be read again


def child_number() -> int | None:
    """Tell which child of a `Family` this process is, from 1; None if it is none."""
    number = os.environ.get(CHILD)
    return None if number is None else int(number)


def asks_to_reload(number: int) -> bool:
    """Tell what a signal asks of a process that can reload: SIGHUP to do so, unless its terminal was closed."""
    return number == signal.SIGHUP and _has_terminal() == _HAD_TERMINAL


def stop_signals() -> list[signal.Signals]:
    """Return those that this process heeds: all but a SIGHUP that it was started to ignore, as `nohup` does."""
    return [one for one in STOP_SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


class EarlySignals:
    """Signals before anybody waits for them: nothing has begun, so the process just ends, with exit code 0.

    Where SIGHUP asks for a reload it is kept until then: what was read by now may be what it is about.

    A child ignores them for good: systemd and terminals signal every process of a group, and it is its parent that
    says what is meant.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._over = self._reloads = self._to_reload = False

    def catch(self, argv: Sequence[str]) -> None:
        """Catch them, if this may be a service."""
        self._reloads = "run" in argv[1:]
        if self._reloads or "console" in argv[1:]:
            self._before = {one: signal.getsignal(one) for one in stop_signals()}
            for one in self._before:
                signal.signal(one, self._end if child_number() is None else signal.SIG_IGN)

    def ignore(self) -> None:
        """Heed none of them any more: the interpreter ends, and would let them do what they do by default."""
        for one in self._before:
            signal.signal(one, signal.SIG_IGN)

    def release(self) -> None:
        """Let them do what they did before: this is no service."""
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before.clear()

    def hand_over(self) -> bool:
        """Note that the service waits for them; those that come when it does no more find a process that ends.

        Returns whether one of those that have come asks for a reload.
        """
        self._over = True
        return self._to_reload

    def _end(self, number: int, _frame: FrameType | None) -> None:
        if self._reloads and asks_to_reload(number):
            self._to_reload = True
        elif not self._over:
            os._exit(0)  # an exception could be caught by whatever is being imported


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


_HAD_TERMINAL = _has_terminal()


EARLY = EarlySignals()
