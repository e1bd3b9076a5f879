"""OpenSearch's distribution: fetched once through Maven, checked, unpacked once into the cache folder."""

import fcntl
import hashlib
import re
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers.places import cache_folder
from tests.support.servers.process import UnavailableError

GROUP, ARTIFACT = "org.opensearch.distribution.integ-test-zip", "opensearch"
FETCHED_WITHIN_S = 1_800.0  # 130 MB and Maven's own plugins, over a slow line


@dataclass(frozen=True)
class Release:
    """A release that the tests know.

    Args:
        sha256: Of the zip on Maven Central.
        java: The JDK's feature versions that it runs on.
        java_says: The same in words, for the message.
    """

    sha256: str
    java: range
    java_says: str


RELEASES = {
    "3.4.0": Release(
        sha256="6540e95fe8bfaedc3eb1c58e829912ea2203af2ac1f88f76411c20a2fc5254a6",
        java=range(21, 1_000),
        java_says="a JDK >= 21",
    ),
    "2.19.1": Release(
        sha256="af7152d8b7f6f1cee09d47276b32b70479fe6dd8cdbb61213f84eb7f8098b261",
        java=range(11, 24),  # from 24 on, Java has no security manager, which this release cannot do without
        java_says="a JDK from 11 to 23",
    ),
}


def distribution(version: str) -> Path:
    """Return the folder of the unpacked distribution; fetch and unpack it first if need be.

    Raises:
        UnavailableError: It cannot be fetched.
    """
    cache = cache_folder()
    target = cache / f"opensearch-{version}"
    with (cache / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        if not target.exists():
            archive = _fetch(version)
            with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=cache) as folder:
                _unpack(archive, Path(folder))
                Path(folder, target.name).rename(target)  # all of it or nothing, also if we are killed
    return target


def _fetch(version: str) -> Path:
    name = f"{ARTIFACT}-{version}.zip"
    below = Path(*GROUP.split("."), ARTIFACT, version, name)
    archive = Path.home() / ".m2" / "repository" / below
    if not archive.exists():
        _maven(version, "dependency:get", f"-Dartifact={GROUP}:{ARTIFACT}:{version}:zip", "-Dtransitive=false")
    if not archive.exists():  # the user's settings keep it elsewhere
        said = _maven(version, "help:evaluate", "-Dexpression=settings.localRepository", "-DforceStdout")
        archive = Path(_COLOUR.sub("", said).strip()) / below
    if not archive.exists():
        raise UnavailableError(f"OpenSearch {version}: Maven (mvn) says that it fetched it, but {archive} is not there")
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != RELEASES[version].sha256:
        raise UnavailableError(f"OpenSearch {version}: {archive} is not what was published; remove it and try again")
    return archive


_COLOUR = re.compile(r"\x1b\[\d*m")  # Maven resets the terminal's colour even when it is told to use none


def _maven(version: str, goal: str, *options: str) -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise UnavailableError(f"OpenSearch {version}: needs Maven (mvn) to fetch it")
    command = [maven, "-q", "-B", "-Dstyle.color=never", goal, *options]
    done = subprocess.run(
        command, cwd=cache_folder(), capture_output=True, text=True, check=False, timeout=FETCHED_WITHIN_S
    )
    if done.returncode:
        reason = next(filter(None, (done.stdout + done.stderr).splitlines()), "no output")
        raise UnavailableError(f"OpenSearch {version}: Maven (mvn) could not fetch it: {reason}")
    return done.stdout


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack everything readable by all: the user that runs it is not always the one that fetched it."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
