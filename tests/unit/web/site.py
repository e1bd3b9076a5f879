"""The console on fake backends, and a browser of sorts: it keeps cookies, and knows the forms of the page it has."""

from collections.abc import Sequence
from html.parser import HTMLParser
from ipaddress import ip_network
from typing import Any, cast

import httpx
import trio

from tests.support.fakes.gates import FakeGates
from tests.support.fakes.silences import FakeSilences
from tests.support.fakes.stream import FakeStream
from tests.unit.operations import desk
from trio_alerts.backends.redis.dead_letters import DeadLetter
from trio_alerts.record_ids import order
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
        self.letters = FakeDeadLetters()
        self.silences = FakeSilences(self.backends.server, self.settings)
        if redis:
            self.reach_redis()
        self.app = make_console(self.desk, read_only=read_only)

    def reach_redis(self) -> None:
        """Let Redis answer from now on."""
        stream = FakeStream(self.backends.server, self.settings)
        ledger: Any = None  # no page asks for it
        self.desk.use(
            Redis(
                stream=stream,
                hints=stream.hints,
                silences=self.silences,
                gates=FakeGates(self.backends.server, self.settings),
                dead_letters=cast("Any", self.letters),
                ledger=ledger,
            )
        )

    def visitor(self, address: str = "127.0.0.1", **headers: str) -> "Browser":
        """Return a browser at an address, which sends these headers with every request."""
        transport = httpx.ASGITransport(self.app, client=(address, 50_000))
        return Browser(transport=transport, base_url=HERE, headers={k.replace("_", "-"): v for k, v in headers.items()})


class FakeDeadLetters:
    """The dead-letter stream of the one stream there is; a fault is raised instead of every answer."""

    def __init__(self) -> None:
        self.there: dict[str, tuple[DeadLetter, Sequence[tuple[bytes, bytes]]]] = {}
        self.replayed: list[tuple[str, bool]] = []
        self.dropped: list[tuple[str, str]] = []

    def put(self, number: int, reason: str = "bad_json", error: str = "no JSON", payload: bytes = b"{") -> str:
        """Quarantine an entry; return its ID."""
        at = f"2026-11-26T07:00:{number:02}Z"
        letter = DeadLetter("AlertStream", f"{number}-0", f"1{number}-0", reason, error, 5, at, "alert-processor", 9)
        self.there[letter.id] = (letter, [(b"event", payload)])
        return letter.id

    async def page(self, stream: str, count: int, after: str = "") -> list[DeadLetter]:
        await trio.lowlevel.checkpoint()
        found = sorted(self.there, key=order)
        return [self.there[one][0] for one in found if not after or order(one) > order(after)][:count]

    async def get(self, stream: str, dead_id: str) -> tuple[DeadLetter, Sequence[tuple[bytes, bytes]]] | None:
        await trio.lowlevel.checkpoint()
        return self.there.get(dead_id)

    async def replay(self, stream: str, dead_id: str, *, as_new: bool = False) -> str | None:
        await trio.lowlevel.checkpoint()
        if self.there.pop(dead_id, None) is None:
            return None
        self.replayed.append((dead_id, as_new))
        return "99-0"

    async def drop(self, stream: str, dead_id: str, by: str) -> bool:
        await trio.lowlevel.checkpoint()
        if self.there.pop(dead_id, None) is None:
            return False
        self.dropped.append((dead_id, by))
        return True


class Browser(httpx.AsyncClient):
    """Visits pages as people do."""

    async def form_token(self, path: str = "/sign-in") -> str:
        """Return the token of the forms of a page."""
        return fields_of((await self.get(path)).text)[FORM_TOKEN]

    async def confirm(self, path: str, **fields: str) -> httpx.Response:
        """Open a page that asks for a confirmation, and give it: what its form holds, and some fields more."""
        return await self.post(path, data=fields_of((await self.get(path)).text) | fields)

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
        if given.get("type") == "checkbox" and "checked" not in given:
            return
        if tag in ("input", "meta") and given.get("name"):
            self.values.setdefault(given["name"] or "", given.get("value") or given.get("content") or "")
