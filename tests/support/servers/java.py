"""Finding a JDK of the right age: each server release runs on some and refuses others."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.support.servers.places import UNPRIVILEGED, reachable

FOLDERS = ("/usr/lib/jvm/*", "/opt/java/*", "/Library/Java/JavaVirtualMachines/*/Contents/Home")


class Java(NamedTuple):
    """A `java` program and its feature version, such as 25."""

    version: int
    program: Path


@cache
def javas() -> tuple[Java, ...]:
    """Return every Java on this machine that the servers' user can start, the oldest first."""
    found = ((_version(program), program) for program in _candidates())
    return tuple(sorted(Java(version, program) for version, program in found if version))


def _candidates() -> Iterator[Path]:
    homes = [Path(home) for name in ("OPENSEARCH_JAVA_HOME", "JAVA_HOME") if (home := os.environ.get(name))]
    homes += [home for pattern in FOLDERS for home in sorted(Path("/").glob(pattern[1:]))]
    on_path = shutil.which("java")
    programs = [home / "bin" / "java" for home in homes] + ([Path(on_path)] if on_path else [])
    for program in dict.fromkeys(program.resolve() for program in programs if program.is_file()):
        if UNPRIVILEGED is None or reachable(program):  # root's own JDK is of no use to the user who must run it
            yield program


def _version(program: Path) -> int | None:
    """Return the feature version that `java -version` names: 25 for "25.0.3", 8 for "1.8.0_392"."""
    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False, timeout=60).stderr
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found[1]) if found else None
