"""The program with a bug: sending an alert that has `"poison": true` kills the process."""

import os
import signal
import sys
from collections.abc import Awaitable
from unittest.mock import patch

from trio_alerts.__main__ import main
from trio_alerts.pipeline import process
from trio_alerts.pipeline.attempt import Outcomes, notify
from trio_alerts.pipeline.claim import Claim
from trio_alerts.pipeline.state import Pipeline


def _crash_or_notify(claim: Claim, outcomes: Outcomes, pipeline: Pipeline) -> Awaitable[Claim | None]:
    if b"poison" in claim.stored.record.payload():
        os.kill(os.getpid(), signal.SIGKILL)
    return notify(claim, outcomes, pipeline)


if __name__ == "__main__":
    with patch.object(process, "notify", _crash_or_notify):
        sys.exit(main())
