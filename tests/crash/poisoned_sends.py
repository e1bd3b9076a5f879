"""The program with a bug: sending an alert that has `"poison": true` kills the process."""

import os
import signal
import sys
from collections.abc import Awaitable

from trio_alerts.__main__ import main
from trio_alerts.pipeline import process
from trio_alerts.pipeline.attempt import Outcomes, notify
from trio_alerts.pipeline.state import Pipeline
from trio_alerts.record import Record


def _crash_or_notify(record: Record, payload: bytes, outcomes: Outcomes, pipeline: Pipeline) -> Awaitable[None]:
    if b"poison" in payload:
        os.kill(os.getpid(), signal.SIGKILL)
    return notify(record, payload, outcomes, pipeline)


if __name__ == "__main__":
    process.notify = _crash_or_notify  # type: ignore[attr-defined]
    sys.exit(main())
