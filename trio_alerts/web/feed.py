"""Live figures, as server-sent events: one look at the store for all who watch, and none while nobody does."""

import datetime as dt
from collections.abc import Awaitable, Callable

import msgspec
import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from trio_alerts.errors import Unavailable
from trio_alerts.web.desk import Desk

LOOK_EVERY_S = 2.0
MOST_WATCHERS = 32  # each holds a connection; pages without live figures still come
NO_ANSWER = b": the store does not answer\n\n"  # a comment: the page keeps what it has


class Feed:
    """Records by state, to pages that are open."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._looking = trio.Lock()
        self._looked_at_s = -LOOK_EVERY_S
        self._event = NO_ANSWER
        self._watchers = trio.CapacityLimiter(MOST_WATCHERS)
        self.routes = [Route("/live", self._watch)]

    async def _watch(self, request: Request) -> Response:
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        if not self._watchers.available_tokens:
            raise HTTPException(503, f"{MOST_WATCHERS} pages are watching already", {"Retry-After": "60"})
        return _Watching(self._look, self._watchers, self._desk.stopping)

    async def _look(self) -> bytes:
        """Return what there is to tell; it is `LOOK_EVERY_S` old at most."""
        async with self._looking:
            if trio.current_time() - self._looked_at_s >= LOOK_EVERY_S:
                self._event = await self._count()
                self._looked_at_s = trio.current_time()
        return self._event

    async def _count(self) -> bytes:
        try:
            counts = await self._desk.store.counts(dt.datetime.now(dt.UTC))
        except Unavailable:
            return NO_ANSWER
        figures = {**counts.by_state, "in_doubt": counts.in_doubt, "total": sum(counts.by_state.values())}
        return b"data: %b\n\n" % msgspec.json.encode(figures)


class _Watching(Response):
    """An answer without an end: it goes on until the client has gone, or the console stops."""

    def __init__(
        self, look: Callable[[], Awaitable[bytes]], watchers: trio.CapacityLimiter, stopping: trio.Event
    ) -> None:
        super().__init__(media_type="text/event-stream")
        del self.headers["content-length"]
        self._look = look
        self._watchers = watchers
        self._stopping = stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        async with self._watchers, trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with, receive, nursery.cancel_scope)
            nursery.start_soon(self._end_at_a_stop, nursery.cancel_scope)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while True:
                await send({"type": "http.response.body", "body": await self._look(), "more_body": True})
                await trio.sleep(LOOK_EVERY_S)

    async def _end_with(self, receive: Receive, watching: trio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        watching.cancel()

    async def _end_at_a_stop(self, watching: trio.CancelScope) -> None:
        await self._stopping.wait()
        watching.cancel()
