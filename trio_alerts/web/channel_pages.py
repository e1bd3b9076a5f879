"""The page of the channels: which of them take alerts, and what waits for those that do not."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from trio_alerts.operations.channels import channel_standings
from trio_alerts.web.desk import Desk
from trio_alerts.web.rendering import Renderer


class ChannelPages:
    """How the channels stand."""

    def __init__(self, desk: Desk, renderer: Renderer) -> None:
        self._desk = desk
        self._renderer = renderer
        self.routes = [Route("/channels", self._list)]

    async def _list(self, request: Request) -> Response:
        redis, settings = self._desk.redis, self._desk.settings
        standings = await channel_standings(settings.channels, redis.gates, redis.hints, self._desk.store)
        return self._renderer.page(request, "channels.html", standings=standings, configured=settings.channels)
