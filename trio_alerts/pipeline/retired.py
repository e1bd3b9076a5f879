"""Channels that have left the configuration, as long as attempts may still begin through them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import trio

from trio_alerts.pipeline.in_flight import InFlight
from trio_alerts.ports.channel import Channel

LOOK_EVERY_S = 1.0

Close = Callable[[], Awaitable[None]]


class RetiredChannels:
    """The channels that each change of the configuration took away, and what only they used.

    An attempt that was claimed before the change goes out after it, be it minutes later because the store was away. So
    what left stays usable until everything that was in flight at the change is out of our hands.
    """

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._groups: list[_Group] = []

    def __repr__(self) -> str:
        return f"<RetiredChannels {[name for group in self._groups for name in group.channels]}>"

    def __getitem__(self, name: str) -> Channel:
        return next(group.channels[name] for group in reversed(self._groups) if name in group.channels)

    def add(self, channels: Mapping[str, Channel], close: Close | None) -> None:
        """Keep channels for what is in flight now; `close` closes what only they, and attempts under way, use."""
        self._groups.append(_Group(channels, frozenset(self._in_flight.ids), close))

    async def let_go(self) -> None:
        """Close and forget what no attempt can use any more, until cancelled."""
        while True:
            await trio.sleep(LOOK_EVERY_S)
            done = [group for group in self._groups if group.held.isdisjoint(self._in_flight.ids)]
            for group in done:
                self._groups.remove(group)
                if group.close is not None:
                    await group.close()


class _Group(NamedTuple):
    channels: Mapping[str, Channel]
    held: frozenset[str]  # record IDs
    close: Close | None
