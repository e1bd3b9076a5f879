"""What may change while a process runs: which settings are taken up, and which of them need a restart. Pure."""

from collections.abc import Iterator
from dataclasses import replace

from trio_alerts.settings.settings import Settings, is_made_up
from trio_alerts.settings.tables import describe

# Channels, routes, and what makes them. They are checked against each other, and against nothing else: so they can be
# taken from new settings while all else stays as it was.
TAKEN_UP = (
    *("channels", "routes"),
    *("webhook_url", "webhook_secret", "in_doubt_policy", "networks", "retry_schedule_s"),
)


def taken_up(running: Settings, new: Settings) -> Settings:
    """Return the settings of a process that runs, with what it can take up of new ones."""
    return replace(running, **{name: getattr(new, name) for name in TAKEN_UP})


def need_restart(running: Settings, new: Settings) -> list[str]:
    """Name the settings that have changed, but stay as they were until the next start."""
    return [
        name
        for name, setting in describe(Settings).items()
        if name not in TAKEN_UP and setting.section != "Console"  # which is a process of its own
        if getattr(running, name) != getattr(new, name)
        if not (name == "consumer" and is_made_up(running.consumer) and is_made_up(new.consumer))
    ]


def differences(before: Settings, after: Settings) -> Iterator[str]:
    """Say in a few words each what is different: names alone, since all else may be a secret."""
    old, new = ({channel.name: channel for channel in settings.channels} for settings in (before, after))
    for word, names in (
        ("added", [name for name in new if name not in old]),
        ("removed", [name for name in old if name not in new]),
        ("changed", [name for name in new if name in old and new[name] != old[name]]),
    ):
        if names:
            yield f"{'channels' if len(names) > 1 else 'channel'} {', '.join(names)} {word}"
    if before.routes != after.routes:
        yield "routes changed"
    for name in ("networks", "retry_schedule_s"):
        if getattr(before, name) != getattr(after, name):
            yield f"{name} changed"
