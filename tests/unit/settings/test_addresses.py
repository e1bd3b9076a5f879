"""The grammar of addresses: what each means, what is shown of it, and what is refused before anything is opened."""

import pytest

from trio_alerts.channels.registry import channel_settings
from trio_alerts.errors import SettingsError
from trio_alerts.secret import Secret
from trio_alerts.settings.addresses import (
    OpenSearchAddress,
    ReceiverAddress,
    RedisAddress,
    SqliteAddress,
    StoreAddress,
    parse_receiver_url,
    parse_redis_url,
    parse_store_url,
)
from trio_alerts.settings.sources import load_settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", RedisAddress("h")),
        ("REDIS://h", RedisAddress("h")),
        ("redis://h:1/2", RedisAddress("h", 1, db=2)),
        ("redis://h/", RedisAddress("h")),
        ("redis://h?db=3", RedisAddress("h", db=3)),
        ("redis://h/1?db=", RedisAddress("h", db=1)),
        ("redis://[::1]:1/", RedisAddress("::1", 1)),
        ("redis://[fe80::1%25eth0]", RedisAddress("fe80::1%eth0")),
        ("redis://zürich.example", RedisAddress("zürich.example")),
        ("rediss://h", RedisAddress("h", tls=True)),
        ("redis://@h", RedisAddress("h")),
        ("redis://:p%40%2Fs@h", RedisAddress("h", password=Secret("p@/s"))),
        ("redis://u%C3%A9:p:q@h", RedisAddress("h", username="ué", password=Secret("p:q"))),
        ("unix:///run/redis.sock", RedisAddress(path="/run/redis.sock")),
        (
            "unix://u:p@/run/a%20b.sock?db=1",
            RedisAddress(path="/run/a b.sock", username="u", password=Secret("p"), db=1),
        ),
        ("redis+sentinel://a/alerts", RedisAddress(sentinels=(("a", 26379),), service="alerts")),
        (
            "redis+sentinel://u:p@a:1,[::1]:2,c/my%20service/3?sentinel_username=su&sentinel_password=sp%26",
            RedisAddress(
                sentinels=(("a", 1), ("::1", 2), ("c", 26379)),
                service="my service",
                db=3,
                username="u",
                password=Secret("p"),
                sentinel_username="su",
                sentinel_password=Secret("sp&"),
            ),
        ),
    ],
)
def test_a_redis_url_names_server_user_and_database(url: str, address: RedisAddress) -> None:
    """Host, port, path, database, user and password, percent-decoded; a cluster is entered by one of its nodes."""
    assert address == parse_redis_url(url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:9201", OpenSearchAddress(("http://127.0.0.1:9201",))),
        ("http://a", OpenSearchAddress(("http://a:9200",))),
        ("HTTPS://a/", OpenSearchAddress(("https://a:443",))),
        ("http://a:1,b:2,[::1]:3", OpenSearchAddress(("http://a:1", "http://b:2", "http://[::1]:3"))),
        (
            "https://u:p%40%2F%3A@a,b/x/y/",
            OpenSearchAddress(("https://a:443/x/y", "https://b:443/x/y"), "u", Secret("p@/:")),
        ),
        ("http://u@a", OpenSearchAddress(("http://a:9200",), "u")),
        ("http://u:p:q@a", OpenSearchAddress(("http://a:9200",), "u", Secret("p:q"))),
        ("sqlite:///alerts.db", SqliteAddress("alerts.db")),
        ("sqlite:////var/lib/alerts.db", SqliteAddress("/var/lib/alerts.db")),
        ("sqlite:///a%20@b.db", SqliteAddress("a%20@b.db")),
    ],
)
def test_a_store_url_names_nodes_or_a_file(url: str, address: StoreAddress) -> None:
    """Scheme, credentials and prefix hold for every host; http means port 9200 and https 443. A path is taken as is."""
    assert address == parse_store_url(url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://h/T0/abc", (Secret("https://h/T0/abc"), "https://h", "h", False)),
        ("HTTP://h", (Secret("http://h"), "http://h", "h", False)),
        ("http://[::1]:80/?a=b", (Secret("http://[::1]:80/?a=b"), "http://[::1]:80", "[::1]", False)),
        ("https://u:p@h:1/x", (Secret("https://u:p@h:1/x"), "https://h:1", "h", True)),
        ("https://:p@h", (Secret("https://:p@h"), "https://h", "h", True)),
        ("https://@h", (Secret("https://@h"), "https://h", "h", False)),
        ("https://h/@user/hook", (Secret("https://h/@user/hook"), "https://***", "h", False)),
        ("https://h/x#", (Secret("https://h/x#"), "https://h", "h", False)),
    ],
)
def test_a_channel_url_is_kept_beside_what_may_be_shown(url: str, address: tuple[Secret, str, str, bool]) -> None:
    """The URL itself, its origin, its host, and whether somebody logs in by it."""
    assert ReceiverAddress(*address) == parse_receiver_url(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@h:1/2", "redis://h:1/2"),
        ("rediss://u:secret@[::1]", "rediss://[::1]:6379/0"),
        ("unix://:secret@/run/redis.sock?db=1", "unix:///run/redis.sock?db=1"),
        ("redis+sentinel://:secret@a,b:1/alerts?sentinel_password=secret", "redis+sentinel://a:26379,b:1/alerts/0"),
        ("http://u:secret@a:9201,b/x", "http://a:9201/x, http://b:9200/x"),
        ("sqlite:///data/alerts.db", "sqlite:///data/alerts.db"),
        ("https://user:secret@h:8443/secret?token=secret", "https://h:8443"),
        ("https://u:1/secret@h", "https://***"),
    ],
)
def test_an_address_is_shown_without_user_and_password(url: str, shown: str) -> None:
    """Logs and messages name the server, but never a user, a password, or the path of a channel."""
    parsers = {"http://u:secret@a:9201,b/x": parse_store_url, "sqlite:///data/alerts.db": parse_store_url}
    parse = parsers.get(url, parse_receiver_url if url.startswith("https") else parse_redis_url)

    assert (shown, shown) == (str(parse(url)), repr(parse(url)))


UNESCAPED = 'in a user or password, write "/", "?" and "#" as %2F, %3F and %23'
SLASHES = "must follow three slashes"
NO_NAME = "invalid host name"
PORT = "invalid host or port"

ODD = [
    ("redis_url", "", ""),
    ("redis_url", "h:6379", ""),
    ("redis_url", "redis:h", ""),
    ("redis_url", "redis:// h", ""),
    ("redis_url", "redis://h\n", ""),
    ("redis_url", "redis://:sec\u202eret@h", ""),
    ("redis_url", "://h", "unknown scheme"),
    ("redis_url", "http://h", "unknown scheme"),
    ("redis_url", "redis://", "a host is missing"),
    ("redis_url", "redis:///0", "a host is missing"),
    ("redis_url", "redis://:sec@", "a host is missing"),
    ("redis_url", "redis://a,b", "more than one host"),
    ("redis_url", "redis://h:0", PORT),
    ("redis_url", "redis://h:x", PORT),
    ("redis_url", "redis://h:65536", PORT),
    ("redis_url", "redis://:sec", PORT),
    ("redis_url", "redis://[::1", PORT),
    ("redis_url", "redis://a]b[", PORT),
    ("redis_url", "redis://h!st", NO_NAME),
    ("redis_url", "redis://0177.0.0.1", "ends in a number"),
    ("redis_url", "redis://u:sec/ret@h", UNESCAPED),
    ("redis_url", "redis://u:1/sec@h", UNESCAPED),
    ("redis_url", "redis://u:sec?ret@h", UNESCAPED),
    ("redis_url", "redis://u:sec#ret@h", UNESCAPED),
    ("redis_url", "redis+sentinel://:sec/ret@h/main", UNESCAPED),
    ("redis_url", "redis://h?db=1@sec", UNESCAPED),
    ("redis_url", "redis://h/0#", UNESCAPED),
    ("redis_url", "redis://u:[sec@h", '"[" and "]" as %40, %5B, %5D'),
    ("redis_url", "redis://u:sec@ret@h", '"[" and "]" as %40, %5B, %5D'),
    ("redis_url", "redis://h/abc", "the database must be a number"),
    ("redis_url", "redis://h/0/1", "the database must be a number"),
    ("redis_url", "redis://h/-1", "the database must be a number"),
    ("redis_url", "redis://h/\u0663", "the database must be a number"),
    ("redis_url", "redis://h/1?db=x", "the database must be a number"),
    ("redis_url", "redis://h?db=1&db=x", "the database must be a number"),
    ("redis_url", "redis://h?ssl=true", "the option ssl is not supported"),
    ("redis_url", "redis://h?db=1&timeout=&protocol=3", "the option protocol, timeout is not supported"),
    ("redis_url", "redis://h?%0aforged=1", r"the option \nforged is not supported"),
    ("redis_url", "unix://", SLASHES),
    ("redis_url", "unix:///", SLASHES),
    ("redis_url", "unix:///run/", SLASHES),
    ("redis_url", "unix://run/redis.sock", SLASHES),
    ("redis_url", f"unix:///{'x' * 107}", "at most 107 bytes"),
    ("redis_url", "unix:///run/x?protocol=3", "the option protocol is not supported"),
    ("redis_url", "redis+sentinel:///main", "a host is missing"),
    ("redis_url", "redis+sentinel://a,/main", "a host is missing"),
    ("redis_url", "redis+sentinel://a:x/main", PORT),
    ("redis_url", "redis+sentinel://a:1", "the name of the service is missing"),
    ("redis_url", "redis+sentinel://a//0", "the name of the service is missing"),
    ("redis_url", "redis+sentinel://a/main/x", "the database must be a number"),
    ("redis_url", "redis+sentinel://a/main?db=1", "the option db is not supported"),
    ("store_url", "localhost:9200", ""),
    ("store_url", "redis://h", "unknown scheme"),
    ("store_url", "http://", "a host is missing"),
    ("store_url", "https://u:sec@a,,b", "a host is missing"),
    ("store_url", "https://h:99999", PORT),
    ("store_url", "https://u:sec/ret@h", UNESCAPED),
    ("store_url", "https://u:1/sec@h", UNESCAPED),
    ("store_url", "https://u:sec@a,u:sec@b", '"[" and "]" as %40, %5B, %5D'),
    ("store_url", "https://u%3Asec:ret@h", 'a user with ":" cannot be sent'),
    ("store_url", "https://h?x=1", '"?" and "#" are not allowed'),
    ("store_url", "https://h/#", '"?" and "#" are not allowed'),
    ("store_url", "http://h!st", NO_NAME),
    ("store_url", "http://zürich.example", "each host must be ASCII"),
    ("store_url", "http://[fe80::1%lo]", "must have no zone"),
    ("store_url", "http://a,ä..com", NO_NAME),
    ("store_url", "http://a:", PORT),
    ("store_url", "http://[v1.x]", "invalid IPv6 address"),
    ("store_url", "sqlite://", SLASHES),
    ("store_url", "sqlite:///", SLASHES),
    ("store_url", "sqlite:///data/", SLASHES),
    ("store_url", "sqlite://alerts.db", SLASHES),
    ("store_url", "sqlite://u@/alerts.db", SLASHES),
    ("store_url", "sqlite:///a.db?mode=ro", SLASHES),
    ("webhook_url", "//h/x", ""),
    ("webhook_url", "https://h/a b", ""),
    ("webhook_url", "ftp://h/x", "unknown scheme"),
    ("webhook_url", "https:///x", "a host is missing"),
    ("webhook_url", "https://a,b/x", "more than one host"),
    ("webhook_url", "https://[x],[/", "more than one host"),
    ("webhook_url", "https://h/#/x", 'what follows "#" would never be sent'),
    ("webhook_url", "http://u%3Ax:sec@h/", 'a user with ":" cannot be sent'),
    ("webhook_url", "http://::1/", PORT),
    ("webhook_url", "http://h\\x/", NO_NAME),
    ("webhook_url", "http://h%41/", NO_NAME),
    ("webhook_url", "https://\u2178\uff0fh/", NO_NAME),
    ("webhook_url", "http://256.1.1.1/", "ends in a number"),
    ("webhook_url", f"http://h/{'x' * 8_192}", "longer than 8,192 characters"),
]


@pytest.mark.parametrize(("name", "url", "detail"), ODD)
def test_an_address_that_no_backend_could_use_is_refused_with_the_settings(name: str, url: str, detail: str) -> None:
    """It is one line beside the other faults, says what is wrong with it, and shows no piece of a password."""
    with pytest.raises(SettingsError) as caught:
        load_settings({name: url, "workers": "0"}, {}, None, channel_settings)

    problem, other = sorted(str(caught.value).splitlines())
    assert other.startswith("workers: ")
    assert problem.startswith(f"{name}: the value from option --{name.replace('_', '-')} is not allowed")
    _, parenthesis, said = problem.partition(" (")
    assert bool(detail) == bool(parenthesis)
    assert detail in said
    assert "sec" not in problem
    assert "ret" not in problem
