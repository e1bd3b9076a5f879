"""Where OpenSearch is: one `store_url` taken apart, and which of its nodes a request tries, in which order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from trio_alerts.errors import SettingsError

# What a port is when the URL names none: OpenSearch's own for http, the usual one of managed services for https.
DEFAULT_PORTS = {"http": 9200, "https": 443}

# A node that failed is asked last for this long, twice as long after each further failure. Too long costs little
# (another node answers, and with none left it is asked at once), too short costs a time-out each time it hangs.
FIRST_REST_S = 5.0
LONGEST_REST_S = 60.0

_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A `store_url` taken apart. Safe to print: the password is in no text made from it.

    Args:
        nodes: One base URL per host, without credentials and without a slash at the end.
        user: The user of basic authentication, or None.
        password: Its password.
    """

    nodes: tuple[str, ...]
    user: str | None = None
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """Name the nodes, for messages."""
        return ", ".join(self.nodes)


def parse_store_url(store_url: str) -> StoreAddress:
    """Take `http(s)://user:pass@host:port[,host[:port]…][/prefix]` apart.

    Scheme, credentials and prefix hold for every host. User and password are percent-decoded.

    Raises:
        SettingsError: It is no such URL; the message never quotes the credentials.
    """
    scheme, separator, rest = store_url.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        raise SettingsError("store_url must begin with http:// or https:// (or sqlite:///)")
    authority, slash, path = rest.partition("/")
    if "@" in path or "?" in rest or "#" in rest:
        # A raw "/", "?" or "#" in a password would make part of it a path, and so part of every message.
        raise SettingsError("store_url has an unexpected /, ? or #: in a user or password write %2F, %3F, %23")
    credentials, at, hosts = authority.rpartition("@")
    prefix = (slash + path).rstrip("/")
    nodes = tuple(_base_url(scheme, host, prefix) for host in hosts.split(","))
    if not at:
        return StoreAddress(nodes)
    user, _, password = credentials.partition(":")
    return StoreAddress(nodes, unquote(user), unquote(password))


def _base_url(scheme: str, host_and_port: str, prefix: str) -> str:
    match = _HOST_AND_PORT.fullmatch(host_and_port.strip())
    if match is None:
        raise SettingsError(f"store_url: {host_and_port!r} is not host or host:port")
    base_url = f"{scheme}://{match['host']}:{match['port'] or DEFAULT_PORTS[scheme]}"
    try:
        # The port's range and the IPv6 form are checked where they are wanted, not at the first request.
        valid = bool(urlsplit(base_url).port)
    except ValueError:
        valid = False
    if not valid:
        raise SettingsError(f"store_url: {host_and_port!r} is not host or host:port")
    return base_url + prefix


@dataclass(eq=False, slots=True)
class Node:
    """One node and how it has lately behaved.

    Args:
        url: Its base URL.
        failures: How many requests failed on it since the last that worked.
        rests_until_s: When, on the caller's clock, it is again as good as the others.
    """

    url: str
    failures: int = 0
    rests_until_s: float = 0.0


class Nodes:
    """Decides which node is asked. Pure: the caller passes the time.

    Requests take the healthy nodes in turn. A node that failed rests; resting nodes are the last resort, the one that
    has rested longest first, so that with every node down each request still tries them all.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._nodes = [Node(url) for url in urls]
        self._turn = 0

    def __len__(self) -> int:
        return len(self._nodes)

    def in_order(self, now_s: float) -> list[Node]:
        """Return every node once, in the order in which a request made now should try them."""
        self._turn = (self._turn + 1) % len(self._nodes)
        turned = self._nodes[self._turn :] + self._nodes[: self._turn]
        return sorted(turned, key=lambda node: node.rests_until_s if node.rests_until_s > now_s else 0.0)

    def failed(self, node: Node, now_s: float) -> None:
        """Let `node` rest, longer each time."""
        rest_s = min(FIRST_REST_S * 2.0 ** min(node.failures, 10), LONGEST_REST_S)
        node.failures += 1
        node.rests_until_s = now_s + rest_s

    def worked(self, node: Node) -> None:
        """Forget that `node` ever failed."""
        node.failures = 0
        node.rests_until_s = 0.0
