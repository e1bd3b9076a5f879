"""What systemd hears of a service, by sd_notify(3): that it is ready, reloads, lives, stops. Without its library."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping

import trio
from loguru import logger

LOOK_EVERY_S = 0.1  # whether everything reads


class ServiceManager:
    """The one that started this process, if it is one that listens; else nothing is said to anybody.

    Args:
        environ: The environment, where it says how to reach it, and how often it wants to hear of us.

    Attributes:
        watchdog_s: It ends and restarts the service if it hears nothing for this long; None: it does not.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        is_for_us = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(environ["WATCHDOG_USEC"]) / 1e6 if is_for_us and environ.get("WATCHDOG_USEC") else None
        self._was_ready = False

    def ready(self, status: str) -> None:
        """Say that it has started, or reloaded, and how it stands."""
        self._was_ready = True
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins, which `reloaded` ends. Before it was ready for the first time it says nothing."""
        if self._was_ready:  # CLOCK_MONOTONIC is what Python's clock of that name reads, too
            self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=reloading")

    def reloaded(self, status: str) -> None:
        """Say that a reload has ended, and how it stands now."""
        if self._was_ready:
            self.ready(status)

    def stopping(self) -> None:
        """Say that it has begun to stop; a reload that is under way is of no interest any more."""
        self._was_ready = False
        self._tell("STOPPING=1", "STATUS=stopping: what is being sent gets its time to finish")

    async def keep_informed(
        self,
        is_reading: Callable[[], bool],
        problems: Callable[[], Iterable[tuple[str, str]]],
        status: Callable[[], str],
    ) -> None:
        """Say once that it is ready, and then again and again that it lives, until cancelled.

        This runs in the loop that it speaks for. While there is a problem, nothing is said: the watchdog bites.

        Args:
            is_reading: Whether every process reads.
            problems: Which processes hang, and with what.
            status: How it stands, in words.
        """
        if not self._address:
            return
        while not is_reading():  # noqa: ASYNC110 - other processes set what it looks at
            await trio.sleep(LOOK_EVERY_S)
        self.ready(status())
        while self.watchdog_s is not None:
            found = list(problems())
            if not found:
                self._tell("WATCHDOG=1")
            for process, problem in found:
                logger.error(
                    "{_process}: {reason}; the watchdog hears nothing until that is over, and bites after {wait_s:g} s",
                    _process=process,
                    reason=problem,
                    wait_s=self.watchdog_s,
                )
            await trio.sleep(self.watchdog_s / 2)  # as sd_watchdog_enabled(3) has it

    def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(assignments).encode(), self._address)
        except OSError as fault:  # alerts are more important than whoever watches over us
            logger.warning("the service manager cannot be reached: {error}", error=fault)
