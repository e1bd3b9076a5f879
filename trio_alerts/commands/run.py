"""`run`: the worker."""

import argparse

from loguru import logger

from trio_alerts import __version__
from trio_alerts.commands.command import Command
from trio_alerts.processes import lead, work, work_for_parent
from trio_alerts.reloads import Reloads
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.settings import Settings, require_channels
from trio_alerts.settings.tables import as_toml, changed
from trio_alerts.stop_signals import child_number
from trio_alerts.text import in_words


def _execute(arguments: argparse.Namespace, settings: Settings) -> int:
    require_channels(settings)
    if child_number() is not None:
        work_for_parent(settings)
        return 0
    introduce(settings)
    reloads = Reloads(arguments.read_settings, settings, arguments.settings_file)
    if settings.processes > 1:
        Routing(settings)  # a mistake is reported once, not by every child
        return lead(reloads)
    work(reloads)
    return 0


def introduce(settings: Settings) -> None:
    """Log what runs here, with what: hosts, and neither credentials nor the paths of receivers."""
    destinations = {channel.name: channel.destination for channel in settings.channels}
    others = {name: value for name, value in changed(settings).items() if name not in _INTRODUCED}
    each = "1 process" if settings.processes == 1 else f"{settings.processes} processes, each"
    logger.info(
        "trio-alerts {version}",
        version=__version__,
        streams=settings.stream_names,
        redis=str(settings.redis_url),
        group=settings.group,
        store=str(settings.store_url),
        destinations=destinations,
        processes=settings.processes,
        workers=settings.workers,
        settings=others,
        _below=(
            f"reads     {', '.join(settings.stream_names)} of {settings.redis_url} as group {settings.group}",
            f"records   in {settings.store_url}",
            f"notifies  {', '.join(f'{name} ({where})' for name, where in destinations.items())}",
            f"runs      {each} with {settings.workers} workers",
            f"keeps     {_kept(settings)}",
            *(f"set       {name} = {as_toml(value)}" for name, value in others.items()),
        ),
    )


def _kept(settings: Settings) -> str:
    """Say what grows: by default everything does."""
    keep_s, trims = settings.keep_records_s, settings.trim == "acked"
    entries = f"entries for {in_words(settings.trim_keep_s)} (trim = acked)" if trims else "every entry (trim = off)"
    if keep_s is None:
        return f"{entries}, and every record (no keep_records_s)"
    return f"{entries}, and records for {in_words(keep_s)}, once their entries are gone"


# What the lines and fields of the banner say already; secrets are not among the settings that `changed` returns.
_INTRODUCED = frozenset({"stream", "streams", "group", "consumer", "processes", "workers"})


COMMAND = Command(
    execute=_execute,
    about="""\
Runs until SIGTERM or SIGINT: then nothing new is read, what is being sent gets --grace-s to finish, and the exit code
is 0. A second signal stops it at once with exit code 1; other processes take over what was interrupted.

SIGHUP reads channels, routes and secrets again. Nothing that is under way is cut, and a file with a mistake changes
nothing: the log says what is wrong with it.

It needs Redis, a store and at least one channel. A problem with one of them ends it before anything is consumed:
2 settings, 3 the index, 4 a backend cannot be reached or refuses us. Exit code 1: a fault while running; 5: too many
entries in a row were quarantined.""",
    examples=(
        "run --webhook-url https://example.org/alerts",
        "run --config /etc/trio-alerts.toml --log-format json",
        "run --redis-url redis://10.0.0.5:6379/0 --store-url sqlite:///alerts.db --webhook-url http://10.0.0.9/hook",
    ),
    json="the same as --log-format json",
    service=True,
)
