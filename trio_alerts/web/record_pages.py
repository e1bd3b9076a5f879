"""Pages of records: found, and one by one."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trio_alerts.ports.store import RecordFilter
from trio_alerts.web.desk import Desk
from trio_alerts.web.rendering import Renderer

SHOWN = 50  # records a page


class RecordPages:
    """What is recorded of alerts."""

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self.routes = [Route("/", self._list)]

    async def _list(self, request: Request) -> Response:
        records = await self._desk.store.search(RecordFilter(), SHOWN)
        rows = [(record, record.fields()) for record in records]
        return self._renderer.page(request, "records.html", rows=rows)
