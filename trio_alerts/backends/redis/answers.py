"""What an answer of Redis means: one place for its shape, one for its errors.

Whatever is not what we know is an outage: it is named and waited for, and it never ends the process.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct
from redis.exceptions import NoPermissionError
from redis.typing import EncodableT

from trio_alerts.errors import Unavailable
from trio_alerts.record_ids import is_entry_id, order

SHOWN = 200  # characters of what was answered: enough to recognise a proxy, too few for a payload

T = TypeVar("T")

_FORBIDDEN = re.compile(
    # Redis and Valkey, outside and inside of scripts: renamed away, or not permitted to the user.
    r"unknown (redis )?command|the user executing the script can't|ACL failure in script|has no permissions|NOPERM",
    re.IGNORECASE,
)
_CALLED = re.compile(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?")
_WITH_KEY = ("X", "H", "Z", "EXISTS", "PTTL")
_SUBCOMMANDS = ("CLIENT", "XGROUP", "XINFO")


class Refusal(Unavailable):
    """The server is there and says no: most often a human has to act, but a restart or fail-over may do as well.

    The command had no effect, but for a script that was ended in the middle.

    Args:
        message: For the log: which server, which command, and what it says.
        reply: What the server said, without `ERR`.
        forbidden: The command is unknown there, or the user may not run it.
    """

    def __init__(self, message: str, reply: str = "", *, forbidden: bool = False) -> None:
        super().__init__(message)
        self.reply = reply
        self.forbidden = forbidden


class EntryId:
    """The ID of a stream's entry, as the server writes it; for shapes, where `bytes` could be anything."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class List(Struct, array_like=True, forbid_unknown_fields=True):
    """An answer that is a list of so many things; what inherits says of which."""


class ServerTime(List):
    """What TIME answers. A time of which Python can make no date is no time."""

    seconds: Annotated[int, Meta(ge=0, lt=2**37)]
    microseconds: Annotated[int, Meta(ge=0, lt=1_000_000)]

    @property
    def since_epoch_s(self) -> float:
        """The time, in seconds."""
        return self.seconds + self.microseconds / 1_000_000


def shaped(answer: Any, shape: type[T]) -> T:
    """Return an answer whose shape is the one that is known.

    Args:
        answer: As hiredis or a parser of redis-py gives it.
        shape: Its type; `bytes`, `int`, `EntryId`, lists, tuples, dicts and classes of these.

    Raises:
        ValueError: It is something else.
    """
    return msgspec.convert(answer, shape, dec_hook=_entry_id)


def in_order(ids: Sequence[EntryId], start: str) -> bool:
    """Tell whether a page's IDs come in the server's order, from `start` on: pages that do not may have no end."""
    places = [order(one.text) for one in ids]
    if places and start != "-" and places[0] < order(start):
        return False
    return all(one < other for one, other in pairwise(places))


def refusal(address: object, user: str, command: tuple[EncodableT, ...], error: Exception) -> Refusal:
    """Say what an error of the server means."""
    reply = str(error)
    what = describe(command)
    forbidden = isinstance(error, NoPermissionError) or _FORBIDDEN.search(reply) is not None
    if forbidden:
        message = f"{address} does not let the user {user!r} run {what}: {reply} (see ACL SETUSER, rename-command)"
    else:
        message = f"{address} refuses {what}: {reply}"
    return Refusal(message, reply, forbidden=forbidden)


def misunderstood(address: object, command: tuple[EncodableT, ...], answer: object) -> Unavailable:
    """Say that an answer does not have the form that the command's answers have."""
    return Unavailable(f"{address} gave an unexpected answer to {describe(command)}: {answer!r:.{SHOWN}}")


def describe(command: tuple[EncodableT, ...]) -> str:
    """Name a command and its keys for a message; for a script, the commands that it calls."""
    name, *arguments = map(_text, command)
    if name == "EVAL" and len(arguments) > 1:
        script, count = arguments[0], int(arguments[1])
        name = f"EVAL ({', '.join(dict.fromkeys(calls_of(script)))})"
        keys = arguments[2 : 2 + count]
    elif name == "XREADGROUP" and "STREAMS" in arguments:
        streams = arguments[arguments.index("STREAMS") + 1 :]
        keys = streams[: len(streams) // 2]
    else:
        keys = arguments[:1] if name in ("GET", "SET") or name.startswith(_WITH_KEY) else []
    return f"{name} on {', '.join(map(repr, keys))}" if keys else name


def calls_of(script: str) -> list[str]:
    """Return the commands that a script calls, with their subcommands."""
    return [f"{name} {sub}" if name in _SUBCOMMANDS else name for name, sub in _CALLED.findall(script)]


def _text(part: EncodableT) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)


def _entry_id(_: type, answer: object) -> EntryId:
    text = answer.decode() if isinstance(answer, bytes) else ""
    if not is_entry_id(text):
        raise ValueError("not an entry's ID")
    return EntryId(text)
