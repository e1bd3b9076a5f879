"""The console on fake backends, and a browser of sorts: it keeps cookies, and knows the forms of the page it has."""

from html.parser import HTMLParser
from ipaddress import ip_network
from typing import Any

import httpx

from tests.support.fakes.gates import FakeGates
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.stream import FakeStream
from tests.unit.operations import desk
from trio_alerts.secret import Secret
from trio_alerts.settings.settings import Settings
from trio_alerts.web.console import make_console
from trio_alerts.web.desk import Desk, Redis
from trio_alerts.web.door import FORM_TOKEN

TOKEN = "correct-horse-battery"
HERE = "http://127.0.0.1:8081"
PROXIES: dict[str, Any] = {"console_user_header": "X-User", "console_networks": (ip_network("10.0.0.0/8"),)}


class Site:
    """A console, and records in its store.

    Args:
        token: What visitors must have; None: none is set.
        read_only: Nobody may change anything.
        redis: Redis was reached.
        settings: More settings.
    """

    def __init__(
        self, *, token: str | None = None, read_only: bool = False, redis: bool = True, **settings: Any
    ) -> None:
        self.backends = desk.Desk()
        self.store = self.backends.store
        self.put = self.backends.put
        secret = None if token is None else Secret(token)
        self.settings = Settings(console_token=secret, **settings)
        self.desk = Desk(self.settings, self.store)
        if redis:
            self.reach_redis()
        self.app = make_console(self.desk, read_only=read_only)

    def reach_redis(self) -> None:
        """Let Redis answer from now on."""
        stream = FakeStream(self.backends.server, self.settings)
        missing: Any = None
        self.desk.use(
            Redis(
                stream=stream,
                hints=stream.hints,
                silences=FakeSilences(self.backends.server, self.settings),
                gates=FakeGates(self.backends.server, self.settings),
                dead_letters=missing,
                ledger=missing,
            )
        )

    def visitor(self, address: str = "127.0.0.1", **headers: str) -> "Browser":
        """Return a browser at an address, which sends these headers with every request."""
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        return Browser(transport=transport, base_url=HERE, headers={k.replace("_", "-"): v for k, v in headers.items()})


class Browser(httpx.AsyncClient):
    """Visits pages as people do."""

    async def form_token(self, path: str = "/sign-in") -> str:
        """Return the token of the forms of a page."""
        return fields_of((await self.get(path)).text)[FORM_TOKEN]

    async def sign_in(self, token: str = TOKEN, wanted: str = "/") -> httpx.Response:
        """Fill in the form."""
        form = {FORM_TOKEN: await self.form_token(), "token": token, "wanted": wanted}
        return await self.post("/sign-in", data=form)


def fields_of(page: str) -> dict[str, str]:
    """Return the fields of the forms of a page, the first of each name."""
    found = _Fields()
    found.feed(page)
    return found.values


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("input", "meta") and given.get("name"):
            self.values.setdefault(given["name"] or "", given.get("value") or given.get("content") or "")
