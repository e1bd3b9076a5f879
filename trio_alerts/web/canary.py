"""The canary as `/readyz` and `/metrics` show it: how old the last one is that came through, and where one hangs."""

import math
from collections.abc import Mapping

import trio
from loguru import logger

from trio_alerts.errors import AlertError
from trio_alerts.meter.cells import now_ms
from trio_alerts.operations.canaries import CanaryAge, remove_orphans, tend, whereabouts
from trio_alerts.record_ids import RecordIds
from trio_alerts.settings.settings import Settings
from trio_alerts.web.backends import Backends, Check
from trio_alerts.web.health import Health

LOOKS_A_PERIOD = 10
CLEAR_EVERY_S = 60.0  # without canaries: one may be left of before they were switched off
LOOK_FOR_ORPHANS_EVERY_S = 3600.0  # a search: rarely is there one


class CanaryWatch:
    """Tends the canaries of all streams, over the connections that `/readyz` has.

    Here, and not in a worker process: who shows whether they work must not depend on them.

    Args:
        settings: Say how often, if at all.
        backends: Both may be away.
        health: Knows the processes of this machine.
    """

    def __init__(self, settings: Settings, backends: Backends, health: Health) -> None:
        self._every_s = settings.canary_every_s
        self._streams = settings.stream_names
        self._ids = RecordIds(settings.stream_names)
        self._backends = backends
        self._health = health
        self._ages: dict[str, CanaryAge] = {}  # from the watch on
        self._where = dict.fromkeys(self._streams, "none was written yet")
        self._orphans_at_s = -math.inf
        self._check = Check(ok=True, reason="")

    async def watch(self) -> None:
        """Tend them until cancelled; without canaries, clear away what is left of earlier ones."""
        now_s = trio.current_time()
        self._ages = {stream: CanaryAge(now_s) for stream in self._streams}
        pause_s = CLEAR_EVERY_S if self._every_s is None else self._every_s / LOOKS_A_PERIOD
        while True:
            for stream in self._streams:
                await self._look(stream)
            await self._clear()
            if self._every_s is not None:
                self._judge()
            await trio.sleep(pause_s)

    def ages(self) -> Mapping[str, float]:
        """Return the age by stream; empty without canaries."""
        if self._every_s is None:
            return {}
        return {stream: age.at(trio.current_time()) for stream, age in self._ages.items()}

    def as_json(self) -> dict[str, object] | None:
        """Return what `/readyz` says of it; None without canaries."""
        if self._every_s is None or not self._ages:
            return None
        self._judge()
        return self._check.as_json() | {"age_s": round(max(self.ages().values()), 1)}

    async def _look(self, stream: str) -> None:
        backends = self._backends
        redis, store = backends.redis, backends.store
        if redis is None or store is None:
            return
        try:
            seen, says = await tend(stream, redis.canaries, store, self._ids, self._every_s)
        except trio.ClosedResourceError:  # whoever watches the backend has given it up meanwhile
            self._where[stream] = "a connection was lost"
        except AlertError as fault:
            self._where[stream] = str(fault)
        except Exception as bug:  # noqa: BLE001 - who watches must go on watching
            logger.opt(exception=bug).error("a canary could not be tended, please report this bug")
            self._where[stream] = f"an unexpected answer ({type(bug).__name__})"
        else:
            self._ages[stream].note(seen, trio.current_time())
            self._where[stream] = whereabouts(seen, says)

    def _who_is_away(self) -> str:
        backends = self._backends
        checks = (backends.redis_check, backends.store_check, backends.schema_check)
        named = zip(("Redis", "the store", "the index"), checks, strict=True)
        return "; ".join(f"{name}: {one.reason}" for name, one in named if not one.ok)

    async def _clear(self) -> None:
        """Now and then, remove what is left of canaries that nobody knows of any more."""
        redis, store, now_s = self._backends.redis, self._backends.store, trio.current_time()
        if redis is None or store is None or now_s - self._orphans_at_s < LOOK_FOR_ORPHANS_EVERY_S:
            return
        try:
            await remove_orphans(redis.canaries, store, self._ids)
        except (AlertError, trio.ClosedResourceError) as cause:
            logger.debug("what is left of old canaries stays for now: {reason}", reason=cause)
        self._orphans_at_s = now_s

    def _judge(self) -> None:
        was_ok = self._check.ok
        self._check.note(self._problem())
        if was_ok and not self._check.ok:
            logger.error("the canary shows that alerts may not get through: {reason}", reason=self._check.reason)
        elif not was_ok and self._check.ok:
            logger.info("the canary comes through again")

    def _problem(self) -> str:
        """Say which canary is late, and where it hangs, and which process would hold up whatever it has."""
        problems = [f"{name}: {what}" for name, what in self._health.problems(now_ms())]
        every_s, (stream, age_s) = self._every_s or math.inf, max(self.ages().items(), key=lambda item: item[1])
        if age_s > 2 * every_s:
            of = f" of stream {stream!r}" if len(self._streams) > 1 else ""
            where = self._who_is_away() or self._where[stream]
            signs = "".join(f"; {sign}" for sign in self._health.signs())
            problems.insert(0, f"no canary{of} has come through for {age_s:.0f} s: {where}{signs}")
        return "; ".join(problems)
