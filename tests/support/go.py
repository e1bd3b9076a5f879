"""The Go tool, for programs that we are measured beside or judged by; `go.sum` has the hash of all that they take."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.servers import UnavailableError


def go(*argv: str, cwd: Path, why: str) -> subprocess.CompletedProcess[str]:
    """Run it in the folder of a module.

    Raises:
        UnavailableError: There is none; `why` says what needs which version.
    """
    program = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if program is None:
        raise UnavailableError(f"go is not installed: {why}")
    environment = {**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly", "CGO_ENABLED": "0"}
    return subprocess.run([program, *argv], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
