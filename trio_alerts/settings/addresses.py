"""The grammar of addresses: each is parsed once, when settings are read, into the plain data that backends work from.

What no backend and no channel could use is refused here. No refusal quotes an address, and the data shows no password:
it is a `Secret`.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import parse_qs, unquote

from trio_alerts.secret import Secret
from trio_alerts.settings.hosts import split_host
from trio_alerts.text import one_line

REDIS_PORT = 6379
SENTINEL_PORT = 26379
SMTP_PORTS = {"smtp": 587, "smtps": 465}  # of submission: RFC 6409, RFC 8314
# OpenSearch's own port for http, the usual one of managed services for https.
OPENSEARCH_PORTS = {"http": 9200, "https": 443}

_LONGEST = 8_192  # characters; servers refuse request lines that are longer
_LONGEST_SOCKET_PATH = 107  # bytes; sockaddr_un has room for no more

# RFC 3986, appendix B, but with several hosts, and with user and password up to the last "@" before the path.
_URL = re.compile(r"([^:/?#]*)://(?:([^/?#]*)@)?([^/?#]*)(.*)")
_DATABASE = re.compile(r"[0-9]{0,9}")
_FILE = re.compile(r"/[^?#]*[^?#/]")

_UNESCAPED = 'in a user or password, write "/", "?" and "#" as %2F, %3F and %23'


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis server is, and the user to log in as."""

    host: str = "localhost"
    port: int = REDIS_PORT
    path: str | None = None  # of a Unix socket, instead of host and port
    tls: bool = False
    db: int = 0
    username: str | None = None
    password: Secret | None = None
    sentinels: tuple[tuple[str, int], ...] = ()  # asked for the master of `service`, instead of host and port
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: Secret | None = None

    def __repr__(self) -> str:
        if self.sentinels:
            return f"redis+sentinel://{','.join(_host_port(*each) for each in self.sentinels)}/{self.service}/{self.db}"
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        return f"{'rediss' if self.tls else 'redis'}://{_host_port(self.host, self.port)}/{self.db}"


@dataclass(frozen=True)
class SqliteAddress:
    """The file of an SQLite store; a relative path starts at the working directory."""

    path: str

    def __repr__(self) -> str:
        return f"sqlite:///{self.path}"


@dataclass(frozen=True)
class OpenSearchAddress:
    """The nodes of an OpenSearch cluster, and the user to log in as.

    Args:
        nodes: One base URL a host, without credentials and without a slash at the end.
        user: The user of basic authentication, or None.
        password: Its password, or None.
    """

    nodes: tuple[str, ...]
    user: str | None = None
    password: Secret | None = None

    def __repr__(self) -> str:
        return ", ".join(self.nodes)

    @property
    def tls(self) -> bool:
        """Whether connections to the nodes are encrypted."""
        return self.nodes[0].startswith("https:")


StoreAddress = SqliteAddress | OpenSearchAddress


@dataclass(frozen=True)
class ReceiverAddress:
    """Where a channel posts to.

    Args:
        text: The URL as it was written. Its path is often a secret.
        origin: What may be shown of it: scheme, host and port.
        host: As the URL has it; an IPv6 address in brackets.
        has_user: A user or a password stands in the URL.
    """

    text: Secret
    origin: str
    host: str
    has_user: bool

    def __repr__(self) -> str:
        return self.origin


@dataclass(frozen=True)
class SmtpAddress:
    """Where a channel hands in its mail, and the user to log in as; `tls` from the first byte on."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: Secret | None = None

    def __repr__(self) -> str:
        return f"{'smtps' if self.tls else 'smtp'}://{self.host}:{self.port}"


def parse_redis_url(value: object) -> RedisAddress:
    """Parse `redis_url`; raises ValueError, which says what is wrong."""
    url = _split(value)
    if "@" in url.rest or "#" in url.rest:
        raise ValueError(_UNESCAPED)
    match url.scheme:
        case "redis" | "rediss":
            return _redis(url)
        case "redis+sentinel":
            return _sentinel(url)
        case "unix":
            return _unix(url)
    raise ValueError("unknown scheme")


def parse_store_url(value: object) -> StoreAddress:
    """Parse `store_url`; raises ValueError, which says what is wrong."""
    url = _split(value)
    match url.scheme:
        case "sqlite":
            return _sqlite(url)
        case "http" | "https":
            return _opensearch(url)
    raise ValueError("unknown scheme")


def parse_receiver_url(value: object) -> ReceiverAddress:
    """Parse the URL of a channel; raises ValueError, which says what is wrong."""
    url = _split(value)
    if url.scheme not in ("http", "https"):
        raise ValueError("unknown scheme")
    ((host, _),) = _hosts(url, most=1)
    if url.rest.partition("#")[2]:
        raise ValueError('what follows "#" would never be sent')
    _refuse_colon(url)
    # Behind an unescaped "/" or "?" of a password, its beginning looks like the host.
    shown = "***" if "@" in url.rest else url.hosts
    return ReceiverAddress(
        text=Secret(f"{url.scheme}:{str(value).partition(':')[2]}"),
        origin=f"{url.scheme}://{shown}",
        host=host,
        has_user=bool(url.user or url.password),
    )


def parse_smtp_url(value: object) -> SmtpAddress:
    """Parse the address of a mail server; raises ValueError, which says what is wrong."""
    url = _split(value)
    if url.scheme not in SMTP_PORTS:
        raise ValueError("unknown scheme")
    ((host, port),) = _hosts(url, most=1)
    if url.rest not in ("", "/"):
        raise ValueError(f"nothing may follow the host; {_UNESCAPED}")
    if bool(url.user) != bool(url.password):
        raise ValueError("a user needs a password, and a password a user")
    return SmtpAddress(
        host=host,
        port=port or SMTP_PORTS[url.scheme],
        tls=url.scheme == "smtps",
        username=url.user or None,
        password=url.password,
    )


class _Url(NamedTuple):
    """The parts of a URL; user and password are percent-decoded."""

    scheme: str
    user: str | None
    password: Secret | None
    hosts: str  # separated by commas, as they were written
    rest: str  # path, query and fragment


def _split(value: object) -> _Url:
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError
    match = _URL.fullmatch(value)
    if match is None:
        raise ValueError
    if len(value) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST:,} characters")
    scheme, credentials, hosts, rest = match.groups("")
    if re.search(r"[@\[\]]", credentials):
        raise ValueError('in a user or password, which precede the first host, write "@", "[" and "]" as %40, %5B, %5D')
    user, _, password = credentials.partition(":")
    return _Url(scheme.lower(), unquote(user) if credentials else None, _secret(unquote(password)), hosts, rest)


def _hosts(url: _Url, *, most: int | None = None) -> list[tuple[str, int | None]]:
    """Return each host with its port, if it names one."""
    hosts = url.hosts.split(",")
    if "" in hosts:
        raise ValueError("a host is missing")
    if most is not None and len(hosts) > most:
        raise ValueError("more than one host")
    return [split_host(host) for host in hosts]


def _redis(url: _Url) -> RedisAddress:
    ((host, port),) = _hosts(url, most=1)
    path, options = _options(url, "db")
    return RedisAddress(
        host=_without_brackets(host),
        port=port or REDIS_PORT,
        tls=url.scheme == "rediss",
        db=_database(*options.get("db", ()), path.removeprefix("/")),
        username=url.user or None,
        password=url.password,
    )


def _unix(url: _Url) -> RedisAddress:
    path, options = _options(url, "db")
    if url.hosts or not _FILE.fullmatch(path):
        raise ValueError("the path of the socket must follow three slashes, as in unix:///run/redis.sock")
    path = unquote(path)
    if len(path.encode()) > _LONGEST_SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {_LONGEST_SOCKET_PATH} bytes")
    return RedisAddress(
        path=path,
        db=_database(*options.get("db", ())),
        username=url.user or None,
        password=url.password,
    )


def _sentinel(url: _Url) -> RedisAddress:
    hosts = _hosts(url)
    path, options = _options(url, "sentinel_username", "sentinel_password")
    service, _, database = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("the name of the service is missing, as in redis+sentinel://host:port/service/db")
    return RedisAddress(
        sentinels=tuple((_without_brackets(host), port or SENTINEL_PORT) for host, port in hosts),
        service=unquote(service),
        db=_database(database),
        username=url.user or None,
        password=url.password,
        sentinel_username=options.get("sentinel_username", [""])[0] or None,
        sentinel_password=_secret(options.get("sentinel_password", [""])[0]),
    )


def _options(url: _Url, *known: str) -> tuple[str, dict[str, list[str]]]:
    """Return the path and what follows its `?`; refuse what would be ignored."""
    path, _, query = url.rest.partition("?")
    options = parse_qs(query, keep_blank_values=True)
    unknown = sorted(options.keys() - set(known))
    if unknown:
        raise ValueError(f"the option {one_line(', '.join(unknown))} is not supported")
    return path, options


def _database(*texts: str) -> int:
    """Return the first number that is given, or 0."""
    if not all(_DATABASE.fullmatch(text) for text in texts):
        raise ValueError("the database must be a number")
    return int(next(filter(None, texts), 0))


def _sqlite(url: _Url) -> SqliteAddress:
    if url.hosts or url.user is not None or not _FILE.fullmatch(url.rest):
        raise ValueError('the path of the file, without "?" and "#", must follow three slashes: sqlite:///alerts.db')
    return SqliteAddress(url.rest.removeprefix("/"))


def _opensearch(url: _Url) -> OpenSearchAddress:
    if "@" in url.rest:
        raise ValueError(_UNESCAPED)
    hosts = _hosts(url)
    if "?" in url.rest or "#" in url.rest:
        raise ValueError('"?" and "#" are not allowed')
    if not url.hosts.isascii() or "%" in url.hosts:
        raise ValueError("each host must be ASCII, and an IPv6 address must have no zone")
    _refuse_colon(url)
    prefix = url.rest.rstrip("/")
    default = OPENSEARCH_PORTS[url.scheme]
    nodes = tuple(f"{url.scheme}://{host}:{port or default}{prefix}" for host, port in hosts)
    return OpenSearchAddress(nodes, url.user, url.password)


def _refuse_colon(url: _Url) -> None:
    if ":" in (url.user or ""):  # Basic authentication ends the user at the first
        raise ValueError('a user with ":" cannot be sent')


def _secret(text: str) -> Secret | None:
    return Secret(text) if text else None


def _without_brackets(host: str) -> str:
    return unquote(host.removeprefix("[").removesuffix("]"))


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
