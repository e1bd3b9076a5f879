"""What may be done to one record: each on a page that says what would happen, and happens when that is confirmed."""

from typing import Any, cast, get_args

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trio_alerts.operations.records import Change, Skip
from trio_alerts.operations.redeliver import channels_made_due, names_of
from trio_alerts.operations.resolve import resolve
from trio_alerts.transitions import Resolution
from trio_alerts.web.desk import Desk
from trio_alerts.web.record_pages import address_of, valid_id
from trio_alerts.web.rendering import Renderer
from trio_alerts.web.visitors import log_change, visitor_of

REDELIVER, RESOLVE = "/records/{record_id:path}/redeliver", "/records/{record_id:path}/resolve"


class RecordActions:
    """Redeliver and resolve."""

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self.routes = [
            Route(REDELIVER, self._preview_redelivery),
            Route(REDELIVER, self._redeliver, methods=["POST"]),
            Route(RESOLVE, self._preview_resolution),
            Route(RESOLVE, self._resolve, methods=["POST"]),
        ]

    async def _preview_redelivery(self, request: Request) -> Response:
        through = self._names_of(request.query_params.get("through", ""))
        return self._redelivery_page(request, await self._redelivery(request, through, dry_run=True), through)

    async def _redeliver(self, request: Request) -> Response:
        through = self._names_of(request.state.form.get("through", ""))
        result = await self._redelivery(request, through, dry_run=False)
        if isinstance(result, Skip):
            return self._redelivery_page(request, result, through, 409)
        due = ", ".join(channels_made_due(result, through))
        log_change(request, f"made record {result.record_id} due again through {due}")
        return RedirectResponse(f"{address_of(result.record_id)}?done=redelivered", 303)

    async def _preview_resolution(self, request: Request) -> Response:
        return self._page(request, "resolve.html", await self._resolution(request, "delivered", dry_run=True))

    async def _resolve(self, request: Request) -> Response:
        resolution = request.state.form.get("resolution")
        if resolution not in get_args(Resolution):
            raise HTTPException(400, "say whether it was delivered or has failed")
        result = await self._resolution(request, cast("Resolution", resolution), dry_run=False)
        if isinstance(result, Skip):
            return self._page(request, "resolve.html", result, 409)
        log_change(request, f"settled record {result.record_id} as {resolution}")
        return RedirectResponse(f"{address_of(result.record_id)}?done=resolved", 303)

    async def _redelivery(self, request: Request, through: tuple[str, ...], *, dry_run: bool) -> Change | Skip:
        redelivery = await self._desk.redelivery(visitor_of(request).name, dry_run=dry_run, through=through)
        (result,) = [one async for one in redelivery.by_id([valid_id(request.path_params["record_id"])])]
        return result

    async def _resolution(self, request: Request, resolution: Resolution, *, dry_run: bool) -> Change | Skip:
        operator = await self._desk.operator(visitor_of(request).name)
        return await resolve(operator, valid_id(request.path_params["record_id"]), resolution, dry_run=dry_run)

    def _names_of(self, channel: str) -> tuple[str, ...]:
        try:
            return names_of(channel, self._desk.settings) if channel else ()
        except ValueError as fault:
            raise HTTPException(400, f"through {channel!r:.100}: {fault}") from None

    def _redelivery_page(
        self, request: Request, result: Change | Skip, through: tuple[str, ...], status: int = 200
    ) -> Response:
        due = channels_made_due(result, through) if isinstance(result, Change) else ()
        channels = [one.name for one in self._desk.settings.channels]
        return self._page(request, "redeliver.html", result, status, due=due, through=through, channels=channels)

    def _page(
        self, request: Request, template: str, result: Change | Skip, status: int = 200, **values: Any
    ) -> Response:
        why = result.reason if isinstance(result, Skip) else ""
        return self._renderer.page(
            request, template, status, record_id=result.record_id, why=why, result=result, **values
        )
