"""What is wrong with a request, or kept us from answering it, as RFC 9457 has it."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

TYPES = "urn:trio-alerts:problem:"
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2  # a backend that is away is asked again as often

# Not Python's own phrases: they change from version to version, and `type` must not.
TITLES: Mapping[int, str] = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    413: "Content too large",
    415: "Unsupported media type",
    421: "Misdirected request",
    422: "Unprocessable content",
    500: "Internal server error",
    503: "Service unavailable",
}


class WrongPart(Struct, frozen=True):
    """A parameter or a member of the body that is wrong: which one, and why."""

    name: str
    reason: str


class ProblemDetails(Struct, frozen=True):
    """An error. `type` is stable, and tells kinds apart; `detail` is for people, and may change."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[WrongPart, ...] = ()


class Problem(HTTPException):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        detail: What is wrong, for people.
        kind: What tells it from others of the same status.
        errors: Each part of the request that is wrong.
    """

    def __init__(self, status: int, detail: str, kind: str = "", errors: Sequence[WrongPart] = ()) -> None:
        super().__init__(status, detail)
        self.kind = kind
        self.errors = tuple(errors)


def problem_response(request: Request, fault: HTTPException) -> Response:
    """Answer with an error."""
    title = TITLES[fault.status_code]
    kind, errors = (fault.kind, fault.errors) if isinstance(fault, Problem) else ("", ())
    details = ProblemDetails(
        type=TYPES + (kind or title.lower().replace(" ", "-")),
        title=title,
        status=fault.status_code,
        detail=fault.detail,
        instance=request.scope["raw_path"].decode("ascii", errors="replace"),
        errors=errors,
    )
    headers = {**_HEADERS.get(fault.status_code, {}), **(fault.headers or {})}
    return Response(msgspec.json.encode(details), fault.status_code, headers, MEDIA_TYPE)


_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"WWW-Authenticate": "Bearer"},
    503: {"Retry-After": str(RETRY_AFTER_S)},
}
