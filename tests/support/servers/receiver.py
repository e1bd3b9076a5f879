"""The scripted receiver of `tests.support.receiver`, as a process of its own."""

import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import msgspec

from tests.support.receiver import CONTROL, Ledger, Script, Totals
from tests.support.servers.process import Server, free_port


class ReceiverServer(Server):
    """A receiver whose ledger outlives every crash of the program under test.

    Args:
        scripts: What it does, by path; the path "*" stands for all others. Without any, 200 at once.
        lean: Keep no headers and bodies, for tests with very many requests.
    """

    name = "receiver"

    def __init__(self, scripts: Mapping[str, Script] | None = None, *, lean: bool = False) -> None:
        super().__init__()
        self._scripts = scripts or {}
        self._lean = lean
        self.port = 0

    @property
    def url(self) -> str:
        """`http://`, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def ledger(self) -> Ledger:
        """Return all that was received so far."""
        return msgspec.json.decode(self._call("GET", "ledger"), type=Ledger)

    def totals(self) -> Totals:
        """Return the ledger's counts alone."""
        return msgspec.json.decode(self._call("GET", "totals"), type=Totals)

    def set_scripts(self, scripts: Mapping[str, Script]) -> None:
        """Behave like this from now on; the ledger stays."""
        self._call("PUT", "scripts", msgspec.json.encode(scripts))

    def clear(self) -> None:
        """Forget what was received, and begin every script anew."""
        self._call("DELETE", "ledger")

    def configure(self) -> None:
        """Choose a port and write the scripts into a file."""
        self.port = free_port()
        (self.folder / "scripts.json").write_bytes(msgspec.json.encode(self._scripts))

    def command(self) -> list[str]:
        """Return the command line."""
        options = ["--port", str(self.port), "--scripts", str(self.folder / "scripts.json")]
        return [sys.executable, "-m", "tests.support.receiver", *options, *(["--lean"] if self._lean else [])]

    def working_folder(self) -> Path:
        """Return the repository's root, from where the module is found."""
        return Path(__file__).resolve().parents[3]

    def is_ready(self) -> bool:
        """It is this process that answers."""
        try:
            return int(self._call("GET", "pid")) == self.pid
        except (httpx.HTTPError, ValueError):
            return False

    def _call(self, method: str, what: str, content: bytes = b"") -> bytes:
        with httpx.Client(verify=False, trust_env=False, timeout=60) as client:
            return client.request(method, f"{self.url}{CONTROL}{what}", content=content).raise_for_status().content
