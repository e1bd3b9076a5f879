"""The port of canaries: where the one of a stream is, and the notes that tell canaries from alerts.

A canary is noted in the step that adds its entry, and its note goes in the step that removes it. So an entry that is
noted is a canary, and no other is, whatever a producer writes. Each step may be made by any process, and by several.
"""

from collections.abc import Collection
from typing import Literal, Protocol

from msgspec import Struct

# Where a canary's entry is: there is none; nobody has read it; it was trimmed or deleted before anybody did; somebody
# has it; it is done with.
Place = Literal["none", "unread", "trimmed", "pending", "acknowledged"]


class Sighting(Struct, frozen=True, kw_only=True):
    """Where the canary of one stream was, at one look. Times are the server's, in seconds since the epoch.

    Args:
        now_s: The time of the look.
        entry_id: Of the canary that is under way; empty: none is.
        written_s: When the last one was written, whether it is under way or not; None: none ever was.
        through_s: When the last one was written that went the whole way; None: none ever did.
        place: Where its entry is.
        unread: How many entries nobody has read, itself included, if the server can tell.
        consumer: Who has it.
        held_s: For how long nobody has heard of it from there.
        lost: What became of the last one, if it did not go the whole way.
        spent: The entry IDs of those that are under way no more, and whose records are still to be removed.
    """

    now_s: float
    entry_id: str = ""
    written_s: float | None = None
    through_s: float | None = None
    place: Place = "none"
    unread: int | None = None
    consumer: str = ""
    held_s: float = 0.0
    lost: str = ""
    spent: tuple[str, ...] = ()


class Canaries(Protocol):
    """The canaries of one group's streams."""

    async def look(self, stream: str) -> Sighting:
        """Look where the canary of a stream is."""

    async def write(self, stream: str, every_s: float | None, payload: bytes) -> Sighting:
        """Write a canary into a stream, unless one is under way or was written less than `every_s` ago; then look.

        Nothing is written where there is no stream, or no group, or with None. A last one that lies in the future was
        written before the server's clock was set back, and does not count. Dropped ones that another group needed are
        removed if it is done with them.
        """

    async def settle(self, stream: str, entry_id: str, lost: str = "") -> None:
        """Note that a canary is under way no more: it went the whole way, or what became of it. It is spent then."""

    async def drop(self, stream: str, entry_id: str) -> None:
        """Remove the entry of a spent canary whose record is gone, with its note.

        It stays as long as a group of the stream needs it: a `write` removes it later. Of so many that it is no
        help any more, the last one goes at once.
        """

    async def noted(self, stream: str, entry_ids: Collection[str]) -> dict[str, str]:
        """Return the group of those entries that are canaries; empty for one whose record is gone."""
