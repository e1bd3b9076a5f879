"""Settings from every source: options, environment and TOML, right, nearly right, and random.

What is refused is refused with a `SettingsError` that shows no secret; what is accepted can be used: no backend and no
channel finds later that it cannot take its address.
"""

import datetime as dt
import math
import re
import string
import tempfile
from contextlib import chdir
from pathlib import Path
from random import Random

import httpx
import idna

from tests.fuzz.target import Target
from trio_alerts.backends.opensearch.connection import HttpConnection
from trio_alerts.backends.redis.client import RedisClient
from trio_alerts.channels.registry import channel_settings
from trio_alerts.channels.webhook import Webhook, WebhookSettings
from trio_alerts.errors import SettingsError
from trio_alerts.http.request import origin_key
from trio_alerts.ports.channel import Message
from trio_alerts.routing.routes import Routing
from trio_alerts.settings.addresses import OpenSearchAddress, RedisAddress
from trio_alerts.settings.settings import RouteSettings, Settings, warnings_about
from trio_alerts.settings.sources import load_settings
from trio_alerts.settings.tables import describe

NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)
MARK = "S3CR3T"  # stands in every secret, and must stand in nothing that is shown

# fmt: off
HOSTS = (
    "h", "127.0.0.1", "[::1]", "localhost", "example.org.", "a_b.example", "x" * 64, "a." * 130, "zürich.example",
    "☃.com", "0177.0.0.1", "127.1", "0x7f000001", "2130706433", "1.2.3.4.5", "256.1.1.1", "169.254.169.254", "0.0.0.0",
    "08", "*", "ä..com", "[v1.x]", "[::1", "::1", "[fe80::1%lo]", "[::ffff:1.2.3.4]", "h!st", "h%41", "a b", "", "-",
    "xn--", "a,b", "\uff11\uff12\uff17.0.0.1", "a\u3002b", "h\\x", "h'", "[]", "xn--0", "e\u0301.example", "ß.de",
    "h\x00", "a:b:c",
)
USERS = (
    "", "", "", f"u:{MARK}@", f":{MARK}@", "u@", "@", f"u%3A:{MARK}@", f"ü:{MARK}é@", f"u:{MARK}/@", f"u:{MARK}%@",
    f"[:{MARK}@",
)
PORTS = ("", "", "", ":1", ":80", ":65535", ":0", ":65536", ":", ":x", ":-1", ":\u0663", ":080", ":000000080")
PATHS = (
    "", "/", "/0", "/path", "/abc", "/0/1", "//", "/a b", "/%", "/é", "/x" * 50, "?db=1", "?db=x", "?ssl=true", "/?",
    "/#", "/main/0", "/main/x", "/main", "/#x", "/0?db=-1", "/alerts.db", "/\u202e", "/" + "x" * 70_000, "?db=",
    "/0?db", "/\u0663",
)
SCHEMES = ("redis", "rediss", "redis+sentinel", "unix", "http", "https", "sqlite", "HTTP", "Redis", "ftp", "")
WORDS = (
    "", "x", "any", "public", "hold", "resend", "acked", "off", "json", "now", "0", "true", "10.0.0.0/8", "a,b", "::/0",
)
NUMBERS = (
    "0", "1", "-1", "16", "0.01", "1e9", "nan", "inf", "-0", "007", "\u0663", "1_000", "9" * 30, "9" * 5_000, "0.1",
    "60",
)
FILES = {
    "good": f"http://u:{MARK}@h/{MARK}\n".encode(), "secret": f"{MARK}aa".encode(), "binary": b"\xff\xfe", "empty": b"",
    "missing": None, "x" * 300: None,
}
# fmt: on


def case(random: Random) -> None:
    """One set of sources, in a folder of its own with some files that settings may name."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, chdir(folder):
        for name, content in FILES.items():
            if content is not None:
                Path(name).write_bytes(content)
        _load(random)


def _load(random: Random) -> None:
    config = Path("alerts.toml")
    options: dict[str, str] = {}
    environ: dict[str, str] = {}
    if random.random() < 0.6:  # addresses alone, most of them nearly right: more of these are accepted
        environ = {f"TRIO_ALERTS_{name}": _near(random, name) for name in ("REDIS_URL", "STORE_URL", "WEBHOOK_URL")}
        headers = _headers(random) if random.random() < 0.2 else "{}"
        config.write_text(
            f'[[channels]]\nname = "a"\nurl = {_quoted(_near(random, "WEBHOOK_URL"))}\nheaders = {headers}', "utf-8"
        )
    else:
        options = {_name(random): _text(random) for _ in range(random.choice((0, 0, 1, 3)))}
        environ = {f"TRIO_ALERTS_{_name(random).upper()}": _text(random) for _ in range(random.choice((0, 0, 1, 3)))}
        config.write_bytes(_document(random))
    refusal = ""
    try:
        settings = load_settings(options, environ, config, channel_settings)
        Routing(settings)
    except SettingsError as error:
        refusal = str(error)
    if refusal:
        assert MARK not in refusal, refusal
    else:
        _use(settings)


def _use(settings: Settings) -> None:
    """Do with accepted settings what the program does with them, up to the network."""
    if MARK not in "".join((*settings.stream_names, settings.group, settings.consumer)):  # names are no secrets
        assert MARK not in repr(settings), repr(settings)
    warnings_about(settings)
    _use_redis(settings.redis_url)
    if isinstance(settings.store_url, OpenSearchAddress):
        _use_opensearch(settings.store_url)
    for channel in settings.channels:
        assert isinstance(channel, WebhookSettings)
        request = Webhook(channel, lambda: NOW).render(Message("1-0", b"{}"))
        head, _, body = request.partition(b"\r\n\r\n")
        assert body == b"{}", body
        assert re.fullmatch(rb"POST /[^ ]* HTTP/1\.1(\r\n[^\r\n:]+: [^\r\n]*)+", head), head
        assert channel.url.has_user == bool(re.search(rb"(?i)\r\nauthorization: Basic", head)) or channel.headers, head


def _use_redis(address: RedisAddress) -> None:
    assert f"<RedisClient {address}: lost: not connected yet>" == repr(RedisClient(address, tls=None, timeout_s=1.0))
    for host, port in address.sentinels or ((address.host, address.port),):
        assert 0 < port < 65_536, port
        assert host.isascii() or idna.encode(host, uts46=True), host  # as trio looks it up


def _use_opensearch(address: OpenSearchAddress) -> None:
    HttpConnection(address=address, timeout=1.0, http=httpx.MockTransport(lambda _: httpx.Response(200)))
    for node in address.nodes:
        request = httpx.Request("GET", f"{node}/alerts/_doc/1-0")
        assert request.url.path.endswith("/alerts/_doc/1-0"), request.url
        assert origin_key(request.url).port, request.url


def _name(random: Random) -> str:
    name = random.choice(sorted(describe(Settings)))
    if random.random() < 0.2:
        return name + "_file"
    return random.choice((name,) * 9 + ("", "x", "workres", "é", name.upper(), name + "\n"))


def _text(random: Random) -> str:
    """Return what an option or a variable may hold."""
    make = random.choice((_url, _url, lambda r: r.choice(WORDS), lambda r: r.choice(NUMBERS), _path, _noise))
    return make(random)


def _url(random: Random) -> str:
    hosts = ",".join(random.choice(HOSTS) + random.choice(PORTS) for _ in range(random.choice((1, 1, 1, 1, 2, 0))))
    separator = random.choice(("://",) * 9 + (":", ""))
    url = random.choice(SCHEMES) + separator + random.choice(USERS) + hosts + random.choice(PATHS)
    return url if "://" in url else url.replace(MARK, "x")  # nobody knows what is an address if it does not look so


def _near(random: Random, name: str) -> str:
    """Return an address of a kind that the setting takes, its parts by chance."""
    schemes = {"REDIS_URL": ("redis", "rediss", "redis+sentinel", "unix"), "STORE_URL": ("http", "https", "sqlite")}
    if random.random() < 0.7:
        return {"REDIS_URL": "redis://h", "STORE_URL": "sqlite:///x.db", "WEBHOOK_URL": f"http://h/{MARK}"}[name]
    scheme = random.choice(schemes.get(name, ("http", "https")))
    if scheme in ("unix", "sqlite"):
        return f"{scheme}://{random.choice(PATHS)}"
    parts = [random.choice(some)[:300] for some in (USERS, HOSTS, PORTS, PATHS)]
    right = random.randrange(5)  # all parts but one are right, or none needs to be
    usual = (f"u:{MARK}@", "example.org", ":80", "/main" if scheme == "redis+sentinel" else "/0")
    return f"{scheme}://" + "".join(usual[n] if n != right < 4 else part for n, part in enumerate(parts))


def _path(random: Random) -> str:
    return random.choice((*FILES, "", "\0"))


def _noise(random: Random) -> str:
    return "".join(random.choices(string.printable + "é\u202e\ud800\0٣", k=random.randrange(12)))


def _document(random: Random) -> bytes:
    """Return a TOML file, mostly a valid one."""
    lines = [f"{_key(random)} = {_value(random)}" for _ in range(random.randrange(4))]
    for _ in range(random.choice((0, 1, 1, 2))):
        lines += [
            random.choice(("[[channels]]",) * 9 + ("[channels]", "[[channels.x]]")),
            *_table(random, WebhookSettings),
        ]
    for _ in range(random.choice((0, 0, 1, 2))):
        lines += ["[[routes]]", *_table(random, RouteSettings)]
    if random.random() < 0.02:
        lines.insert(
            0,
            random.choice(
                ("x = " + "[" * 3_000, "x = " + "9" * 5_000, "x = 0x" + "f" * 9_000, "a" + ".a" * 3_000 + " = 1")
            ),
        )
    document = "\n".join(lines).encode("utf-8", "surrogatepass")
    at = random.randrange(len(document) + 1)
    if random.random() < 0.15 and b"://" not in document[max(at - 2, 0) : at + 2]:  # what looks like no URL is shown
        document = document[:at] + random.choice((b"\xff", b"\0", b"\n", b'"', b"[", b"=", b"\r")) + document[at:]
    return document


def _table(random: Random, table: type[WebhookSettings | RouteSettings]) -> list[str]:
    keys = {name: _value(random) for name in describe(table) if random.random() < 0.3}
    if table is RouteSettings and "name" in keys:  # what names a route is shown
        keys["name"] = _quoted(random.choice(WORDS))
    if table is WebhookSettings:
        keys |= {"name": _quoted(random.choice(("a", "b", "a b", "webhook"))), "url": _quoted(_url(random))}
        if random.random() < 0.6:
            keys["url"] = _quoted(f"https://{random.choice(USERS)}{random.choice(HOSTS)}/{MARK}")
        if random.random() < 0.4:
            keys["headers"] = _headers(random)
        keys.pop("secret", None) if random.random() < 0.7 else None
    return [f"{name} = {value}" for name, value in keys.items()]


def _headers(random: Random) -> str:
    names = (
        "Authorization",
        "authorization",
        "X",
        "x_file",
        "Authorization_file",
        "Host",
        "a b",
        "",
        "Te",
        "_file",
        "Content-Type",
    )
    values = (f"Bearer {MARK}", f"{MARK}\n", f" {MARK}", f"{MARK}é", "", "secret", "missing")
    pairs = [f"{_quoted(random.choice(names))} = {_quoted(random.choice(values))}" for _ in range(random.randrange(3))]
    return "{ " + ", ".join(pairs) + " }"


def _key(random: Random) -> str:
    return _quoted(_name(random)) if random.random() < 0.3 else random.choice(sorted(describe(Settings)))


def _value(random: Random) -> str:
    match random.randrange(8):
        case 0:
            return random.choice(("true", "[]", "{}", "1979-05-27", "[[1]]", '[""]', "nan", "-inf", "0x" + "f" * 9_000))
        case 1:
            return random.choice(("0", "1", "16", "-1", "0.5", "60.0", str(2**70), str(math.pi), "1e400"))
        case 2:
            return "[" + ", ".join(_value(random) for _ in range(random.randrange(4))) + "]"
        case 3:
            return (
                "{ "
                + ", ".join(f"{_quoted(_noise(random))} = {_value(random)}" for _ in range(random.randrange(3)))
                + " }"
            )
        case 4:
            return "{ a" + ".a" * random.choice((0, 1, 2_000)) + " = 1 }"
    return _quoted(_text(random))


def _quoted(text: str) -> str:
    """Write a text as TOML has it; of a surrogate, TOML knows no way."""
    escaped = (f"\\U{ord(c):08x}" if c in '"\\' or not c.isprintable() else c for c in text)
    return '"' + "".join(escaped) + '"'


TARGETS = [Target("settings", case)]
