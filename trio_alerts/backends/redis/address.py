"""The setting `redis_url`, taken apart once: what cannot be honoured is refused, never ignored."""

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio.connection import parse_url

from trio_alerts.errors import SettingsError
from trio_alerts.secret import split_url

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
_SENTINEL_OPTIONS = {"sentinel_username", "sentinel_password"}


@dataclass(frozen=True)
class RedisAddress:
    """Where a Redis server is and as whom to enter it; `str()` never shows a password."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None  # of a unix socket, instead of host and port
    tls: bool = False
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinels: tuple[tuple[str, int], ...] = ()  # asked for the master of `service`, instead of host and port
    service: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.sentinels:
            return f"redis+sentinel://{','.join(_host_port(*each) for each in self.sentinels)}/{self.service}/{self.db}"
        if self.path is not None:
            return f"unix://{self.path}?db={self.db}"
        return f"{'rediss' if self.tls else 'redis'}://{_host_port(self.host, self.port)}/{self.db}"


def parse_redis_url(url: str) -> RedisAddress:
    """Take `redis_url` apart.

    Raises:
        SettingsError: It is no such URL, or it asks for something that is not supported. The message has no password.
    """
    # A URL would end at the '#': a password would silently become another one.
    if re.search(r"[\s#\x00-\x1f]", url):
        raise SettingsError("redis_url: percent-encode spaces, line breaks and '#' (a '#' in a password is %23).")
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise SettingsError(f"redis_url: must start with one of {', '.join(f'{one}://' for one in _SCHEMES)}")
    try:
        parts = split_url(url)
        if "@" in parts.path + parts.query:
            raise ValueError("a '/' or '?' in the password has ended it")  # noqa: TRY301, one message for all of these
        return _sentinel(parts) if scheme == "redis+sentinel" else _plain(url, parts)
    except ValueError:  # its own text may hold a piece of the password
        raise SettingsError(
            "redis_url: not a valid URL; percent-encode special characters in the user name and password."
        ) from None


def _plain(url: str, parts: SplitResult) -> RedisAddress:
    _refuse_options(parts, {"db"})
    if parts.scheme == "unix":
        if parts.hostname is not None or not parts.path:
            raise SettingsError("redis_url: a unix socket is given as unix:///path/to/socket, with three slashes.")
    else:
        _database(parts.path.removeprefix("/"))  # parse_url takes "/0/1" for 1 and ignores "/abc"
    # redis-py's own reading of the URL, so that a URL means here what it means everywhere else.
    given = parse_url(url)
    return RedisAddress(
        host=given.get("host", "localhost"),
        port=given.get("port", DEFAULT_PORT),
        path=given.get("path"),
        tls=parts.scheme == "rediss",
        db=given.get("db", 0),
        username=given.get("username"),
        password=given.get("password"),
    )


def _sentinel(parts: SplitResult) -> RedisAddress:
    _refuse_options(parts, _SENTINEL_OPTIONS)
    service, _, db = parts.path.removeprefix("/").partition("/")
    if not service:
        raise SettingsError("redis_url: name the service: redis+sentinel://host:port[,host:port]/service/db")
    hosts = [urlsplit(f"//{each}") for each in parts.netloc.rpartition("@")[2].split(",")]
    if not all(each.hostname for each in hosts):
        raise SettingsError("redis_url: name the Sentinels: redis+sentinel://host:port[,host:port]/service/db")
    options = parse_qs(parts.query)
    return RedisAddress(
        sentinels=tuple((each.hostname or "", each.port or DEFAULT_SENTINEL_PORT) for each in hosts),
        service=unquote(service),
        db=_database(db),
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        sentinel_username=options.get("sentinel_username", [None])[0],
        sentinel_password=options.get("sentinel_password", [None])[0],
    )


def _refuse_options(parts: SplitResult, known: set[str]) -> None:
    unknown = sorted(set(parse_qs(parts.query, keep_blank_values=True)) - known)
    if unknown:
        raise SettingsError(
            f"redis_url: option {', '.join(unknown)} is not supported; known: {', '.join(sorted(known))}."
        )


def _database(text: str) -> int:
    if not re.fullmatch(r"\d{0,9}", text, re.ASCII):
        raise SettingsError("redis_url: the database, which follows the last '/', must be a number.")
    return int(text or 0)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
