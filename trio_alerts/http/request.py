"""Requests as bytes. Pure: what is sent is rendered and checked here, the I/O happens elsewhere."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import httpx

DEFAULT_PORTS = {"http": 80, "https": 443}
MAX_PORT = 65_535
_FRAMING = frozenset((b"content-length", b"transfer-encoding"))
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = _TOKEN + rb": [\t\x20-\x7e\x80-\xff]*\r\n"
_HEAD = re.compile(_TOKEN + rb" [\x21-\x7e]+ HTTP/1\.1\r\n(?:" + _LINE + rb")*")
_HEADER = re.compile(_LINE)
_HEADERS = re.compile(b"(?:" + _LINE + b")*")


class OriginKey(NamedTuple):
    """What a connection can be reused for: the same scheme, host and port."""

    scheme: str
    host: str
    port: int


class PostTemplate:
    """POST requests to one URL whose heads differ in a few headers: what is the same is rendered and checked once.

    Raises:
        httpx.UnsupportedProtocol, httpx.LocalProtocolError: No request to it can be sent.
    """

    def __init__(self, url: httpx.URL, headers: Mapping[str, str]) -> None:
        self.key = origin_key(url)
        whole = render_request(httpx.Request("POST", url, headers=headers, content=b""), b"")
        self._head = whole.removesuffix(b"Content-Length: 0\r\n\r\n")

    def render(self, headers: Mapping[str, str], body: bytes) -> bytes:
        """Return a whole request.

        Raises:
            httpx.LocalProtocolError: A value has characters that would make it something else.
        """
        lines = b"".join([b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in headers.items()])
        if not _HEADERS.fullmatch(lines) or lines.count(b"\n") != len(headers):
            raise httpx.LocalProtocolError(f"characters in a value of {', '.join(headers)}")
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (self._head, lines, len(body), body)


def origin_key(url: httpx.URL) -> OriginKey:
    """Return the origin that a URL belongs to.

    Raises:
        httpx.UnsupportedProtocol: It is not a http or https URL with a host and a port that can be.
    """
    default = DEFAULT_PORTS.get(url.scheme)
    host = url.raw_host.decode("ascii")
    if default is None or not host:
        raise httpx.UnsupportedProtocol(f"not a http:// or https:// URL with a host: {url.scheme}://{host}")
    port = default if url.port is None else url.port
    if not 1 <= port <= MAX_PORT:  # the system would take the last 16 bits of it
        raise httpx.UnsupportedProtocol(f"no port can be {port}: {url.scheme}://{host}:{port}")
    return OriginKey(url.scheme, host, port)


def render_request(request: httpx.Request, body: bytes) -> bytes:
    """Return a request as bytes; the framing is ours, whatever the headers say.

    Raises:
        httpx.LocalProtocolError: A header or the target has characters that would make it something else.
    """
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)]
    hosts = 0
    for name, value in request.headers.raw:
        lower = name.lower()
        if lower not in _FRAMING:
            lines.append(b"%b: %b\r\n" % (name, value))
            hosts += lower == b"host"
    if body or request.method in {"POST", "PUT", "PATCH"}:
        lines.append(b"Content-Length: %d\r\n" % len(body))
    head = b"".join(lines)
    # The pattern allows any number of lines; their count shows that no value smuggled one in.
    if not _HEAD.fullmatch(head) or head.count(b"\n") != len(lines) or hosts > 1:
        # Names only: a value may be a secret.
        names = [line.partition(b":")[0] for line in lines[1:] if not _HEADER.fullmatch(line)]
        fault = f"characters in {names!r}" if names else "in the method or the target, or more than one Host"
        raise httpx.LocalProtocolError(f"the request has what must not be sent: {fault}")
    return b"%b\r\n%b" % (head, body)
