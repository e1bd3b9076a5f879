"""A server that a test needs, or a clear word why the test cannot run."""

import os
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

from tests.support.servers import UnavailableError

ServerT = TypeVar("ServerT")


def obtain(make: Callable[[], ServerT]) -> ServerT:
    """Return what `make` makes, such as `RedisServer`; without what that needs, the test is skipped or fails."""
    try:
        return make()
    except UnavailableError as error:
        give_up(str(error))


def give_up(what_to_install: str) -> NoReturn:
    """Skip on a laptop; in CI nothing that should be proven is silently left out."""
    if os.environ.get("CI") == "true":
        pytest.fail(what_to_install, pytrace=False)
    pytest.skip(what_to_install)
