"""The addresses among the settings: what is refused here is what a backend or a channel could never use."""

import re
from urllib.parse import SplitResult, parse_qsl, unquote

from trio_alerts.secret import SecretUrl, hosts_of, split_url

_LONGEST = 8_192  # characters; servers refuse request lines that are longer
_DATABASE = re.compile(r"[0-9]{0,9}")
_OPTIONS = {
    "redis": {"db"},
    "rediss": {"db"},
    "unix": {"db"},
    "redis+sentinel": {"sentinel_username", "sentinel_password"},
}


def check_redis_url(value: object) -> SecretUrl:
    """Check `redis_url`; raises ValueError, which says what is wrong."""
    url = _split(value)
    hosts = hosts_of(url)
    match url.scheme:
        case "redis" | "rediss" if len(hosts) > 1 or hosts == [""]:
            raise ValueError("it needs one host")
        case "redis+sentinel" if "" in hosts:
            raise ValueError("it needs the addresses of the sentinels")
        case "unix" if hosts != [""] or url.path in ("", "/"):
            raise ValueError("it needs the path of the socket behind three slashes, as in unix:///run/redis.sock")
        case "redis" | "rediss" | "redis+sentinel" | "unix":
            checked = _escaped(url, value)
            _check_database(url)
            return checked
    raise ValueError("its scheme is none of these")


def check_store_url(value: object) -> SecretUrl:
    """Check `store_url`; raises ValueError, which says what is wrong."""
    url = _split(value)
    match url.scheme:
        case "sqlite" if url.netloc or url.path in ("", "/") or _has_query(value):
            raise ValueError("it needs the path of the file behind three slashes, as in sqlite:///alerts.db")
        case "http" | "https" if "" in hosts_of(url):
            raise ValueError("a host is missing")
        case "http" | "https" if _has_query(value):
            raise ValueError('there is a "?" or "#" in it')
        case "http" | "https" if not (hosts := url.netloc.rpartition("@")[2]).isascii() or "%" in hosts:
            raise ValueError("each host in it must be ASCII, and an address without a zone")
        case "http" | "https":
            return _escaped(url, value)
        case "sqlite":
            return SecretUrl(str(value))
    raise ValueError("its scheme is none of these")


def check_webhook_url(value: object) -> SecretUrl:
    """Check where a channel posts to; raises ValueError, which says what is wrong."""
    url = _split(value)
    hosts = hosts_of(url)
    if url.scheme not in ("http", "https") or len(hosts) > 1 or hosts == [""]:
        raise ValueError
    if url.fragment:
        raise ValueError('what follows its "#" would never be sent')
    if ":" in unquote(url.username or ""):
        raise ValueError('a user with a ":" in it cannot be sent')
    return SecretUrl(str(value))


def _split(value: object) -> SplitResult:
    url = split_url(value)
    if len(str(value)) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST:,} characters")
    return url


def _has_query(value: object) -> bool:
    return "?" in str(value) or "#" in str(value)


def _escaped(url: SplitResult, value: object) -> SecretUrl:
    if "@" in url.path + url.query + url.fragment or "#" in str(value):
        raise ValueError('a "/", "?" or "#" in a user or password is written %2F, %3F, %23')
    return SecretUrl(str(value))


def _check_database(url: SplitResult) -> None:
    """Refuse what would be ignored, or found to be wrong only when Redis is asked for it."""
    options = parse_qsl(url.query, keep_blank_values=True)
    unknown = sorted({name for name, _ in options} - _OPTIONS[url.scheme])
    if unknown:
        raise ValueError(f"the option {', '.join(unknown)} is not supported")
    service, _, database = url.path.removeprefix("/").partition("/")
    if url.scheme != "redis+sentinel":
        database = "" if url.scheme == "unix" else url.path.removeprefix("/")
    elif not service:
        raise ValueError("it needs the name of the service: redis+sentinel://host:port/service/db")
    databases = [database, *(text for name, text in options if name == "db")]
    if not all(_DATABASE.fullmatch(one) for one in databases):
        raise ValueError("the database must be a number")
