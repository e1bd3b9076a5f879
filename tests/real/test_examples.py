"""`check` on the example configurations, as whoever copies one would call it."""

from pathlib import Path

import pytest

from tests.support.examples import CONFIGS, placed
from tests.support.program import Program
from tests.support.servers import RedisServer


@pytest.mark.parametrize("example", CONFIGS, ids=lambda path: path.stem)
def test_run_would_start(example: Path, valkey: RedisServer, tmp_path: Path) -> None:
    """With backends of its own; that nobody reaches the receivers from here is a warning. No secret is shown."""
    here = {"redis_url": valkey.url, "store_url": f"sqlite:///{tmp_path}/alerts.db", "connect_timeout_s": "1"}
    ended = Program(tmp_path, here).call("check", "--config", str(placed(example, tmp_path)))

    assert (0, "") == (ended.exit_code, ended.err)
    assert ended.out.endswith("`run` would start\n")
    assert "hunter" not in ended.out
