"""The program with a bug: parsing an entry that has `"poison": true` kills the process."""

import datetime as dt
import os
import signal
import sys

from trio_alerts.__main__ import main
from trio_alerts.alert import Alert, Entry, parse_entry
from trio_alerts.pipeline import process


def _crash_or_parse(entry: Entry, now: dt.datetime) -> Alert:
    if b'"poison": true' in entry.fields.get(b"event", b""):
        os.kill(os.getpid(), signal.SIGKILL)
    return parse_entry(entry, now)


if __name__ == "__main__":
    process.parse_entry = _crash_or_parse  # type: ignore[attr-defined]
    sys.exit(main())
