"""`adopt` shows whose both are, asks, and changes nothing unless that is meant."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from tests.contracts.store import NOW, record, retrying
from tests.support.calling import Called, call
from tests.support.fakes.store import FakeStore
from tests.support.fakes.stream import FakeStream
from tests.support.fakes.stream_server import FakeServer
from tests.support.fakes.world import GROUP, STREAM
from trio_alerts import store
from trio_alerts.backends.redis.standing import Consumer, Standing
from trio_alerts.commands import adopt
from trio_alerts.settings.settings import Settings

KEY = (STREAM, GROUP)


class Desk:
    """The backends that the command gets."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.store = FakeStore()
        self.store.owner = "theirs"
        self.store.put(record(1, retrying(NOW)))

    @asynccontextmanager
    async def open_store(self, _: Settings) -> AsyncIterator[FakeStore]:
        await trio.lowlevel.checkpoint()
        yield self.store

    @asynccontextmanager
    async def open_stream(self, settings: Settings) -> AsyncIterator[FakeStream]:
        await trio.lowlevel.checkpoint()
        yield FakeStream(self.server, settings)

    @asynccontextmanager
    async def open_ledger(self, settings: Settings) -> AsyncIterator["Ledger"]:
        await trio.lowlevel.checkpoint()
        yield Ledger(self.server, settings)


class Ledger(FakeStream):
    """What Redis knows."""

    async def time(self) -> float:
        return await self.server_time()

    async def standing(self, stream: str) -> Standing:
        await trio.lowlevel.checkpoint()
        consumers = (Consumer("pod-1", 2, 1.5), Consumer("pod-0", 0, 3600.0))
        return Standing(stream, 10, 3, 2, consumers, 0, 0, 0, 0, None)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    desk = Desk()
    monkeypatch.setattr(store, "open_store", desk.open_store)
    monkeypatch.setattr(adopt, "open_ledger", desk.open_ledger)
    monkeypatch.setattr(adopt, "open_redis_stream", desk.open_stream)
    return desk


def adopted(answer: str = "", *, terminal: bool = True, options: tuple[str, ...] = ()) -> Called:
    return call("adopt", *options, stdin=answer.encode(), terminal=terminal)


def test_what_is_there_is_shown_and_asked_about(desk: Desk) -> None:
    """Whose both are, what is under way, who is alive; after "y" both have a new identity."""
    desk.server.owners[KEY] = "ours"

    called = adopted("y\n")

    assert 0 == called.exit_code, called.err
    for part in (
        "belongs to deployment theirs\n",
        "records: retrying 1\n",
        "belongs to deployment ours\n",
        f"stream {STREAM}: 10 entries, 3 not read yet, 2 pending\n",
        "consumer pod-1: last seen 1.5 s ago, will stop\n",
        "`run` then sends the alerts that are sending, retrying or waiting (1)",
    ):
        assert part in called.out
    assert "pod-0" not in called.out
    assert desk.store.owner == desk.server.owners[KEY]
    assert desk.store.owner not in ("theirs", "ours")
    assert f"Both belong to deployment {desk.store.owner} now.\n" in called.out


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "yesterday\n"])
def test_anything_but_yes_changes_nothing(desk: Desk, answer: str) -> None:
    """The end of the input as well: exit code 1."""
    called = adopted(answer)

    assert (1, "theirs", {}) == (called.exit_code, desk.store.owner, desk.server.owners)
    assert called.out.endswith("Nothing was changed.\n")


def test_a_script_must_say_that_it_is_meant(desk: Desk) -> None:
    """Where nobody can be asked, `--yes` decides; without it nothing is guessed from what is piped in."""
    called = adopted("y\n", terminal=False)
    assert (2, "theirs", {}) == (called.exit_code, desk.store.owner, desk.server.owners)
    assert "add --yes" in called.err

    assert 0 == adopted(terminal=False, options=("--yes",)).exit_code
    assert desk.store.owner == desk.server.owners[KEY] != "theirs"


def test_for_programs_it_is_one_object(desk: Desk) -> None:
    """Nobody is asked then, so `--yes` must say that it is meant."""
    assert 2 == adopted("y\n", options=("--json",)).exit_code
    assert "theirs" == desk.store.owner

    called = adopted(options=("--json", "--yes"))
    assert {"adopted": True, "deployment": desk.store.owner} == msgspec.json.decode(called.out)
    again = adopted(options=("--json", "--yes"))
    assert {"adopted": False, "deployment": None} == msgspec.json.decode(again.out)


@pytest.mark.parametrize(("theirs", "ours"), [(None, None), (None, "ours"), ("ours", "ours")])
def test_there_may_be_nothing_to_adopt(desk: Desk, theirs: str | None, ours: str | None) -> None:
    """What belongs together, or to nobody yet, is left as it is, also with `--yes`."""
    desk.store.owner = theirs
    if ours:
        desk.server.owners[KEY] = ours

    called = adopted(options=("--yes",))

    assert 0 == called.exit_code
    assert "nothing to adopt" in called.out
    assert (theirs, ours) == (desk.store.owner, desk.server.owners.get(KEY))


def test_cut_off_in_the_middle_both_still_differ(desk: Desk) -> None:
    """Redis first: a store that cannot be written then belongs to others still, and nobody starts."""
    desk.store.fail_next("replace_deployment", "down")

    called = adopted(options=("--yes",))

    assert 4 == called.exit_code
    assert "theirs" == desk.store.owner
    assert desk.server.owners[KEY] != "theirs"


def test_a_backend_that_is_away_is_named(desk: Desk) -> None:
    """Nothing can be shown, so nothing is asked: exit code 4."""
    desk.store.fail_next("deployment", "down")

    called = adopted("y\n")
    assert (4, "theirs", {}) == (called.exit_code, desk.store.owner, desk.server.owners)
    assert "the store is down" in called.err
