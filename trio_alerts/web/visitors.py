"""Who asks: by a token, a session, a header of a trusted proxy, or because everybody on this machine may."""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

import trio
from loguru import logger
from starlette.exceptions import HTTPException
from starlette.requests import Request

from trio_alerts.settings.settings import Settings
from trio_alerts.text import one_line
from trio_alerts.web.signing import Signatures
from trio_alerts.web.throttle import EVERY_S, Throttle

COOKIE = "trio_alerts_session"
LONGEST_NAME = 200  # of a user, in the log and in records


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Args:
        name: For the log and for records: the user that a proxy named, or `token`, or `loopback`.
        owner: What the tokens of forms are bound to.
        by_browser: A browser would send what proves it by itself, also when another site makes it ask.
        has_session: There is something to sign out of.
    """

    name: str
    owner: str
    by_browser: bool = True
    has_session: bool = False


NOBODY = Visitor("nobody", "nobody")


class Visitors:
    """Tells who asks."""

    def __init__(self, settings: Settings, signatures: Signatures) -> None:
        self._token = settings.console_token
        self._header = settings.console_user_header
        self._networks = settings.console_networks
        self._signatures = signatures
        self._throttle = Throttle()

    @property
    def can_sign_in(self) -> bool:
        """Whether there is a token, so that a form for it makes sense."""
        return self._token is not None

    @property
    def is_open(self) -> bool:
        """Whether everybody who can reach the console may use it: it is bound to loopback then."""
        return self._token is None and self._header is None

    async def recognize(self, request: Request) -> Visitor | None:
        """Return who asks; None: nobody that we know.

        Raises:
            HTTPException: The token is wrong (401).
        """
        kind, _, credentials = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._token is not None:
            if not await self.is_token(credentials.strip(), request):
                raise HTTPException(401, "the token is wrong")
            return Visitor("token", "token", by_browser=False)
        if name := self._named_by_proxy(request):
            return Visitor(name, f"user/{name}")
        if self._token is not None and (session := self._signatures.session_of(request.cookies.get(COOKIE, ""))):
            return Visitor("token", f"session/{session}", has_session=True)
        return Visitor("loopback", "loopback") if self.is_open else None

    async def is_token(self, text: str, request: Request) -> bool:
        """Compare what somebody takes for the token with it, in a time that says nothing about how far it is right.

        If many were wrong that came from there, it takes a while to say so of one more. One that is right never waits:
        behind a proxy, all visitors have the address of whoever guesses.
        """
        if self._token is not None and hmac.compare_digest(_digest(text), _digest(self._token.reveal())):
            return True
        address = _peer(request)
        held_s = self._throttle.failed(address)
        if held_s <= EVERY_S:  # else whoever guesses would fill the log
            logger.warning("console: a wrong token from {address}", address=one_line(address))
        await trio.sleep(held_s)
        return False

    def _named_by_proxy(self, request: Request) -> str:
        """Return the user that a proxy in one of the networks vouches for; several names are none."""
        if self._header is None or not _is_in(_peer(request), self._networks):
            return ""
        names = request.headers.getlist(self._header)
        return one_line(names[0].strip())[:LONGEST_NAME] if len(names) == 1 else ""


def visitor_of(request: Request) -> Visitor:
    """Return who asks; nothing behind the door is reached without one."""
    visitor: Visitor = request.state.visitor
    return visitor


def log_change(request: Request, what: str) -> None:
    """Note in the log who has changed something."""
    visitor = visitor_of(request).name
    logger.info("console: {visitor} {change}", visitor=visitor, change=one_line(what), address=_peer(request))


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()
