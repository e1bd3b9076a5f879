"""What happened, step by step: to be compared, and to be read."""

import hashlib

import trio


class History:
    """Every step in order: when in virtual seconds, who, what, and with what.

    Attributes:
        remarks: Lines for the reader that are no part of what is compared: log lines.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[float, str, str, tuple[object, ...]]] = []
        self._remarks: set[int] = set()

    def __len__(self) -> int:
        return len(self._steps)

    def note(self, who: str, what: str, *details: object) -> None:
        """Add a step. Details are plain values, so that the same step always reads the same."""
        self._steps.append((trio.current_time(), who, what, details))

    def remark(self, who: str, text: str) -> None:
        """Add a line for the reader."""
        self._remarks.add(len(self._steps))
        self.note(who, text)

    def digest(self) -> str:
        """Return a hash of all steps: equal only if the histories are."""
        digest = hashlib.sha256()
        for number, step in enumerate(self._steps):
            if number not in self._remarks:
                digest.update(repr(step).encode())
        return digest.hexdigest()

    def lines(self) -> list[str]:
        """Return the history for a reader, a line each."""
        return [
            f"{at_s:9.3f}  {who:<8} {what:<16} {'  '.join(str(detail) for detail in details)}".rstrip()
            for at_s, who, what, details in self._steps
        ]
