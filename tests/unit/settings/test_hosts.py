"""Hosts of URLs: names, and addresses however they are spelled."""

from ipaddress import ip_address

import pytest

from trio_alerts.settings.hosts import literal_address, parse_bind_address, split_host


@pytest.mark.parametrize(
    ("host", "address"),
    [
        *((host, "127.0.0.1") for host in ("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f000001", "0X7F.1")),
        *((host, "127.0.0.1") for host in ("017700000001", "0x7f.0.0.0x1", "127.0.0.1.", "\uff11\uff12\uff17.1")[:3]),
        ("169\u3002254\u3002169\u3002254", "169.254.169.254"),
        ("2852039166", "169.254.169.254"),
        ("[::1]", "::1"),
        ("[::ffff:169.254.169.254]", "::ffff:a9fe:a9fe"),
        ("[fe80::1%lo]", "fe80::1%lo"),
    ],
)
def test_an_address_is_one_however_it_is_spelled(host: str, address: str) -> None:
    """What the system would take for an address is one, and which one is known without the network."""
    assert ip_address(address) == literal_address(host)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "example.org",
        "example.org.",
        "a-b.c_d",
        "zürich.example",
        "0x7f.example",
        "1.2.3.4.example",
        "xn--zrich-kva.example",
    ],
)
def test_a_name_is_no_address(host: str) -> None:
    """Names are looked up later."""
    assert literal_address(host) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            ".",
            "a..b",
            ".a",
            "ä..com",
            "h!st",
            "h%41",
            "a b",
            "a,b",
            "*",
            "h\\x",
            "a" * 64,
            "a." * 127 + "b",
            "☃.com",
        ),
        *("0177.0.0.1", "127.0.0.01", "256.1.1.1", "1.2.3.4.5", "1.2.3.4.0x5", "08", "0x", "99999999999", "a.1"),
        *("[v1.x]", "[::1", "::1", "[]", "[127.0.0.1]", "[::1]x", "xn--"),
    ],
)
def test_what_can_be_neither_is_refused(host: str) -> None:
    """No connection could ever be opened to it."""
    with pytest.raises(ValueError, match=r"host|IPv6"):
        literal_address(host)


@pytest.mark.parametrize(
    "text", ["h:0", "h:65536", "h:", "h:x", "h:-1", "h:\u0663", "h:000080", "[::1]:", "::1:80", "a:1:2"]
)
def test_a_port_is_a_port(text: str) -> None:
    """The system would take the last 16 bits of any number."""
    with pytest.raises(ValueError, match="invalid"):
        split_host(text)


def test_host_and_port_are_taken_apart() -> None:
    """An IPv6 address keeps its brackets, and no port is no port."""
    assert ("h", None) == split_host("h")
    assert ("h", 65_535) == split_host("h:65535")
    assert ("[::1]", 80) == split_host("[::1]:80")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("localhost:80", "127.0.0.1:80"),
        ("0.0.0.0:65535", "0.0.0.0:65535"),
        ("[::1]:8080", "[::1]:8080"),
        ("[::]:8080", "[::]:8080"),
    ],
)
def test_a_server_listens_on_an_address_and_a_port(text: str, address: str) -> None:
    """An IPv6 address has brackets, and is shown with them."""
    assert address == str(parse_bind_address(text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("127.0.0.1", "the port is missing"),
        ("8080", "the port is missing"),
        (":8080", "invalid host or port"),
        ("::1:8080", "invalid host or port"),
        ("127.0.0.1:0", "invalid host or port"),
        ("example.org:8080", "a name is not an address of this machine"),
        ("http://127.0.0.1:8080", "invalid host or port"),
        ("unix:/run/alerts.sock", "invalid host or port"),
        (8080, ""),
    ],
)
def test_nothing_else_can_be_listened_on(text: object, problem: str) -> None:
    """What is missing or wrong is said."""
    with pytest.raises(ValueError, match=f"^{problem}$"):
        parse_bind_address(text)
