"""`dead`: which options belong to which action."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from tests.support.calling import call
from trio_alerts.settings.settings import Settings


@pytest.mark.parametrize(
    "argv",
    [
        "",
        "look",
        "list 1-0",
        "list --all",
        "list --limit 0",
        "show",
        "show 1-0 2-0",
        "show nonsense",
        "replay",
        "replay 1-0 --all",
        "replay --all --reason x",
        "replay 1-0 --yes",
        "drop",
        "drop --all --reason bad_event --yes",
        "drop 1-0 --as-new",
    ],
)
def test_dead_refuses_what_makes_no_sense(argv: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 before anything is done: an option that is overlooked could drop what was not meant."""

    @asynccontextmanager
    async def open_dead_letters(_: Settings) -> AsyncIterator[object]:
        await trio.lowlevel.checkpoint()
        yield object()

    monkeypatch.setattr("trio_alerts.commands.dead.open_dead_letters", open_dead_letters)
    called = call("dead", *argv.split())
    assert (2, "") == (called.exit_code, called.out)
