"""The console on what the demo has left: `python -m trio_alerts console`, open for as long as somebody looks."""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trio_alerts.errors import AlertError
from trio_alerts.settings.settings import ENV_PREFIX

GONE_WITHIN_S = 5.0  # after SIGKILL
STARTS_WITHIN_S = 60.0  # it takes a second
LOOK_EVERY_S = 0.1


@asynccontextmanager
async def open_console(settings: Path) -> AsyncIterator[str]:
    """Serve the console while the block runs, and yield its address; its log lies beside the settings.

    Raises:
        AlertError: It did not begin to serve.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with (settings.parent / "console.log").open("wb") as output:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "trio_alerts", "console", "--config", str(settings), "--bind", address],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
            start_new_session=True,  # a Ctrl-C in the terminal reaches the demo alone
        )
    try:
        await _answers(process, address)
        yield f"http://{address}"
    finally:
        process.kill()
        with trio.move_on_after(GONE_WITHIN_S, shield=True):
            await process.wait()


async def _answers(process: trio.Process, address: str) -> None:
    host, _, port = address.rpartition(":")
    with trio.move_on_after(STARTS_WITHIN_S):
        while process.returncode is None:
            try:
                stream = await trio.open_tcp_stream(host, int(port))
            except OSError:
                await trio.sleep(LOOK_EVERY_S)
            else:
                await stream.aclose()
                return
    raise AlertError("the console did not start; console.log in the demo's folder says why")
