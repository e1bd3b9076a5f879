"""The kinds of settings: what a value may be, and how the text of an option or environment variable is read."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal

from trio_alerts.errors import SettingsError
from trio_alerts.http.authorities import trusting
from trio_alerts.secret import Secret, read_secret_file, signing_key
from trio_alerts.settings.addresses import parse_receiver_url, parse_redis_url, parse_smtp_url, parse_store_url
from trio_alerts.settings.hosts import parse_bind_address

Networks = Literal["any", "public"] | tuple[IPv4Network | IPv6Network, ...]

# The index behind the alias is called `<alias>-000001`, and a name may have 255 bytes.
_ALIAS_BYTES = 255 - len("-000001")
# With several streams a record's ID is `<stream>|<entry ID>`, which OpenSearch limits to 512 bytes.
_NAME_BYTES = 256
# Redis takes milliseconds, and 0 means "for ever" there: no wait may round down to it.
_SHORTEST_S = 0.01
_LONGEST_S = 365 * 86_400
_LOWEST_RATE, _HIGHEST_RATE = 0.001, 10_000  # alerts a second: one in a quarter of an hour, and more than anybody needs
# Set by the channel or by HTTP: another value would break the signature or the request.
_OUR_HEADERS = frozenset({"webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length"})
_HTTP_HEADERS = frozenset({"connection", "content-encoding", "expect", "host", "te", "trailer", "transfer-encoding"})


@dataclass(frozen=True)
class Kind:
    """What the value of a setting may be.

    Args:
        allowed: The rule in words, for messages and documentation.
        check: Takes what TOML gives and returns the setting's value. Raises ValueError; its text says what is wrong.
        from_text: Turns the text of an option or an environment variable into what TOML would give.
        secret: No message shows the value.
        in_file: It may also be given as `<name>_file`: the path of a file that holds it.
        schema: What JSON Schema can say of it; `check` may refuse more.
    """

    allowed: str
    check: Callable[[object], object]
    from_text: Callable[[str], object] = str
    secret: bool = False
    in_file: bool = False
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"}, hash=False)


def _number(text: str) -> int | float:
    """Read a number as people write it: no exponent, no "nan", no "1_000"."""
    if not re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", text):
        raise ValueError
    return float(text) if "." in text else int(text)


def whole(low: int, high: int) -> Kind:
    """A whole number in a range, both ends included."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return Kind(f"a whole number from {low:,} to {high:,}", check, from_text=_number, schema=schema)


def seconds(low: float = _SHORTEST_S, high: float = _LONGEST_S) -> Kind:
    """A number of seconds in a range, decimals allowed."""

    def check(value: object) -> float:
        # A nan compares as false.
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return float(value)

    schema = {"type": "number", "minimum": low, "maximum": high}
    return Kind(f"a number of seconds from {low:g} to {high:,}", check, from_text=_number, schema=schema)


def _check_rate(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LOWEST_RATE <= value <= _HIGHEST_RATE:
        raise ValueError
    return float(value)


def choice(*words: str) -> Kind:
    """One of a few words."""

    def check(value: object) -> str:
        if not isinstance(value, str) or value not in words:
            raise ValueError
        return value

    return Kind(" or ".join(f'"{word}"' for word in words), check, schema={"enum": list(words)})


def list_of(item: Kind, allowed: str, *, distinct: bool = True) -> Kind:
    """A list of values of one kind; in a text they are separated by commas."""

    def check(value: object) -> tuple[object, ...]:
        if not isinstance(value, list) or not value:
            raise ValueError
        items = tuple(item.check(one) for one in value)
        if distinct and len(set(items)) < len(items):
            raise ValueError("one of them is given twice")
        return items

    def from_text(text: str) -> list[object]:
        return [item.from_text(part.strip()) for part in text.split(",")]

    schema = {"type": "array", "items": item.schema, "minItems": 1, "uniqueItems": distinct}
    return Kind(allowed, check, from_text=from_text, schema=schema)


def _check_name(value: object) -> str:
    if not isinstance(value, str) or not value or value != value.strip() or not value.isprintable():
        raise ValueError
    if len(value.encode()) > _NAME_BYTES:
        raise ValueError(f"it has {len(value.encode())} bytes")
    return value


def _check_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _check_windows(value: object) -> tuple[dict[str, object], ...]:
    if not isinstance(value, list) or not value or not all(isinstance(one, dict) for one in value):
        raise ValueError
    return tuple(value)


def _check_channel_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise ValueError
    return value


def _check_index(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or value in ("", ".", ".."):
        raise ValueError
    if value[0] in "-_+" or value != value.lower() or set(value) & set('\\/*?"<>|,#: '):
        raise ValueError
    if len(value.encode()) > _ALIAS_BYTES:
        raise ValueError(f"it has {len(value.encode())} bytes")
    return value


def _check_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError  # noqa: TRY004 - every check says "not allowed" in the same way
    return value


def _check_ca_file(value: object) -> Path:
    if not isinstance(value, str) or not value:
        raise ValueError
    if not Path(value).is_file():
        raise ValueError("there is no such file")
    try:
        trusting(value)
    except SettingsError as error:
        raise ValueError(str(error)) from None
    return Path(value)


def _check_networks(value: object) -> Networks:
    if value == "any" or value == "public":  # noqa: PLR1714 - so written, the type is narrowed
        return value
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts or not all(isinstance(part, str) for part in parts):
        raise ValueError
    if any("://" in part for part in parts):  # it would be quoted
        raise ValueError("a URL is not a network")
    return tuple(ip_network(part.strip()) for part in parts)


def _check_listed_networks(value: object) -> tuple[IPv4Network | IPv6Network, ...]:
    networks = _check_networks(value)
    if isinstance(networks, str):
        raise ValueError  # noqa: TRY004 - as above
    return networks


def _check_header_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[!#$%&'*+.^`|~0-9A-Za-z-]{1,100}", value):
        raise ValueError
    return value


def _check_secret(value: object) -> Secret:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - as above
    signing_key(Secret(value))
    return Secret(value)


def _check_credential(value: object, least: int = 8) -> Secret:
    """Take what a header or a JSON text can carry, and what is long enough to be recognized where it is repeated."""
    if not isinstance(value, str) or not re.fullmatch(rf"[!-~]{{{least},4096}}", value):
        raise ValueError
    return Secret(value)


def _check_mail_address(value: object) -> str:
    # What RFC 5321 takes without quotes: nothing of it can end a header or a command.
    if not isinstance(value, str) or not re.fullmatch(
        r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", value
    ):
        raise ValueError
    return value


def _check_path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value or value.endswith("/"):
        raise ValueError
    return Path(value)


def _check_headers(value: object) -> dict[str, Secret]:
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - as above
    headers = [_header(name, text) for name, text in value.items()]
    for name, text in headers:
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in _OUR_HEADERS | _HTTP_HEADERS:
            raise ValueError(f"{name!r} is set by the channel itself")
        if not isinstance(text, str) or not text.isascii() or not text.isprintable() or text != text.strip():
            raise ValueError(f"the value of {name!r} must be printable ASCII without leading or trailing spaces")
    if len({name.lower() for name, _ in headers}) < len(headers):
        raise ValueError("one of them is given twice")
    return {name: Secret(str(text)) for name, text in headers}


def _header(name: str, text: object) -> tuple[str, object]:
    """Return a header's name and value; `Authorization_file` names the file that holds the value of `Authorization`."""
    if not name.lower().endswith("_file"):
        return name, text
    try:
        return name[: -len("_file")], read_secret_file(text)
    except OSError as error:
        raise ValueError(f"the file that {name!r} names cannot be read: {error.strerror}") from None


def _check_match(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError  # noqa: TRY004 - as above
    return dict(_conditions(value))


def _conditions(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Flatten `labels.team = "x"`, which TOML reads as a table in a table, and make each value a tuple of texts."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _conditions(value, f"{prefix}{key}.")
            continue
        values = value if isinstance(value, list) else [value]
        if not values or not all(isinstance(one, str | int) and not isinstance(one, bool) for one in values):
            raise ValueError(f"{prefix}{key} must be a text, a whole number, or a list of them")
        yield prefix + key, tuple(str(one) for one in values)


_TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_WORD = {"type": ["string", "integer"]}

NAME = Kind(f"1 to {_NAME_BYTES} bytes of printable text without leading or trailing spaces", _check_name)
TEXT = Kind("text", _check_text)
WINDOWS = Kind(
    "a list of tables, each of which is a time window",
    _check_windows,
    schema={"type": "array", "minItems": 1},
)
CHANNEL_NAME = Kind(
    '1 to 64 letters, digits, "-" and "_", the first a letter or digit',
    _check_channel_name,
    schema={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
)
RATE = Kind(
    f"a number of alerts a second from {_LOWEST_RATE:g} to {_HIGHEST_RATE:,}",
    _check_rate,
    from_text=_number,
    schema={"type": "number", "minimum": _LOWEST_RATE, "maximum": _HIGHEST_RATE},
)
BURST = whole(1, 10_000)
INDEX = Kind(
    f'lower case, at most {_ALIAS_BYTES} bytes, not starting with - _ +, and without spaces and \\ / * ? " < > | , # :',
    _check_index,
)
CA_FILE = Kind("the path of a PEM file with CA certificates", _check_ca_file)
POLICY = choice("resend", "hold")
NETWORKS = Kind(
    '"any", "public", or a list of networks, such as 10.0.0.0/8',
    _check_networks,
    schema={"anyOf": [{"type": "string"}, _TEXTS]},
)
LISTED_NETWORKS = Kind(
    "a list of networks, such as 10.0.0.0/8", _check_listed_networks, schema={"anyOf": [{"type": "string"}, _TEXTS]}
)
HEADER_NAME = Kind("the name of a header", _check_header_name)
SCHEDULE = list_of(seconds(), f"a list of seconds, each from {_SHORTEST_S:g} to {_LONGEST_S:,}", distinct=False)
REDIS_URL = Kind(
    "redis://host, rediss://host, redis+sentinel://host/service or unix:///path",
    parse_redis_url,
    secret=True,
    in_file=True,
)
STORE_URL = Kind(
    "http(s)://user:password@host:port,host… or sqlite:///path", parse_store_url, secret=True, in_file=True
)
WEBHOOK_URL = Kind("an http:// or https:// URL with one host", parse_receiver_url, secret=True, in_file=True)
WEBHOOK_SECRET = Kind("base64, with or without the prefix whsec_", _check_secret, secret=True, in_file=True)
HEADERS = Kind(
    "a table of texts, without the headers that the channel sets itself",
    _check_headers,
    secret=True,
    schema={"type": "object", "additionalProperties": {"type": "string"}},
)
SERVICE_TOKEN = Kind("8 or more printable ASCII characters", _check_credential, secret=True, in_file=True)
CONSOLE_TOKEN = Kind(  # as long as this because whoever guesses at it is slowed, and not shut out
    "16 or more printable ASCII characters", partial(_check_credential, least=16), secret=True, in_file=True
)
SMTP_URL = Kind(
    "smtp://user:password@host:port or smtps://user:password@host:port", parse_smtp_url, secret=True, in_file=True
)
BIND = Kind("an IP address of this machine and a port, such as 127.0.0.1:8080 or [::]:8080", parse_bind_address)
MAIL_ADDRESS = Kind("a mail address in ASCII, such as alerts@example.org", _check_mail_address)
FILE = Kind("the path of a file", _check_path)
FLAG = Kind("true or false", _check_flag, schema={"type": "boolean"})
MATCH = Kind(
    "a table of field = value, or field = a list of values",
    _check_match,
    schema={
        "type": "object",
        "additionalProperties": {
            "anyOf": [_WORD, {"type": "array", "items": _WORD, "minItems": 1}, {"type": "object"}],
        },
    },
)
