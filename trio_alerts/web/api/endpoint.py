"""What the API does at one address by one method: said once, for whoever answers requests and for `openapi.json`."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

import msgspec
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from trio_alerts.exact_json import encode
from trio_alerts.web.api.parts import Parameter, read_body, read_query
from trio_alerts.web.api.problems import Problem
from trio_alerts.web.desk import Desk
from trio_alerts.web.visitors import visitor_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request that makes sense so far.

    Args:
        desk: What to work with.
        request: As it came.
        id: What the address names; empty if it names nothing.
        query: The parameters that are given.
        body: Of the endpoint's type.
    """

    desk: Desk
    request: Request
    id: str
    query: Mapping[str, Any]
    body: Any

    @property
    def by(self) -> str:
        """Who asks."""
        return visitor_of(self.request).name


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One method of one address.

    Args:
        method: By which it is asked.
        path: Behind `/api/v1`; what is in braces, if anything, is one segment, percent-encoded.
        about: What it does, in a sentence.
        carry_out: Does it.
        answer: What it returns, or the type that describes the JSON that it returns.
        status: Of the answer.
        query: The parameters that it takes.
        body: What a request brings.
        example: Of what a request brings.
        conflicts: It may be refused for the state of what it is about.
        ids: Where in the answer there is an ID by which others are asked: a JSON pointer, by the name of the ID.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    about: str
    carry_out: Callable[[Call], Awaitable[Struct | msgspec.Raw]]
    answer: type[Struct]
    status: int = 200
    query: tuple[Parameter, ...] = ()
    body: type[Struct] | None = None
    example: Mapping[str, Any] = field(default_factory=dict)
    conflicts: bool = False
    ids: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in `openapi.json`."""
        return "_".join([self.method.lower(), *re.findall(r"\w+", self.path)])

    @property
    def names(self) -> str:
        """The name of what the address names; empty: nothing."""
        return self.path.partition("{")[2].partition("}")[0]

    async def respond(self, desk: Desk, request: Request) -> Response:
        """Answer one request.

        Raises:
            HTTPException: It is answered with an error.
            AlertError: It cannot be answered, or not as things are.
        """
        query = read_query(request, self.query)
        body = None if self.body is None else await read_body(request, self.body)
        call = Call(desk=desk, request=request, id=_id(request), query=query, body=body)
        return Response(encode(await self.carry_out(call)), self.status, media_type="application/json")


def _id(request: Request) -> str:
    try:
        return unquote(next(iter(request.path_params.values()), ""), errors="strict")
    except UnicodeDecodeError:
        raise Problem(404, "the address names nothing: it is not UTF-8") from None
