"""Takes secrets out of what others wrote: an echo of a request must not carry its secrets into records and logs."""

import base64
import html.entities
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

if TYPE_CHECKING:
    import httpx

MASK = b"***"
_SHORTEST = 4  # characters; anything shorter is part of too many words, and hardly a secret
_SHORTEST_NUMBER = 6  # digits: shorter ones are ports, years, counts
_SHORTEST_BASE64 = 6  # characters of it that are the same wherever in a text the secret stands
_LARGEST_FORM = 8  # bytes that a character becomes at most, in what servers usually escape with

# Parts of URLs that are no secrets, and that answers are full of.
COMMON = frozenset(
    re.findall(
        "[a-z]+",
        """
        alert alerting alertmanager alerts api apis app application apps basic bearer bots channel channels chat close
        content create default dev event events false hook hooks html http https inbound incoming ingest integration
        integrations internal json local localhost message messages none notification notifications notifier notify null
        plain post prod production public push receive receiver rest room rooms send service services slack staging
        system team teams telegram test text token tokens true type user users version webhook webhooks workflow
        workflows
        """,
    )
)


class Redactor:
    """Takes known secrets out of what others wrote, in the forms in which servers repeat what they were sent.

    Found as they are, in upper and lower case, percent-encoded (also twice), escaped as in JSON and HTML, mixed, and
    in base64, wherever it begins.

    Args:
        secrets: Common words and what is too short are left alone.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = sorted({one for one in secrets if _is_telling(one)}, key=len, reverse=True)
        self._plain = [one.encode() for one in known]
        cores = {core for one in self._plain for core in _in_base64(one)}
        forms = [*map(_in_any_form, known), *map(re.escape, cores)]
        self._pattern = re.compile(b"|".join(forms), re.IGNORECASE)
        # The pattern is slow, and most answers have nothing of it in them: each form has one of these.
        signs = {_longest_word(one) for one in self._plain} | {core.lower() for core in cores}
        self._signs = sorted(signs, key=len)
        self._redacted = lru_cache(maxsize=8)(self._redact)  # whoever answers says the same again and again
        self._margin = _LARGEST_FORM * max(map(len, self._plain), default=0)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._plain)} secrets>"

    def redact(self, text: str) -> str:
        """Return a text without the secrets."""
        data = text.encode(errors="surrogateescape")
        return self.redact_beginning(data, len(data)).decode(errors="surrogateescape")

    def redact_beginning(self, data: bytes | bytearray, limit: int, *, cut: bool = False) -> bytes:
        """Return the first bytes of some data without the secrets: not even a part of one that reaches beyond them.

        Args:
            data: As far as it was read.
            limit: So many bytes of it are wanted.
            cut: More would have followed: what the data ends with may be the first half of a secret.
        """
        return self._redacted(bytes(data[: limit + self._margin]), limit, cut and len(data) <= limit)

    def _redact(self, window: bytes, limit: int, cut: bool) -> bytes:
        kept, at = [], 0
        if self._may_be_in(window.lower()):
            for found in self._pattern.finditer(window):
                if found.start() >= limit:
                    break
                kept += [window[at : found.start()], MASK]
                at = found.end()
        rest = window[at:limit]
        if cut:
            rest = self._without_half(rest)
        return b"".join((*kept, rest))

    def _may_be_in(self, lowered: bytes) -> bool:
        for sign in self._signs:
            if sign in lowered:
                return True
            if len(sign) > len(lowered):  # and so are those after it
                break
        return False

    def _without_half(self, data: bytes) -> bytes:
        for secret in self._plain:
            for length in range(len(secret) - 1, 1, -1):
                if data.endswith(secret[:length]):
                    return data[:-length] + MASK
        return data


def secrets_of_request(url: "httpx.URL", headers: Mapping[str, str], key: bytes | None = None) -> list[str]:
    """Return the parts of a request that its receiver must not repeat: of the URL, the headers and the signing key.

    Args:
        url: User and password, and every part of path and query that is not a common word.
        headers: Their values, with and without the scheme (`Bearer`).
        key: What signs it.
    """
    path, _, query = url.raw_path.decode("ascii").partition("?")
    found = [path, query, *unquote(path).split("/"), *path.split("/")]
    found += [value for _, value in parse_qsl(query)]
    found += [url.password, f"{url.username}:{url.password}" if url.password else ""]
    for value in headers.values():
        scheme, _, credentials = value.partition(" ")
        found += [value, credentials]
        if scheme.lower() == "basic":
            found += _of_basic(credentials)
    if key is not None:
        found += [base64.b64encode(key).decode().rstrip("="), key.decode() if key.isascii() else ""]
    return found


def _of_basic(token: str) -> list[str]:
    try:
        pair = base64.b64decode(token, validate=True).decode()
    except ValueError:
        return []
    return [pair, pair.partition(":")[2]]


def _is_telling(text: str) -> bool:
    shortest = _SHORTEST_NUMBER if text.isdigit() else _SHORTEST
    words = [word for word in re.split("[/&=]", text.lower()) if word]
    return len(text) >= shortest and not all(word in COMMON or len(word) < _SHORTEST for word in words)


def _longest_word(secret: bytes) -> bytes:
    """Return the longest part of a secret that no escaping changes, in lower case."""
    return max(re.split(rb"[^0-9a-z]+", secret.lower()), key=len)


def _in_any_form(secret: str) -> bytes:
    return b"".join(map(_character_in_any_form, secret))


def _character_in_any_form(character: str) -> bytes:
    if character.isascii() and character.isalnum():
        return character.encode()  # nobody escapes these
    code = ord(character)
    raw = re.escape(character.encode())
    utf16 = character.encode("utf-16-be")
    forms = [
        rb"\\{0,4}" + raw,
        b"".join(b"%%(?:25)*%02x" % byte for byte in character.encode()),
        b"".join(rb"\\{1,4}u%b" % utf16[at : at + 2].hex().encode() for at in range(0, len(utf16), 2)),
        b"&(?:amp;)?#(?:0*%d|x0*%x);" % (code, code),
    ]
    if character == " ":
        forms.append(rb"\+")
    if character in _LETTERS:
        forms.append(rb"\\{1,4}" + _LETTERS[character])
    if code in _ENTITIES:
        forms.append(b"&(?:amp;)?%b;" % _ENTITIES[code].encode())
    return b"(?:%b)" % b"|".join(forms)


_ENTITIES = {**html.entities.codepoint2name, ord("'"): "apos", ord("/"): "sol", ord("="): "equals", ord("+"): "plus"}


_LETTERS = {"\b": b"b", "\f": b"f", "\n": b"n", "\r": b"r", "\t": b"t"}


def _in_base64(secret: bytes) -> set[bytes]:
    """Return what of the base64 of any text with the secret in it depends on the secret alone."""
    cores = set()
    for before in range(3):
        first = -(-before * 8 // 6)  # the characters that what stands before has a part in
        whole = (before + len(secret)) * 8 // 6  # those after it depend on what follows
        encoded = base64.b64encode(b"\0" * before + secret)[first:whole]
        if len(encoded) >= _SHORTEST_BASE64:
            cores |= {encoded, encoded.replace(b"+", b"-").replace(b"/", b"_")}
    return cores
