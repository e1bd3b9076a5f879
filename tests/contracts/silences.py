"""What silences must do wherever they are kept: one suite for the fake and for real servers.

A test module makes a class of it, and says what a world is.
"""

import datetime as dt
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest
from msgspec.structs import replace

from trio_alerts.ports.silences import Silence, SilenceList, Silences

SINCE = dt.datetime(2026, 11, 23, 12, 0, tzinfo=dt.UTC)


def silence(silence_id: str = "1a2b3c4d", *matchers: str, hours: float = 2.0, why: str = "maintenance") -> Silence:
    until = SINCE + dt.timedelta(hours=hours)
    return Silence(id=silence_id, matchers=matchers or ("view = Lending",), since=SINCE, until=until, why=why, by="ann")


class SilencesWorld(Protocol):
    """A server without silences."""

    def open(self, *, turned: bool = False) -> AbstractAsyncContextManager[Silences]:
        """Open the silences of two streams; `turned`: named in the other order."""

    def lose(self) -> None:
        """Lose all silences, as a server without persistence does when it starts again."""


class SilencesContract:
    """The suite; `world` comes from the subclass."""

    @pytest.fixture
    async def world(self) -> SilencesWorld:
        raise NotImplementedError

    async def test_at_first_there_is_none(self, world: SilencesWorld) -> None:
        """The version is empty; asked again with it, nothing has changed."""
        async with world.open() as silences:
            assert SilenceList("", ()) == await silences.latest()
            assert await silences.latest("") is None

    async def test_what_one_adds_another_sees_at_its_next_look(self, world: SilencesWorld) -> None:
        """Whatever the order of the streams; the version tells whether there is something new."""
        first = silence(why="Ölpreis ☕ \n\x1b[31m")
        async with world.open() as ours, world.open(turned=True) as theirs:
            assert await ours.add(first)
            found = await theirs.latest("")
            assert found is not None
            assert (first,) == found.silences
            assert await theirs.latest(found.version) is None

            assert await ours.add(silence("2b"))
            again = await theirs.latest(found.version)
            assert again is not None
            assert {"1a2b3c4d", "2b"} == {one.id for one in again.silences}

    async def test_an_id_is_given_once(self, world: SilencesWorld) -> None:
        """The second of one ID is not added, and the version stays."""
        async with world.open() as silences:
            await silences.add(silence())
            before = await silences.latest()
            assert not await silences.add(silence(why="another"), ["1a2b3c4d"])
            assert before == await silences.latest()

    async def test_only_what_is_there_is_replaced(self, world: SilencesWorld) -> None:
        """One that vanished does not come back by being ended."""
        ended = replace(silence(), ended_by="bob")
        async with world.open() as silences:
            assert not await silences.replace(ended)
            assert SilenceList("", ()) == await silences.latest()
            await silences.add(silence())
            before = await silences.latest()
            assert await silences.replace(ended)
            after = await silences.latest()
        assert before is not None
        assert after is not None
        assert before.version != after.version
        assert (ended,) == after.silences

    async def test_old_ones_are_forgotten_in_the_same_step(self, world: SilencesWorld) -> None:
        """Those that are named, if they are there, and no others."""
        async with world.open() as silences:
            for one in ("1a", "2b", "3c"):
                await silences.add(silence(one))
            await silences.add(silence("4d"), ["1a", "3c", "never"])
            found = await silences.latest()
        assert found is not None
        assert {"2b", "4d"} == {one.id for one in found.silences}

    async def test_losing_them_is_a_change(self, world: SilencesWorld) -> None:
        """Nothing is silenced any more; and what is set anew has a version that was never there before."""
        async with world.open() as silences:
            await silences.add(silence())
            before = await silences.latest()
            assert before is not None
            world.lose()
            assert SilenceList("", ()) == await silences.latest(before.version)
            await silences.add(silence("2b"))
            after = await silences.latest(before.version)
        assert after is not None
        assert ("2b",) == tuple(one.id for one in after.silences)

    async def test_the_time_is_the_servers(self, world: SilencesWorld) -> None:
        """In UTC, and it goes on."""
        async with world.open() as silences:
            first = await silences.now()
            assert dt.timedelta() == first.utcoffset()
            assert first <= await silences.now()
