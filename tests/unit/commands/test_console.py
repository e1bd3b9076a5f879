"""`console`: what it refuses before it serves anything."""

from typing import Any

import pytest

from tests.support.calling import call

NOWHERE: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1/0", "store_url": "sqlite:////no/such/folder/alerts.db"}
PROXY: dict[str, Any] = {"console_user_header": "X-User", "console_networks": "10.0.0.0/8"}
REACHED_THE_STORE = 4


@pytest.mark.parametrize("bind", ["0.0.0.0:8081", "[::]:8081", "10.0.0.1:8081", "128.0.0.1:1"])
def test_nobody_is_let_in_unknown(bind: str) -> None:
    """Without a token or a proxy's word, it serves this machine alone: anything else is exit 2, and says what to do."""
    called = call("console", "--bind", bind, **NOWHERE)

    assert 2 == called.exit_code
    assert "console_token" in called.err
    assert bind in called.err


@pytest.mark.parametrize("settings", [{"console_token": "correct-horse-battery"}, PROXY])
def test_who_knows_its_visitors_may_serve_everybody(settings: dict[str, Any]) -> None:
    """With a token, or with a trusted header, it goes on to the store."""
    assert REACHED_THE_STORE == call("console", "--bind", "0.0.0.0:8081", **NOWHERE, **settings).exit_code


@pytest.mark.parametrize("bind", ["127.0.0.1:8081", "127.9.9.9:8081", "[::1]:8081", "localhost:8081"])
def test_this_machine_needs_no_token(bind: str) -> None:
    """Loopback is enough."""
    assert REACHED_THE_STORE == call("console", "--bind", bind, **NOWHERE).exit_code


@pytest.mark.parametrize(
    "bind", ["8081", "127.0.0.1", "127.0.0.1:99999", "::1", "http://127.0.0.1:8081", "alerts.example.org:80", ""]
)
def test_an_address_that_is_none(bind: str) -> None:
    """It says how one is written, also where a token is set."""
    called = call("console", "--bind", bind, **NOWHERE, console_token="correct-horse-battery")

    assert (2, True) == (called.exit_code, "127.0.0.1:8081" in called.err), called


@pytest.mark.parametrize("alone", PROXY)
def test_a_header_and_its_networks_belong_together(alone: str) -> None:
    """A header that anybody may send proves nothing, and networks without one do nothing."""
    called = call("console", **NOWHERE, **{alone: PROXY[alone]})

    assert (2, True) == (called.exit_code, alone in called.err), called
