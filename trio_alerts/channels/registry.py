"""The kinds of channels. The file of a kind is imported when a channel of that kind is configured."""

import datetime as dt
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from trio_alerts.ports.channel import ConfiguredChannel
from trio_alerts.settings.kinds import choice
from trio_alerts.settings.settings import ChannelSettings
from trio_alerts.text import did_you_mean

if TYPE_CHECKING:
    from trio_alerts.http.transport import TrioTransport

KINDS = ("webhook", "slack", "pagerduty", "email", "file")  # each a file of this folder, with its `KIND` at the end


class Equipment(NamedTuple):
    """What the channels of a process share.

    Args:
        transport: Opens the connections to receivers, where `networks` allows them. Its owner closes it.
        now: The time: for signatures, and for dates in answers.
    """

    transport: "TrioTransport"
    now: Callable[[], dt.datetime]


class ChannelKind(NamedTuple):
    """The settings of one kind of channel, and what makes a channel of them."""

    settings: type[ChannelSettings]
    channel: Callable[[Any, Equipment], ConfiguredChannel]


def load_kind(name: object) -> ChannelKind:
    """Import the file of a kind; what is no text names none.

    Raises:
        ValueError: There is no such kind.
    """
    if name not in KINDS:
        meant = did_you_mean(name, KINDS) if isinstance(name, str) else ""
        raise ValueError(f"it must be {choice(*KINDS).allowed}{meant}")
    kind: ChannelKind = import_module(f"trio_alerts.channels.{name}").KIND
    return kind


def channel_settings(kind: object) -> type[ChannelSettings]:
    """Return what the settings of one kind are; raises as `load_kind`."""
    return load_kind(kind).settings
