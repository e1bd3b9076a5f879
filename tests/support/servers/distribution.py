"""OpenSearch's distribution and its security plugin: fetched through Maven, checked, unpacked into the cache."""

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

DISTRIBUTION = "org.opensearch.distribution.integ-test-zip", "opensearch"
SECURITY = "org.opensearch.plugin", "opensearch-security"
COLLECTIONS = "org.apache.commons", "commons-collections4"
FETCHED_WITHIN_S = 1_800.0  # 130 MB and Maven's own plugins, over a slow line


@dataclass(frozen=True)
class Release:
    """A release that the tests know.

    Args:
        sha256: Of the zip on Maven Central.
        security_sha256: Of its security plugin's zip there.
        java: The JDK's feature versions that it runs on.
        java_says: The same in words, for the message.
    """

    sha256: str
    security_sha256: str
    java: range
    java_says: str


RELEASES = {
    "3.4.0": Release(
        sha256="6540e95fe8bfaedc3eb1c58e829912ea2203af2ac1f88f76411c20a2fc5254a6",
        security_sha256="fc164c084979f7f793d295b6bca56bf8bee76dafb762adef9f14fa872e0a7596",
        java=range(21, 1_000),
        java_says="a JDK >= 21",
    ),
    "2.19.1": Release(
        sha256="af7152d8b7f6f1cee09d47276b32b70479fe6dd8cdbb61213f84eb7f8098b261",
        security_sha256="94a04f12ac6033902209fac1e4e512618d45beee604bbf0e42c3ed79c55220cf",
        java=range(11, 24),  # from 24 on, Java has no security manager, which this release cannot do without
        java_says="a JDK from 11 to 23",
    ),
}


def distribution(version: str) -> Path:
    """Return the folder of the unpacked distribution; fetch and unpack it first if need be.

    Raises:
        UnavailableError: It cannot be fetched.
    """
    name = f"opensearch-{version}"
    archive = _Archive(f"OpenSearch {version}", *DISTRIBUTION, version, RELEASES[version].sha256)
    return _unpacked(archive, name, inside=name)


def security_plugin(version: str) -> Path:
    """Return the folder of the unpacked security plugin for a release; as `distribution`."""
    name = f"OpenSearch's security plugin {version}.0"
    archive = _Archive(name, *SECURITY, f"{version}.0", RELEASES[version].security_sha256)
    return _unpacked(archive, f"opensearch-security-{version}")


def collections() -> Path:
    """Return a library that the plugin of OpenSearch 3 takes from a module which the distribution for tests lacks."""
    sha256 = "00f93263c267be201b8ae521b44a7137271b16688435340bf629db1bac0a5845"
    return _fetch(_Archive("commons-collections4 4.5.0", *COLLECTIONS, "4.5.0", sha256, kind="jar"))


@dataclass(frozen=True)
class _Archive:
    """A file on Maven Central; `name` is for messages."""

    name: str
    group: str
    artifact: str
    version: str
    sha256: str
    kind: str = "zip"

    def __str__(self) -> str:
        return self.name


def _unpacked(archive: _Archive, name: str, *, inside: str = "") -> Path:
    cache = cache_folder()
    target = cache / name
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        if not target.exists():
            found = _fetch(archive)
            with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=cache) as folder:
                content = Path(folder, "content")
                _unpack(found, content)
                (content / inside).rename(target)  # all of it or nothing, also if we are killed
    return target


def _fetch(archive: _Archive) -> Path:
    name = f"{archive.artifact}-{archive.version}.{archive.kind}"
    below = Path(*archive.group.split("."), archive.artifact, archive.version, name)
    found = Path.home() / ".m2" / "repository" / below
    if not found.exists():
        artifact = f"{archive.group}:{archive.artifact}:{archive.version}:{archive.kind}"
        _maven(archive, "dependency:get", f"-Dartifact={artifact}", "-Dtransitive=false")
    if not found.exists():  # the user's settings keep it elsewhere
        said = _maven(archive, "help:evaluate", "-Dexpression=settings.localRepository", "-DforceStdout")
        found = Path(_COLOUR.sub("", said).strip()) / below
    if not found.exists():
        raise UnavailableError(f"{archive}: Maven (mvn) says that it fetched it, but {found} is not there")
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != archive.sha256:
        raise UnavailableError(f"{archive}: {found} is not what was published; remove it and try again")
    return found


_COLOUR = re.compile(r"\x1b\[\d*m")  # Maven resets the terminal's colour even when it is told to use none


def _maven(archive: _Archive, goal: str, *options: str) -> str:
    maven = shutil.which("mvn")
    if maven is None:
        raise UnavailableError(f"{archive}: needs Maven (mvn) to fetch it")
    command = [maven, "-q", "-B", "-Dstyle.color=never", goal, *options]
    done = subprocess.run(
        command, cwd=cache_folder(), capture_output=True, text=True, check=False, timeout=FETCHED_WITHIN_S
    )
    if done.returncode:
        reason = next(filter(None, (done.stdout + done.stderr).splitlines()), "no output")
        raise UnavailableError(f"{archive}: Maven (mvn) could not fetch it: {reason}")
    return done.stdout


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack everything readable by all: the user that runs it is not always the one that fetched it."""
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
