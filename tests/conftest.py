"""Fixtures for all tests."""

import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio
from loguru import logger
from trio.abc import Clock

from tests.support.servers import ReceiverServer
from tests.support.spreading import Spreading


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Spreading:
    """Spread the tests over the processes of `-n` by the servers that they share."""
    return Spreading(config, log)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let a test run in the virtual time that its fixtures ask for: pytest-trio heeds its own arguments only."""
    if isinstance(item, pytest.Function) and "autojump_clock" in item.fixturenames:

        def run(main: Callable[[], Awaitable[None]], clock: Clock | None, **more: Any) -> None:
            virtual: Any = item.funcargs["autojump_clock"]
            trio.run(main, clock=clock or virtual, **more)

        item.add_marker(pytest.mark.trio(run=run))


@pytest.fixture(scope="session")
def receiver_process() -> Iterator[ReceiverServer]:
    """The scripted receiver, shared by the session; tests ask for `receiver`."""
    with ReceiverServer() as server:
        yield server


@pytest.fixture
def receiver(receiver_process: ReceiverServer) -> ReceiverServer:
    """Give a receiver that accepts everything, and has been sent nothing yet."""
    receiver_process.set_scripts({})
    receiver_process.clear()
    return receiver_process


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Give the lines of the log, each with its level."""
    with _lines("DEBUG") as lines:
        yield lines


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Give the lines of the log from INFO up, each with its level."""
    with _lines("INFO") as lines:
        yield lines


@pytest.fixture
def hang_up_means_something() -> Iterator[None]:
    """Tests that were started with `nohup` would hand down that SIGHUP is ignored."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextmanager
def _lines(level: str) -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lambda line: lines.append(str(line).rstrip()), format="{level} {message}", level=level)
    yield lines
    logger.remove(sink)
