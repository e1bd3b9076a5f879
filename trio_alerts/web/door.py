"""The door of the console: every request passes it, for a page and for the API, and nothing behind it asks again."""

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qs

import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trio_alerts.settings.hosts import literal_address, split_host
from trio_alerts.web.signing import Signatures
from trio_alerts.web.visitors import NOBODY, Visitor, Visitors

SIGN_IN, SIGN_OUT, STATIC = "/sign-in", "/sign-out", "/static/"
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
FORM_TOKEN = "csrf_token"  # noqa: S105, the name of a field
MOST_BODY = 512 * 1024  # bytes
BODY_WITHIN_S = 10.0


class Door:
    """Lets a request in, with `request.state.visitor`, or refuses it.

    A change needs a visitor, a console that is not read-only, and the proof that the visitor wants it: the token of a
    form that was shown to them (field `csrf_token`, or header `X-CSRF-Token`), or a bearer token, which no browser
    sends by itself. `request.state.form` has the fields of a form.

    Args:
        app: What is behind it.
        visitors: Tells who asks.
        signatures: Made the tokens of forms.
        read_only: Nobody may change anything.
        refuse: Makes the answer to a request that is refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        visitors: Visitors,
        signatures: Signatures,
        read_only: bool,
        refuse: Callable[[Request, HTTPException], Awaitable[Response]],
    ) -> None:
        self._app = app
        self._visitors = visitors
        self._signatures = signatures
        self._read_only = read_only
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        request.state.visitor, request.state.form = NOBODY, {}
        try:
            if self._visitors.is_open:
                _refuse_other_hosts(request)
            if not scope["path"].startswith(STATIC):
                request.state.visitor = await self._recognize(request)
            if request.method not in SAFE:
                body = await _body(receive)
                self._allow_change(request, body)
                receive = _again(body, receive)
        except HTTPException as refusal:
            response = await self._refuse(request, refusal)
            await response(scope, receive, send)
        except ClientDisconnect:
            pass
        else:
            await self._app(scope, receive, send)

    async def _recognize(self, request: Request) -> Visitor:
        if visitor := await self._visitors.recognize(request):
            return visitor
        if request.scope["path"] == SIGN_IN:
            return NOBODY
        raise HTTPException(401, "sign in first")

    def _allow_change(self, request: Request, body: bytes) -> None:
        visitor: Visitor = request.state.visitor
        if self._read_only and request.scope["path"] not in (SIGN_IN, SIGN_OUT):
            raise HTTPException(403, "this console is read-only")
        _refuse_other_sites(request)
        request.state.form = _fields(request, body)
        token = request.headers.get("x-csrf-token") or request.state.form.get(FORM_TOKEN, "")
        if visitor.by_browser and not self._signatures.is_form_of(visitor.owner, token):
            raise HTTPException(403, "this form is too old, or it is not yours; go back, load the page again and retry")


def _refuse_other_hosts(request: Request) -> None:
    """Refuse what was sent to another name than this machine's own.

    A name of somebody else that leads here would make their page one of ours, to a browser (DNS rebinding).
    """
    try:
        host, _ = split_host(request.headers.get("host", ""))
        address = literal_address(host)
    except ValueError:
        host, address = "", None
    if not (address.is_loopback if address else host.lower() == "localhost"):
        raise HTTPException(421, "without a token the console answers only as localhost or 127.0.0.1")


def _refuse_other_sites(request: Request) -> None:
    """Refuse a change that a page of another site made a browser ask for.

    `Sec-Fetch-Site` is the browser's own word, and right behind a proxy that renames us; it comes with HTTPS and on
    localhost. Else there is `Origin`.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        foreign = site not in ("same-origin", "none")
    else:
        origin = request.headers.get("origin")
        foreign = origin is not None and origin.partition("://")[2] != request.headers.get("host")
    if foreign:
        raise HTTPException(403, "another site asked for this")


async def _body(receive: Receive) -> bytes:
    body = bytearray()
    try:
        with trio.fail_after(BODY_WITHIN_S):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnect
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST_BODY:
                    raise HTTPException(413, f"more than {MOST_BODY:,} bytes")
    except trio.TooSlowError:
        raise HTTPException(408, "the request was too slow") from None
    return bytes(body)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that was read already, and then whatever follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _fields(request: Request, body: bytes) -> dict[str, str]:
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return {}
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=1_000, errors="strict")
    except ValueError:
        raise HTTPException(400, "this is not a form") from None
    return {name: values[-1] for name, values in fields.items()}
