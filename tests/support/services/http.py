"""Requests as a service reads them, and its answers as bytes."""

from collections.abc import Mapping
from typing import Any

import msgspec


def split(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """Return the path, the headers by their names in lower case, and the body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    return first.split(" ")[1], {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, body


def text(status: int, said: str, **headers: str) -> bytes:
    """An answer of plain text."""
    return _answer(status, "text/html", said.encode(), headers)


def json(status: int, said: Mapping[str, Any], **headers: str) -> bytes:
    """An answer of JSON."""
    return _answer(status, "application/json; charset=utf-8", msgspec.json.encode(said), headers)


def _answer(status: int, content_type: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    fields = {"content-type": content_type, "content-length": len(body)}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} X\r\n{lines}\r\n".encode() + body
