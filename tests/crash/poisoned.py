"""The program with a bug: parsing an entry that has `"poison": true` kills the process."""

import os
import signal
import sys
from unittest.mock import patch

from trio_alerts import alert
from trio_alerts.__main__ import main
from trio_alerts.event import AlertEvent, parse_event


def _crash_or_parse(payload: bytes) -> AlertEvent:
    if b'"poison": true' in payload:
        os.kill(os.getpid(), signal.SIGKILL)
    return parse_event(payload)


if __name__ == "__main__":
    with patch.object(alert, "parse_event", _crash_or_parse):
        sys.exit(main())
