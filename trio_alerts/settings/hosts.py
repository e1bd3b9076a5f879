"""Hosts of URLs: what is a valid one, and which IP address it is if it is not a name. And addresses to listen on."""

import re
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import idna

_HOST_AND_PORT = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]+)(?::([0-9]{1,5}))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_LONGEST_NAME = 253  # DNS has room for no more
_LARGEST_PORT = 65_535


@dataclass(frozen=True)
class BindAddress:
    """Where a server listens: an address of this machine, `0.0.0.0` and `::` for all of them, and a port."""

    ip: IPv4Address | IPv6Address
    port: int

    def __repr__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.ip.version == 6 else f"{self.ip}:{self.port}"  # noqa: PLR2004


def parse_bind_address(value: object) -> BindAddress:
    """Parse an address to listen on; raises ValueError, which says what is wrong."""
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - every check says "not allowed" in the same way
    host, port = split_host(value)
    if port is None:
        raise ValueError("the port is missing")
    ip = IPv4Address("127.0.0.1") if host == "localhost" else literal_address(host)
    if ip is None:
        raise ValueError("a name is not an address of this machine")
    return BindAddress(ip, port)


def split_host(text: str) -> tuple[str, int | None]:
    """Split `host` or `host:port`; an IPv6 address has brackets, and keeps them.

    Raises:
        ValueError: No connection could ever be opened to it.
    """
    match = _HOST_AND_PORT.fullmatch(text)
    port = int(match[2]) if match and match[2] else None
    if match is None or (port is not None and not 1 <= port <= _LARGEST_PORT):
        raise ValueError("invalid host or port")
    literal_address(match[1])
    return match[1], port


def literal_address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a host is, however it is spelled (`127.1`, `0x7f000001`); None for a name.

    Raises:
        ValueError: It is neither an address nor a name that can exist.
    """
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1] if host.endswith("]") else "")
        except ValueError:
            raise ValueError("invalid IPv6 address") from None
    try:
        name = host if host.isascii() else idna.encode(host.lower()).decode()
        if name.lower().startswith("xn--"):
            idna.decode(name)  # as httpx does with such a name
    except UnicodeError:
        raise ValueError("invalid host name") from None
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ValueError("invalid host name")
    name = name.removesuffix(".")
    if not _NUMBER.fullmatch(name.rpartition(".")[2]):
        return None
    try:
        # With four decimal numbers a leading zero means "octal" to some and nothing to others: refused.
        decimal = re.fullmatch(r"[0-9]+(\.[0-9]+){3}", name)
        return IPv4Address(name if decimal else socket.inet_aton(name))
    except (ValueError, OSError):
        raise ValueError("the host ends in a number but is not an IPv4 address") from None
