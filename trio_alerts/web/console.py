"""The console: pages and API in one application, behind one door."""

from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from trio_alerts.errors import AlertError, NotFound, SchemaError, SettingsError, StartError, Unavailable
from trio_alerts.web.api.api import PREFIX, Api
from trio_alerts.web.api.problems import problem_response
from trio_alerts.web.channel_pages import ChannelPages
from trio_alerts.web.desk import Desk
from trio_alerts.web.door import SIGN_IN, Door
from trio_alerts.web.feed import Feed
from trio_alerts.web.headers import Headers
from trio_alerts.web.quarantine_pages import QuarantinePages
from trio_alerts.web.record_actions import RecordActions
from trio_alerts.web.record_pages import RecordPages
from trio_alerts.web.rendering import Renderer
from trio_alerts.web.sign_in import SignIn
from trio_alerts.web.signing import Signatures
from trio_alerts.web.silence_pages import SilencePages
from trio_alerts.web.visitors import Visitors


def make_console(desk: Desk, *, read_only: bool) -> ASGIApp:
    """Put the console together; it keeps nothing that another one would miss."""
    settings = desk.settings
    signatures = Signatures(settings.console_token)
    visitors = Visitors(settings, signatures)
    renderer = Renderer(signatures, read_only=read_only)
    sign_in = SignIn(renderer, visitors, signatures)

    async def show_fault(request: Request, fault: Exception) -> Response:
        refusal = _refusal(fault)
        if request.url.path.startswith(f"{PREFIX}/"):
            return problem_response(request, refusal)
        if refusal.status_code == 401 and request.url.path != SIGN_IN:  # noqa: PLR2004, unauthorized
            return sign_in.form(request, 401, "" if "authorization" not in request.headers else refusal.detail)
        return renderer.error(request, refusal)

    app = Starlette(
        routes=[
            *sign_in.routes,
            *RecordActions(desk, renderer).routes,
            *RecordPages(desk, renderer).routes,
            Mount(PREFIX, Api(desk)),
            *SilencePages(desk, renderer).routes,
            *QuarantinePages(desk, renderer).routes,
            *ChannelPages(desk, renderer).routes,
            *Feed(desk).routes,
            Mount("/static", StaticFiles(directory=str(files("trio_alerts.web").joinpath("static")))),
        ],
        middleware=[
            Middleware(Door, visitors=visitors, signatures=signatures, read_only=read_only, refuse=show_fault),
        ],
        exception_handlers={HTTPException: show_fault, AlertError: show_fault, Exception: show_fault},
    )
    app.router.redirect_slashes = False  # behind TLS it would lead to http://
    return Headers(app)


def _refusal(fault: Exception) -> HTTPException:
    """Say what a fault is over HTTP."""
    match fault:
        case HTTPException():
            return fault
        case Unavailable() | StartError() | SchemaError():
            return HTTPException(503, str(fault))
        case NotFound():
            return HTTPException(404, str(fault))
        case SettingsError():
            return HTTPException(400, str(fault))
        case AlertError():
            return HTTPException(409, str(fault))
    return HTTPException(500, "this is a bug; the log of the console says more")
