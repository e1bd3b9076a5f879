"""The silences' port: what operators keep from being sent, for a time."""

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from trio_alerts.exact_json import Timestamp


class Silence(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Alerts that are recorded and not sent, from `since` until `until`, in the Redis server's time.

    One with a field that this version does not know silences nothing: it may be what narrows it.

    Args:
        id: Short, to be typed.
        matchers: As they were written; all of them must hold. None: every alert.
        since, until: The second is not included.
        why: What people are told who look for an alert.
        by: Who wanted it.
        ended_by: Who ended it before its time.
    """

    id: str
    matchers: tuple[str, ...]
    since: Timestamp
    until: Timestamp
    why: str
    by: str
    ended_by: str | None = None

    def is_active(self, now: dt.datetime) -> bool:
        """Tell whether it still keeps alerts from being sent."""
        return now < self.until


class SilenceList(Struct, frozen=True):
    """All silences as they were at one version; opaque, and empty if there was never one, or if they were lost."""

    version: str
    silences: tuple[Silence, ...]


class Silences(Protocol):
    """The silences of one deployment, shared by all its processes. Losing them makes noise, not silence."""

    async def latest(self, known: str | None = None) -> SilenceList | None:
        """Return the silences, those that are over included; None if their version is the one that is known.

        What somebody else wrote there and nobody can read is left out, and logged as an error.
        """

    async def add(self, silence: Silence, forgotten: Sequence[str] = ()) -> bool:
        """Add one, and forget others by their IDs, in one step; false, and nothing, if there is one of its ID."""

    async def replace(self, silence: Silence) -> bool:
        """Write one over the one of its ID; false, and nothing, if there is none."""

    async def now(self) -> dt.datetime:
        """Return the server's time."""
