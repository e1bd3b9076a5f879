"""Natural batching, in virtual time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_alerts.batcher import Batcher
from trio_alerts.errors import Unavailable


class Backend:
    """Takes 10 virtual seconds a batch; the result of a word is the word in capitals; `bad…` is refused alone."""

    def __init__(self) -> None:
        self.batches: list[tuple[float, list[str]]] = []
        self.down = False
        self.short = False

    async def flush(self, words: Sequence[str]) -> Sequence[str | Exception]:
        self.batches.append((trio.current_time(), list(words)))
        await trio.sleep(10)
        if self.down:
            raise Unavailable("down")
        results = [ValueError(word) if word.startswith("bad") else word.upper() for word in words]
        return results[1:] if self.short else results


@asynccontextmanager
async def running(
    backend: Backend, runs: int = 1, max_items: int = 100, max_bytes: int = 1000, patience_s: float = 1000.0
) -> AsyncIterator[tuple[Batcher[str, str], trio.Nursery]]:
    batcher = Batcher[str, str](
        backend.flush, max_items=max_items, max_bytes=max_bytes, size_of=len, patience_s=patience_s
    )
    async with trio.open_nursery() as service:
        for _ in range(runs):
            service.start_soon(batcher.run)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as callers:
            yield batcher, callers
        service.cancel_scope.cancel()


async def test_what_gathers_during_a_flush_goes_out_together_after_it(autojump_clock: MockClock) -> None:
    """A lone item goes at once; those that come meanwhile form the next batch, in order, each with its own result."""
    backend = Backend()
    results: list[tuple[float, str]] = []

    async def caller(batcher: Batcher[str, str], word: str, at_s: float) -> None:
        await trio.sleep(at_s)
        results.append((at_s, await batcher.submit(word)))

    async with running(backend) as (batcher, callers):
        for at_s, word in enumerate("abcd"):
            callers.start_soon(caller, batcher, word, at_s)

    assert [(0, ["a"]), (10, ["b", "c", "d"])] == backend.batches
    assert [(0, "A"), (1, "B"), (2, "C"), (3, "D")] == sorted(results)


async def test_items_of_one_moment_share_a_batch(autojump_clock: MockClock) -> None:
    """What many tasks submit in one scheduler round goes into one batch, though nothing was under way."""
    backend = Backend()
    async with running(backend) as (batcher, callers):
        for word in "abcdefgh":
            callers.start_soon(batcher.submit, word)

    assert [8] == [len(words) for _, words in backend.batches]


@pytest.mark.parametrize(
    ("max_items", "max_bytes", "sizes"), [(3, 1000, [3, 3, 2]), (100, 6, [3, 3, 2]), (100, 1, [1] * 8)]
)
async def test_batches_are_bounded_in_items_and_bytes(
    max_items: int, max_bytes: int, sizes: list[int], autojump_clock: MockClock
) -> None:
    """No batch exceeds its bounds, but an item that is too large by itself goes alone."""
    backend = Backend()
    async with running(backend, max_items=max_items, max_bytes=max_bytes) as (batcher, callers):
        for letter in "abcdefgh":
            callers.start_soon(batcher.submit, letter * 2)

    assert sizes == [len(words) for _, words in backend.batches]


async def test_a_bad_item_fails_alone(autojump_clock: MockClock) -> None:
    """An exception in place of a result is raised for that item, and its neighbours get their results."""
    backend = Backend()
    seen: list[str] = []

    async def caller(batcher: Batcher[str, str], word: str) -> None:
        try:
            seen.append(await batcher.submit(word))
        except ValueError as refused:
            seen.append(f"refused {refused}")

    async with running(backend) as (batcher, callers):
        for word in ("a", "bad1", "b", "bad2"):
            callers.start_soon(caller, batcher, word)

    assert ["A", "B", "refused bad1", "refused bad2"] == sorted(seen)
    assert 1 == len(backend.batches)


async def test_a_failed_flush_fails_its_own_batch_only(autojump_clock: MockClock) -> None:
    """Everybody in a batch whose flush raised gets that exception, without others' tracebacks; the next one works."""
    backend = Backend()
    backend.down = True
    depths: list[int] = []

    async def caller(batcher: Batcher[str, str]) -> None:
        with pytest.raises(Unavailable, match="down") as caught:
            await batcher.submit("a")
        depths.append(len(caught.traceback))

    async with running(backend) as (batcher, callers):
        for _ in range(5):
            callers.start_soon(caller, batcher)
        await trio.sleep(15)
        backend.down = False
        assert "B" == await batcher.submit("b")

    assert 5 == len(depths)
    assert 1 == len(set(depths))


async def test_a_flush_that_miscounts_is_a_bug_for_everybody_in_it(autojump_clock: MockClock) -> None:
    """A wrong number of results is never guessed into place."""
    backend = Backend()
    backend.short = True
    async with running(backend) as (batcher, _):
        with pytest.raises(ValueError, match="shorter"):
            await batcher.submit("a")


async def test_a_cancelled_waiter_withdraws_what_was_not_taken(autojump_clock: MockClock) -> None:
    """Cancelled while its item still gathers, the item is never sent; the others of that batch are."""
    backend = Backend()
    async with running(backend) as (batcher, callers):
        callers.start_soon(batcher.submit, "first")
        await trio.sleep(1)
        callers.start_soon(batcher.submit, "kept")
        with trio.move_on_after(3) as patience:
            await batcher.submit("withdrawn")

    assert patience.cancelled_caught
    assert [(0, ["first"]), (10, ["kept"])] == backend.batches


async def test_a_cancelled_waiter_does_not_stop_what_is_under_way(autojump_clock: MockClock) -> None:
    """Cancelled while its batch is sent, the item is sent all the same, and its neighbour gets the right result."""
    backend = Backend()
    results: list[str] = []
    patience = trio.CancelScope(relative_deadline=3)

    async def neighbour(batcher: Batcher[str, str]) -> None:
        results.append(await batcher.submit("neighbour"))

    async def impatient(batcher: Batcher[str, str]) -> None:
        with patience:
            results.append(await batcher.submit("under way"))

    async with running(backend) as (batcher, callers):
        callers.start_soon(neighbour, batcher)
        callers.start_soon(impatient, batcher)

    assert patience.cancelled_caught
    assert [["neighbour", "under way"]] == [sorted(words) for _, words in backend.batches]
    assert ["NEIGHBOUR"] == results


async def test_a_held_write_is_not_given_up_by_a_cancellation(autojump_clock: MockClock) -> None:
    """Cancelled while it gathers and while it is sent, a held item is sent all the same, and its result comes back."""
    backend = Backend()
    results: list[tuple[float, str]] = []

    async def cancelled_at_once(batcher: Batcher[str, str], word: str) -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            results.append((trio.current_time(), await batcher.submit(word, held=True)))

    async with running(backend) as (batcher, callers):
        callers.start_soon(cancelled_at_once, batcher, "under way")
        await trio.sleep(1)
        callers.start_soon(cancelled_at_once, batcher, "gathered")

    assert [(0, ["under way"]), (10, ["gathered"])] == backend.batches
    assert [(0, "UNDER WAY"), (1, "GATHERED")] == results


async def test_who_waits_behind_an_unanswered_batch_is_told_with_it(autojump_clock: MockClock) -> None:
    """A batch that the backend does not answer fails those that gather too, at once; those who come later are sent."""
    backend = Backend()
    backend.down = True
    told: list[tuple[str, float]] = []

    async def caller(batcher: Batcher[str, str], word: str) -> None:
        with pytest.raises(Unavailable, match="down"):
            await batcher.submit(word)
        told.append((word, trio.current_time()))

    async with running(backend, max_items=1) as (batcher, callers):
        for word in ("under way", "behind", "behind too"):
            callers.start_soon(caller, batcher, word)
            await trio.sleep(1)
        await trio.sleep(10)
        backend.down = False
        assert "LATER" == await batcher.submit("later")

    assert [("behind", 10), ("behind too", 10), ("under way", 10)] == sorted(told)
    assert [(0, ["under way"]), (13, ["later"])] == backend.batches


async def test_who_waits_for_too_long_is_told(autojump_clock: MockClock) -> None:
    """A backend that answers, but slowly, keeps nobody for longer than the patience and the batch under way."""
    backend = Backend()
    told: dict[str, float] = {}

    async def caller(batcher: Batcher[str, str], word: str) -> None:
        with pytest.raises(Unavailable, match="within 15 s"):
            await batcher.submit(word, held=True)
        told[word] = trio.current_time()

    async with running(backend, max_items=1, patience_s=15.0) as (batcher, callers):
        for word in "ab":
            callers.start_soon(batcher.submit, word)
            await trio.sleep(1)
        for word in "cd":
            callers.start_soon(caller, batcher, word)
        await trio.sleep(23)  # by then both are late, and nothing is left to send
        callers.start_soon(batcher.submit, "e")

    assert [(0, ["a"]), (10, ["b"]), (25, ["e"])] == backend.batches
    assert {"c": 20, "d": 20} == told


async def test_two_runs_have_two_batches_under_way(autojump_clock: MockClock) -> None:
    """With two tasks, what comes during the first flush is sent at once by the second; the third waits."""
    backend = Backend()
    async with running(backend, runs=2) as (batcher, callers):
        for word in "abc":
            callers.start_soon(batcher.submit, word)
            await trio.sleep(1)

    assert [(0, ["a"]), (1, ["b"]), (10, ["c"])] == backend.batches


async def test_nobody_hangs_when_it_stops(autojump_clock: MockClock) -> None:
    """When the last run ends, who gathers, who is under way and who comes later all get `Unavailable`."""
    backend = Backend()
    batcher = Batcher[str, str](backend.flush, max_items=1, max_bytes=1000, size_of=len, patience_s=1000.0)
    stopped: list[str] = []

    async def caller(word: str) -> None:
        with pytest.raises(Unavailable):
            await batcher.submit(word)
        stopped.append(word)

    async with trio.open_nursery() as callers:
        async with trio.open_nursery() as service:
            service.start_soon(batcher.run)
            callers.start_soon(caller, "a")
            callers.start_soon(caller, "b")
            await wait_all_tasks_blocked()
            assert "<Batcher: 1/1 sending, 1 gathered>" == repr(batcher)
            service.cancel_scope.cancel()
        await caller("late")

    assert {"a", "b", "late"} == set(stopped)
    assert "<Batcher: closed, 0 gathered>" == repr(batcher)


async def test_a_submit_always_yields(autojump_clock: MockClock) -> None:
    """A cancelled task cannot submit: the call is a checkpoint, and its item is withdrawn."""
    backend = Backend()
    async with running(backend) as (batcher, _):
        with trio.CancelScope() as scope:
            scope.cancel()
            await batcher.submit("a")

    assert scope.cancelled_caught
    assert [] == backend.batches
