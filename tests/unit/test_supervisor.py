"""The parent of several processes, on children that only say that they run: exact virtual seconds."""

import contextlib
import os
import signal
from dataclasses import dataclass, replace
from functools import partial
from random import Random

import pytest
import trio
from trio.testing import MockClock

from trio_alerts.meter.cells import SharedCells
from trio_alerts.meter.layout import Layout
from trio_alerts.settings.settings import Settings
from trio_alerts.shared_settings import Shared, SharedSettings, inherited_settings
from trio_alerts.stop_signals import CHILD
from trio_alerts.supervisor import AT_ONCE_S, FIRST_WAIT_S, SLACK_S, Family

GRACE_S = 10.0
WRITES_S = 20.0
TICK_S = 0.125
FOR_EVER_S = 1e6


@dataclass(frozen=True)
class Life:
    """How long a child lives of its own, its exit code then; does it do as told, how often is it stopped."""

    lasts_s: float = FOR_EVER_S
    code: int = 0
    obeys: bool = True
    stops: int = 0


class Child:
    """A process that is none."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._ends_at_s = trio.current_time() + life.lasts_s
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        self.stdin = trio.lowlevel.FdStream(writing)
        self.returncode: int | None = None
        self.words = self.reloads = 0
        self.killed = False
        self._stops = life.stops

    async def wait(self) -> int:
        while self.returncode is None:
            await trio.sleep(TICK_S)
            self._listen()
            if self.killed:
                self.returncode = -signal.SIGKILL
            elif self._life.obeys and self.words and self._stops <= 0:
                self.returncode = self.words - 1
            elif trio.current_time() >= self._ends_at_s:
                self.returncode = self._life.code
        return self.returncode

    def kill(self) -> None:
        self.killed = True

    def send_signal(self, number: signal.Signals) -> None:
        assert number == signal.SIGCONT
        self._stops -= 1

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            said = os.read(self._reading, 10)
            self.words += said.count(b".")
            self.reloads += said.count(b"r")


class Machine:
    """What can be started here: each child's lives, one after the other; then it lives on."""

    def __init__(self, *lives: list[Life | OSError]) -> None:
        self._lives = {number: list(one) for number, one in enumerate(lives, 1)}
        self.children: dict[int, list[Child]] = {number: [] for number in self._lives}
        self.started_at_s: list[float] = []
        self.heard: list[str] = []
        self.starting_s = 0.0
        self.inherited: list[str] = []

    async def open_process(self, _: object, *, env: dict[str, str], **options: object) -> Child:
        await trio.sleep(self.starting_s)
        number = int(env[CHILD])
        self.started_at_s.append(round(trio.current_time(), 3))
        shared = inherited_settings(env)
        assert shared is not None
        self.inherited.append(shared.settings.group)
        life = self._lives[number].pop(0) if self._lives[number] else Life()
        if isinstance(life, OSError):
            raise life
        self.children[number].append(Child(life))
        return self.children[number][-1]

    def family(self) -> Family:
        layout, many = Layout(["pager"]), len(self.children)
        cells, settings = SharedCells.for_children(layout, many), SharedSettings(Shared(Settings(), layout))
        reload, stop = (partial(self.heard.append, word) for word in ("reload", "stop"))
        return Family(["run"], many, GRACE_S, WRITES_S, cells, settings, reload, stop)

    def reloads(self) -> list[list[int]]:
        return [[child.reloads for child in children] for children in self.children.values()]

    def words(self) -> list[list[int]]:
        return [[child.words for child in children] for children in self.children.values()]


async def run(machine: Machine, monkeypatch: pytest.MonkeyPatch, *signals_at_s: float) -> tuple[int, float]:
    """Supervise until it ends; return the exit code, and how long after the first signal that was."""
    monkeypatch.setattr(trio.lowlevel, "open_process", machine.open_process)
    monkeypatch.setattr(Random, "uniform", lambda *_: 1.0)
    code, family = -1, machine.family()

    async def whole() -> None:
        nonlocal code
        code = await family.supervise()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(whole)
        for at_s in signals_at_s:
            await trio.sleep_until(at_s)
            assert code == -1, f"ended before the signal, with {code}"
            signal.raise_signal(signal.SIGTERM)
    return code, round(trio.current_time() - (signals_at_s[0] if signals_at_s else 0), 3)


async def test_one_signal_is_one_word_for_each_child(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the group is sent it, a child hears of it once; exit code 0."""
    machine = Machine([], [])
    assert (0, TICK_S) == await run(machine, monkeypatch, 5.0)
    assert [[1], [1]] == machine.words()


async def test_a_second_signal_is_a_second_word(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now: exit code 1, and what is deaf is killed soon; a third signal says nothing more."""
    machine = Machine([Life(obeys=False)], [Life(obeys=False)])
    code, after_s = await run(machine, monkeypatch, 5.0, 6.0, 7.0)
    assert (1, [[2], [2]]) == (code, machine.words())
    assert 1.0 + AT_ONCE_S <= after_s <= 1.0 + AT_ONCE_S + TICK_S


@pytest.mark.parametrize(("stops", "after_s"), [(1, 0.0), (2, GRACE_S + SLACK_S)])
async def test_a_child_that_is_stopped_does_not_hold_up_the_parent(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, lines: list[str], stops: int, after_s: float
) -> None:
    """SIGSTOP, before it is told or after it: it is let go on, and ends well."""
    machine = Machine([Life(stops=stops)], [])
    code, took_s = await run(machine, monkeypatch, 5.0)
    assert 0 == code
    assert after_s <= took_s <= after_s + TICK_S
    assert [] == lines


async def test_what_does_not_end_is_killed(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """After the grace time, and the time for the last writes. The others ended well: exit code 0."""
    machine = Machine([Life(obeys=False)], [])
    code, took_s = await run(machine, monkeypatch, 5.0)
    assert 0 == code
    assert GRACE_S + SLACK_S + WRITES_S <= took_s <= GRACE_S + SLACK_S + WRITES_S + TICK_S
    assert [True, False] == [machine.children[number][0].killed for number in (1, 2)]
    assert ["WARNING worker process 1 did not end in time: killed; others take over what it had"] == lines


async def test_what_cannot_start_stops_the_whole(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that is away at the first start is exit code 4; the sibling stops softly."""
    machine = Machine([Life(1.0, 4)], [])
    assert (4, [[0], [1]]) == ((await run(machine, monkeypatch))[0], machine.words())


async def test_a_backend_that_is_away_at_a_restart_is_waited_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """The child is started again with growing pauses; its sibling never hears of it."""
    machine = Machine([Life(100.0, -9), Life(0.5, 4), Life(0.5, 4)], [])
    assert (0, TICK_S) == await run(machine, monkeypatch, 500.0)
    assert [[0, 0, 0, 1], [1]] == machine.words()
    assert ["SIGKILL", "exit code 4", "exit code 4"] == [
        line.partition("ended with ")[2].partition(";")[0] for line in lines
    ]


@pytest.mark.parametrize("code", [2, 3, 5])
async def test_other_fatal_ends_stay_fatal(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Settings, schema and ledger: waiting mends nothing."""
    machine = Machine([Life(100.0, 1), Life(0.5, code)], [])
    assert (code, [[0, 0], [1]]) == ((await run(machine, monkeypatch))[0], machine.words())


async def test_a_failed_spawn_is_tried_again(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """No process can be had for a while: the siblings go on, and the child comes later."""
    machine = Machine([OSError(11, "Resource temporarily unavailable")] * 2, [])
    assert (0, TICK_S) == await run(machine, monkeypatch, 50.0)
    assert [[1], [1]] == machine.words()
    assert [0.0, 0.0, FIRST_WAIT_S, 3 * FIRST_WAIT_S] == machine.started_at_s
    assert 2 == sum("cannot be started: [Errno 11]" in line for line in lines)


async def test_a_child_that_a_signal_of_the_group_met_before_its_first_line(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had nothing: a clean stop all the same. One that crashes while stopping is not."""
    for code, expected in ((-signal.SIGTERM, 0), (-signal.SIGSEGV, 1)):
        start_s = trio.current_time()
        machine = Machine([Life(5.0 + TICK_S, code, obeys=False)], [])
        assert expected == (await run(machine, monkeypatch, start_s + 5.0))[0]


@pytest.mark.usefixtures("hang_up_means_something")
async def test_a_hangup_asks_for_a_reload_and_stops_nobody(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the parent that reads; no child hears a word of it before it has. While it stops, nothing is read."""
    machine = Machine([Life(20.0, obeys=False)], [])
    family = machine.family()
    monkeypatch.setattr(trio.lowlevel, "open_process", machine.open_process)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(family.supervise)
        await trio.sleep(5.0)
        signal.raise_signal(signal.SIGHUP)
        await trio.sleep(5.0)
        assert ([[0], [0]], ["reload"]) == (machine.words(), machine.heard)
        signal.raise_signal(signal.SIGTERM)
        await trio.sleep(5.0)
        signal.raise_signal(signal.SIGHUP)
    assert ([[1], [1]], ["reload", "stop"]) == (machine.words(), machine.heard)


async def test_all_children_have_the_same_settings_whenever_they_are_started(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that run are told to take them up, also who is just being started; a later one begins with them."""
    machine = Machine([], [Life(10.0, 1)])
    machine.starting_s = 2.0
    family, layout = machine.family(), Layout(["pager"])
    monkeypatch.setattr(trio.lowlevel, "open_process", machine.open_process)
    monkeypatch.setattr(Random, "uniform", lambda *_: 1.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(family.supervise)
        await trio.sleep(1.0)
        family.reconfigure(Shared(replace(Settings(), group="second"), layout))
        await trio.sleep(4.0)
        assert [[1], [1]] == machine.reloads()
        await trio.sleep(10.0)
        family.reconfigure(Shared(replace(Settings(), group="third"), layout))
        await trio.sleep(1.0)
        signal.raise_signal(signal.SIGTERM)
    assert ["second", "second", "second"] == machine.inherited
    assert [[2], [1, 1]] == machine.reloads()
