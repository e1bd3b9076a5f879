"""What `run` serves at `http_bind`: `/healthz`, `/readyz` and `/metrics`, for all processes of this machine."""

import math

import trio
from loguru import logger
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trio_alerts.meter.cells import now_ms
from trio_alerts.reloads import Reloads
from trio_alerts.settings.hosts import BindAddress
from trio_alerts.web.backends import Backends, StoreOpener
from trio_alerts.web.canary import CanaryWatch
from trio_alerts.web.figures import Figures
from trio_alerts.web.health import Health
from trio_alerts.web.metrics import MetricsPage
from trio_alerts.web.serve import bind, serve

RENDER_EVERY_S = 0.5  # a page takes some milliseconds of the loop that alerts need


class Site:
    """The pages, bound at once: a port that is taken ends the program before anything is consumed.

    Args:
        address: Where to listen.
        reloads: Have the settings of this process and of its children, as they are now.
        health: Knows each process that works.
        open_store: Opens the store.

    Raises:
        SettingsError: It cannot listen there.
    """

    def __init__(self, address: BindAddress, reloads: Reloads, health: Health, open_store: StoreOpener) -> None:
        self._listener = bind(address, "http_bind")
        self._address = address
        self._backends = Backends(reloads.settings, open_store)
        self._figures = Figures(self._backends, lambda: reloads.settings)
        self._health = health
        self._canary = CanaryWatch(reloads.settings, self._backends, health)
        self._metrics = MetricsPage(health, reloads)
        self._page, self._accepted, self._rendered_at_s = (b"", ""), "", -math.inf

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; nobody who asks is waited for then. Started when requests are answered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._backends.watch_redis)
            nursery.start_soon(self._backends.watch_store)
            nursery.start_soon(self._figures.keep_asking)
            nursery.start_soon(self._canary.watch)
            await nursery.start(serve, self._app(), self._listener, trio.Event(), 0.0)
            logger.info("serving /healthz, /readyz and /metrics on http://{address}", address=str(self._address))
            task_status.started()

    def _app(self) -> Starlette:
        pages = (("/healthz", self._healthz), ("/readyz", self._readyz), ("/metrics", self._metricsz))
        return Starlette(routes=[Route(path, page, methods=["GET"]) for path, page in pages])

    async def _healthz(self, _: Request) -> Response:
        problems = [{"process": name, "problem": what} for name, what in self._health.problems(now_ms())]
        return JSONResponse({"healthy": not problems, "problems": problems}, 503 if problems else 200)

    async def _readyz(self, _: Request) -> Response:
        backends = self._backends
        checks = {"redis": backends.redis_check, "store": backends.store_check, "schema": backends.schema_check}
        says = {name: check.as_json() for name, check in checks.items()}
        if canary := self._canary.as_json():
            says["canary"] = canary
        ready = all(one["ok"] for one in says.values())
        return JSONResponse({"ready": ready, "checks": says}, 200 if ready else 503)

    async def _metricsz(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        if trio.current_time() - self._rendered_at_s >= RENDER_EVERY_S or accept != self._accepted:
            figures = await self._figures.look()
            self._page = self._metrics.render(accept, *figures, self._canary.ages())
            self._rendered_at_s, self._accepted = trio.current_time(), accept
        page, content_type = self._page
        return Response(page, headers={"content-type": content_type})
