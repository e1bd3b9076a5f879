"""HTML pages: what others wrote is text in them, and shows what it would hide."""

import datetime as dt
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from trio_alerts import __version__
from trio_alerts.exact_json import encode
from trio_alerts.operations.filters import Filter
from trio_alerts.text import in_words, one_line
from trio_alerts.web.signing import Signatures
from trio_alerts.web.visitors import NOBODY, Visitor

SECTIONS = (("/", "Records"), ("/silences", "Silences"), ("/quarantine", "Quarantine"), ("/channels", "Channels"))

_HEADINGS = {503: "A backend does not answer", 404: "There is no such page", 500: "This should not have happened"}


class Renderer:
    """Renders the templates of this package.

    Args:
        signatures: Makes the tokens of forms.
        read_only: No form is shown that would change anything.
    """

    def __init__(self, signatures: Signatures, *, read_only: bool) -> None:
        self._signatures = signatures
        self._read_only = read_only
        self._templates = Environment(
            loader=PackageLoader("trio_alerts.web"),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_shown,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= FILTERS

    def page(
        self,
        request: Request,
        template: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """Render a page for whoever asks."""
        visitor: Visitor = getattr(request.state, "visitor", NOBODY)
        text = self._templates.get_template(template).render(
            visitor=visitor,
            is_known=visitor is not NOBODY,
            may_change=visitor is not NOBODY and not self._read_only,
            read_only=self._read_only,
            form_token=self._signatures.form_token(visitor.owner),
            sections=SECTIONS,
            section=next((at for at, _ in SECTIONS[1:] if request.url.path.startswith(at)), "/"),
            version=__version__,
            **values,
        )
        return HTMLResponse(text, status, headers)

    def error(self, request: Request, fault: HTTPException) -> HTMLResponse:
        """Render what went wrong."""
        status = fault.status_code
        heading = _HEADINGS.get(status, HTTPStatus(status).phrase)
        return self.page(
            request, "error.html", status, fault.headers or {}, heading=heading, code=status, fault=str(fault.detail)
        )


def _shown(value: object) -> object:
    """Spell out what hides, moves or turns around other text: the default of every value in a template."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _lines(text: str) -> Markup:
    """Keep line breaks, and spell out everything else that is not printable."""
    return Markup("\n").join(one_line(line) for line in text.replace("\r\n", "\n").split("\n"))


def _exact(text: str) -> Markup:
    """Keep every character: for the value of a field that comes back."""
    return escape(text)


def _when(time: dt.datetime) -> Markup:
    """Show a time to the second, in UTC; a machine reads it whole."""
    utc = time.astimezone(dt.UTC)
    return Markup('<time datetime="{}">{:%Y-%m-%d %H:%M:%S}</time>').format(utc.isoformat(), utc)


def _short_time(text: object) -> str:
    """Shorten a time of a record, which is in UTC."""
    return str(text)[:19].replace("T", " ") if text else ""


def _plain(value: object) -> str:
    """Show a value of an alert as text: a list of texts with commas, what is nested as JSON."""
    match value:
        case list() if all(isinstance(one, str) for one in value):
            return ", ".join(value)
        case list() | dict():
            return encode(value).decode()
    return str(value)


def _is_web(address: object) -> bool:
    """Tell whether an address is one that a browser may follow: nothing but http and https, to a host."""
    try:
        parts = urlsplit(str(address))
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and str(address).isprintable()


def _choices(filters: Sequence[Filter], name: str) -> tuple[str, ...]:
    return next(one.choices for one in filters if one.name == name)


FILTERS = {
    "lines": _lines,
    "plain": _plain,
    "exact": _exact,
    "when": _when,
    "short_time": _short_time,
    "words": in_words,
    "is_web": _is_web,
    "choices": _choices,
    "path": partial(quote, safe=""),
}
