"""How the channels stand, as all processes of a deployment see them."""

from collections.abc import Mapping, Sequence

from msgspec import Struct

from trio_alerts.delivery import UNCONFIGURED
from trio_alerts.ports.gates import Gates
from trio_alerts.ports.hints import Hints
from trio_alerts.ports.store import AlertStore
from trio_alerts.settings.settings import ChannelSettings


class ChannelStanding(Struct, frozen=True):
    """How a channel stands.

    Args:
        name: Its name.
        kind: Its kind; empty if the settings do not have it, and only records know it.
        destination: Where it sends to, without secrets.
        breaker_open_s: For how long its breaker has been open; None: it is closed.
        limited_s: For how long the service still wants nothing.
        failing_s: Since its last acceptance, for how long attempts have failed.
        failed_attempts: And how many.
        last_error: What the last one of them was answered with.
        queued: Alerts in its queue.
        retrying: Records that wait for a retry through it.
    """

    name: str
    kind: str
    destination: str
    breaker_open_s: float | None
    limited_s: float
    failing_s: float
    failed_attempts: int
    last_error: str
    queued: int
    retrying: int

    @property
    def state(self) -> str:
        """The gravest of what is wrong, in a word."""
        if self.breaker_open_s is not None:
            return "stopped"
        if self.limited_s:
            return "limited"
        return "failing" if self.failed_attempts else "well"


async def channel_standings(
    channels: Sequence[ChannelSettings], gates: Gates, hints: Hints, store: AlertStore
) -> list[ChannelStanding]:
    """Look at each channel of the settings, and at those that only records know.

    Raises:
        Unavailable: A backend does not answer.
    """
    retrying = await store.waiting()
    settings: Mapping[str, ChannelSettings] = {one.name: one for one in channels}
    known = [name for one in channels for name in one.names]
    others = sorted(retrying.keys() - set(known))
    queued = {name: head.waiting for name, head in (await hints.heads([*known, *others, UNCONFIGURED])).items()}
    names = [*settings, *others]
    views = await gates.exchange({}, names)
    if UNCONFIGURED in queued:
        names.append(UNCONFIGURED)
    standings = []
    for name in names:
        one, view = settings.get(name), views.get(name)
        its_names = one.names if one else (name,)
        standings.append(
            ChannelStanding(
                name=name,
                kind=one.kind if one else "",
                destination=one.destination if one else "",
                breaker_open_s=view.open_s if view else None,
                limited_s=view.limited_s if view else 0.0,
                failing_s=view.failing_s if view else 0.0,
                failed_attempts=view.attempts if view else 0,
                last_error=view.reason if view else "",
                queued=sum(queued.get(each, 0) for each in its_names),
                retrying=sum(retrying.get(each, 0) for each in its_names),
            )
        )
    return standings
