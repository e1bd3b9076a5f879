"""The journal of systemd, as a service writes to it: its own test of where stderr leads, and the level of a line."""

import os

# sd-daemon(3): the level of a line stands in front of it, by the numbers of syslog.
_NUMBERS = {"DEBUG": 7, "INFO": 6, "WARNING": 4, "ERROR": 3, "CRITICAL": 2}


def is_journal(descriptor: int) -> bool:
    """Tell whether a descriptor leads to the journal.

    systemd.exec(5): `JOURNAL_STREAM` is the device and the inode of what a service was started with. The variable alone
    says nothing: a shell between may have sent stderr elsewhere.
    """
    there = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{there.st_dev}:{there.st_ino}"


def with_level(text: str, level: str) -> str:
    """Return lines with their level in front: the journal reads each for itself, also those of a traceback."""
    return "".join(f"<{_NUMBERS[level]}>{line}" for line in text.splitlines(keepends=True))
