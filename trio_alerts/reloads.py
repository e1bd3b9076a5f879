"""Reloads: the settings are read again when somebody asks for it, and a bad file changes nothing."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from anyio import to_thread
from loguru import logger

from trio_alerts.errors import AlertError
from trio_alerts.pipeline.outage import Signal
from trio_alerts.service_manager import ServiceManager
from trio_alerts.settings.changes import differences, need_restart, taken_up
from trio_alerts.settings.settings import Settings, require_channels, warnings_about

ReloadOutcome = Literal["ok", "refused"]


class Reloads:
    """The settings of a process that runs, and what was made of requests to read them again.

    Args:
        read: Reads the settings from all their sources. Blocking code; raises SettingsError.
        settings: What was read at the start.
        file: Where most of it comes from, for messages; None: there is no file.

    Attributes:
        settings: What is in use.
        counts: How many reloads there were, by outcome.
        last_was_ok: Whether the last one was; true as long as there was none.
    """

    def __init__(self, read: Callable[[], Settings], settings: Settings, file: Path | None = None) -> None:
        self.settings = settings
        self.counts: dict[ReloadOutcome, int] = {"ok": 0, "refused": 0}
        self.last_was_ok = True
        self._read = read
        self._file = str(file or "the configuration")
        self._asked = Signal()

    def ask(self) -> None:
        """Ask for a reload. May be called from the start on; what is asked for again before it begins is done once."""
        self._asked.set()

    async def keep_reloading(self, use: Callable[[Settings], Awaitable[None]], manager: ServiceManager) -> None:
        """Reload whenever that was asked for, one after the other, until cancelled.

        Args:
            use: Puts other settings to use, wholly or, with an error, not at all.
            manager: Hears of it.
        """
        while True:
            await self._asked.changed()
            manager.reloading()
            outcome = await self._reload(use)
            self.counts[outcome] += 1
            self.last_was_ok = outcome == "ok"
            manager.reloaded(self.status)

    @property
    def status(self) -> str:
        """How it stands, in words."""
        settings = self.settings
        who = "reads" if settings.processes == 1 else f"{settings.processes} processes read"
        refused = "" if self.last_was_ok else "; the last reload was refused, and the log says why"
        return f"{who} {', '.join(settings.stream_names)} as group {settings.group}{refused}"

    async def _reload(self, use: Callable[[Settings], Awaitable[None]]) -> ReloadOutcome:
        before = self.settings
        try:
            new = await to_thread.run_sync(self._read)
            require_channels(new)
            after = taken_up(before, new)
            await use(after)
        except AlertError as problem:
            logger.error(
                "{file} is refused, and everything stays as it was: {error}",
                file=self._file,
                error="; ".join(str(problem).splitlines()),
            )
            return "refused"
        except Exception as fault:  # noqa: BLE001 - no reload is worth the alerts that are under way
            logger.opt(exception=fault).error(
                "{file} could not be read again, please report this bug; everything stays as it was", file=self._file
            )
            return "refused"
        self.settings = after
        changes = list(differences(before, after))
        logger.info(
            "{file} was read again: {_changes}",
            file=self._file,
            changes=changes,
            _changes="; ".join(changes) or "no channel or route has changed",
        )
        for warning in warnings_about(after):
            logger.warning("{warning}", warning=warning)
        if names := need_restart(before, new):
            logger.warning(
                "{file} has changes that need a restart, and wait for it: {_names}",
                file=self._file,
                need_restart=names,
                _names=", ".join(names),
            )
        return "ok"
