"""Signing in with the token, and out."""

from loguru import logger
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from trio_alerts.web.door import SIGN_IN, SIGN_OUT
from trio_alerts.web.rendering import Renderer
from trio_alerts.web.signing import LASTS_S, Signatures
from trio_alerts.web.visitors import COOKIE, Visitors, log_change


class SignIn:
    """The form, and what it makes: a signed cookie for one shift."""

    def __init__(self, renderer: Renderer, visitors: Visitors, signatures: Signatures) -> None:
        self._renderer = renderer
        self._visitors = visitors
        self._signatures = signatures
        self.routes = [
            Route(SIGN_IN, self._show, methods=["GET"]),
            Route(SIGN_IN, self._sign_in, methods=["POST"]),
            Route(SIGN_OUT, self._sign_out, methods=["POST"]),
        ]

    def form(self, request: Request, status: int = 200, fault: str = "") -> Response:
        """Return the form; it leads back to the page that was asked for."""
        wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        wanted = request.state.form.get("wanted", "/" if request.url.path in (SIGN_IN, SIGN_OUT) else wanted)
        headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004
        can = self._visitors.can_sign_in
        return self._renderer.page(
            request, "sign_in.html", status, headers, wanted=wanted, fault=fault, can_sign_in=can
        )

    async def _show(self, request: Request) -> Response:
        return self.form(request)

    async def _sign_in(self, request: Request) -> Response:
        form: dict[str, str] = request.state.form
        if not await self._visitors.is_token(form.get("token", ""), request):
            return self.form(request, 401, "That is not the token.")
        logger.info("console: somebody signed in")
        response = RedirectResponse(_local(form.get("wanted", "/")), 303)
        response.set_cookie(
            COOKIE,
            self._signatures.new_session(),
            max_age=LASTS_S,
            httponly=True,
            samesite="strict",
            secure=request.headers.get("origin", "").startswith("https:"),  # TLS ends before us: the browser knows
        )
        return response

    async def _sign_out(self, request: Request) -> Response:
        log_change(request, "signed out")
        response = RedirectResponse(SIGN_IN, 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response


def _local(path: str) -> str:
    """Return a path of this console; what would lead elsewhere becomes `/`."""
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_local else "/"
