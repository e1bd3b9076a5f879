"""The program behind DNS that takes 6 s for one receiver's name, and answers at once for every other."""

import socket
import sys
import time
from typing import Any

from trio_alerts.__main__ import main

TAKES_S = 6.0  # longer than an attempt may take, shorter than the schedule of a cell
_system = socket.getaddrinfo


def _resolve(host: str, *which: Any, **more: Any) -> Any:
    if host.endswith(".example") and not more.get("flags"):
        if host == "hook.example":
            time.sleep(TAKES_S)
        host = "127.0.0.1"
    return _system(host, *which, **more)


if __name__ == "__main__":
    socket.getaddrinfo = _resolve  # type: ignore[assignment]
    sys.exit(main())
