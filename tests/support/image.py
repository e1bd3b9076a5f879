"""The container image, built by Buildah on a stand-in for its base, and containers of it: no engine runs here."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.obtain import give_up
from tests.support.program import children, wait_until
from tests.support.stand_in import make_root

# What a container sees, as an engine prepares it: a root that nothing can be written to, /dev, /proc of its own
# processes, a volume, and a folder with what the test gives. The program is process 1, as the image's user.
ENTER = """
mount --bind "$ROOT" "$ROOT"
mount --bind "$VOLUME" "$ROOT$WORKDIR"
mount --bind "$GIVEN" "$ROOT/run"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
mount -o remount,bind,ro "$ROOT"
exec chroot --userspec="$USERSPEC" --groups= "$ROOT" /usr/bin/env -i -C "$WORKDIR" "$@"
"""


class Image:
    """The image, in a folder of its own.

    Attributes:
        config: What it says of itself, as Docker has it.
    """

    config: Mapping[str, Any]

    def __init__(self, folder: Path) -> None:
        buildah = shutil.which("buildah")
        if buildah is None or os.geteuid() != 0:
            give_up("the image is built by buildah, as root: apt-get install buildah")
        storage = [f"--root={folder}/storage", f"--runroot={folder}/run", "--storage-driver=vfs"]
        self._buildah = [buildah, *storage]
        self._folder = folder

    def build(self, containerfile: Path, context: Path, base: str, python: Path) -> None:
        """Build it, with its base made of an interpreter of this machine, and the package index within reach."""
        make_root(python, self._folder / "base")
        container = self._call("from", "scratch")
        self._call("copy", "-q", container, str(self._folder / "base"), "/")
        self._call("config", "--env=PATH=/usr/local/bin:/usr/bin:/bin", container)
        self._call("commit", "-q", container, base)
        options = ["-q", "--isolation=chroot", "--pull=never", "--format=docker", "--build-arg=REVISION=abc"]
        self._call("build", *options, "-f", str(containerfile), "-t", "trio-alerts", str(context))
        self.config = json.loads(self._call("inspect", "--type=image", "trio-alerts"))["Docker"]["config"]
        self._root = self._call("mount", self._call("from", "--pull=never", "trio-alerts"))

    def command(self, volume: Path, given: Path, environment: Mapping[str, str], *argv: str) -> Sequence[str]:
        """Return the command that runs one in a container: `argv` in place of the image's command, if there is any.

        Args:
            volume: What is mounted over the working directory.
            given: What is mounted at `/run`.
            environment: More variables than the image has.
            argv: The arguments.
        """
        config = self.config
        variables = [*config["Env"], *(f"{name}={text}" for name, text in environment.items())]
        inside = [*variables, *config["Entrypoint"], *(argv or config["Cmd"])]
        return self.inside(volume, given, *inside)

    def inside(self, volume: Path, given: Path, *inside: str) -> Sequence[str]:
        """Return the command that enters a container and calls `env` with these arguments."""
        given_to_shell = {
            "ROOT": self._root,
            "VOLUME": str(volume),
            "GIVEN": str(given),
            "WORKDIR": self.config["WorkingDir"],
            "USERSPEC": self.config["User"],
        }
        shell = ["env", *(f"{name}={text}" for name, text in given_to_shell.items()), "sh", "-euc", ENTER, "sh"]
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", *shell, *inside]

    def _call(self, command: str, *argv: str) -> str:
        done = subprocess.run([*self._buildah, command, *argv], capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        return done.stdout.strip()


@contextmanager
def container(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a container until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()  # its first process goes with it
        process.wait()


def stop_container(process: subprocess.Popen[bytes]) -> int:
    """Send SIGTERM to the first process in the container, as an engine does; return what it ended with."""
    wait_until(lambda: bool(children(process.pid)), "it has begun")
    (first,) = children(process.pid)
    os.kill(first, signal.SIGTERM)
    return process.wait(60)
