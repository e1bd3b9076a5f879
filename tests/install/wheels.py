"""Wheels on this machine: what a lock file names, and newer releases that nobody made yet."""

import re
import sys
import zipfile
from pathlib import Path

from tests.install.commands import attempt

PIPS = {  # Python 3.11.0 and 3.11.2 (and Debian 12), 3.11.7 and 3.12.1 bring the old ones
    "22.3": "1daab4b8d3b97d1d763caeb01a4640a2250a0ea899e257b1e44b9eded91e15ab",
    "23.0.1": "236bcb61156d76c4b8a05821b988c7b8c35bf0da28a4b614e8d6ab5212c25c6f",
    "23.2.1": "7ccf472345f20d35bdc9d1841ff5f313260c2c33fe417f48c30ac46cccabf5be",
    "26.3": "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13",
}
NEWEST_PIP = "26.3"


class NoIndexError(Exception):
    """There is no package index within reach."""


def fetch_pip(version: str, folder: Path) -> Path:
    """Fetch a pip of `PIPS`; return its wheel.

    Raises:
        NoIndexError: It could not be fetched.
    """
    asked = folder / f"pip-{version}.txt"
    asked.write_text(f"pip=={version} --hash=sha256:{PIPS[version]}\n")
    _fetch(asked, folder)
    return folder / f"pip-{version}-py3-none-any.whl"


def fetch_lock(lock: Path, folder: Path) -> None:
    """Fetch everything that a lock file names for this Python, as wheels: nothing has to be built.

    Raises:
        NoIndexError: It could not be fetched.
    """
    _fetch(lock, folder)


def make_newer_releases(lock: Path, folder: Path) -> None:
    """Put a newer release of each package in `lock` beside the others: the index in a year."""
    for name in re.findall(r"^([a-z0-9-]+)==", lock.read_text(), re.MULTILINE):
        distribution = f"{name.replace('-', '_')}-9999.0"
        with zipfile.ZipFile(folder / f"{distribution}-py3-none-any.whl", "w") as wheel:
            about = f"{distribution}.dist-info"
            wheel.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9999.0\n")
            wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{about}/RECORD", "")


def only_from(folder: Path) -> dict[str, str]:
    """Return the environment in which pip takes wheels from a folder, and nothing from anywhere else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_NO_COMPILE": "1"}


def _fetch(lock: Path, folder: Path) -> None:
    options = ["--no-deps", "--require-hashes", "--only-binary=:all:", "--disable-pip-version-check"]
    code, said = attempt(sys.executable, "-m", "pip", "download", "-q", *options, "--dest", folder, "-r", lock)
    if code:
        errors = [line for line in said.splitlines() if line.startswith("ERROR")] or said.splitlines() or ["?"]
        raise NoIndexError(f"{lock.name} could not be fetched from the package index: {errors[-1]}")
