"""A change of the configuration that rolls over the processes: which of them know the channel that it is about."""

from collections.abc import Sequence
from dataclasses import replace

from tests.simulation.plan import RENAMED, Plan
from trio_alerts.settings.settings import ChannelSettings, RouteSettings, Settings


def configured(settings: Settings, plan: Plan, born_at_s: float, *, final: bool) -> Settings:
    """Return the settings of a process that starts at a time, or when the change is over (`final`).

    In the end every process knows the channel: what was added or renamed stays, what was removed comes back. The only
    channel that there is does not change.
    """
    if len(settings.channels) == 1:
        return settings
    name, new = plan.receivers[-1], final or born_at_s >= plan.changed_at_s
    if plan.change == "renamed" and new:
        return _with(settings, name, RENAMED)
    if (plan.change == "added" and not new) or (plan.change == "removed" and new and not final):
        return _with(settings, name, "")
    return settings


def _with(settings: Settings, name: str, new: str) -> Settings:
    """Return settings with a new name for a channel, the old one being its alias; empty: without it."""

    def names(of: Sequence[str]) -> tuple[str, ...]:
        return tuple(new if one == name else one for one in of if new or one != name)

    def channel(one: ChannelSettings) -> ChannelSettings:
        return replace(one, name=new, aliases=(name,)) if one.name == name else one

    def route(one: RouteSettings) -> RouteSettings:
        fallback = names(one.fallback)
        after_s = one.fallback_after_s if fallback else None
        return replace(one, channels=names(one.channels), fallback=fallback, fallback_after_s=after_s)

    return replace(
        settings,
        channels=tuple(channel(one) for one in settings.channels if new or one.name != name),
        routes=tuple(map(route, settings.routes)),
    )
