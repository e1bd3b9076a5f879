"""All endpoints of the API as one application, to be mounted behind the door of the console."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from msgspec import Raw, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from trio_alerts.web.api import quarantine, records, silences, stats
from trio_alerts.web.api.endpoint import Call, Endpoint
from trio_alerts.web.api.openapi import describe
from trio_alerts.web.desk import Desk

PREFIX = "/api/v1"


class Description(Struct, frozen=True):
    """An OpenAPI document."""

    openapi: str
    paths: Mapping[str, Any]


async def _describe(_: Call) -> Raw:
    return Raw(_description())


ENDPOINTS = (
    *records.ENDPOINTS,
    *quarantine.ENDPOINTS,
    *silences.ENDPOINTS,
    *stats.ENDPOINTS,
    Endpoint(method="GET", path="/openapi.json", about="This description", carry_out=_describe, answer=Description),
)


@cache
def _description() -> bytes:
    return describe(ENDPOINTS, PREFIX)


class Api:
    """The API. Faults go through it, to whoever makes answers of them (`problem_response`)."""

    def __init__(self, desk: Desk) -> None:
        by_path: dict[str, dict[str, Endpoint]] = {}
        for one in ENDPOINTS:
            by_path.setdefault(one.path, {})[one.method] = one
        routes = [_route(desk, path, by_method) for path, by_method in by_path.items()]
        self._router = Router(routes, redirect_slashes=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI. Addresses are told apart as they were sent: an ID may hold any character, also `/`."""
        await self._router({**scope, "path": scope["raw_path"].decode("latin-1")}, receive, send)


def _route(desk: Desk, path: str, by_method: Mapping[str, Endpoint]) -> Route:
    async def respond(request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        return await by_method[method].respond(desk, request)

    return Route(path, respond, methods=list(by_method))
