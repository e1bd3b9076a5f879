"""The Python interpreters of this machine, and ones that bring the pip of another time."""

import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

from tests.install.commands import ROOT, attempt

OLDEST = (3, 11)
OURS = Path(sys._base_executable)  # type: ignore[attr-defined]  # the interpreter that the venv was made from

Version = tuple[int, int]


def classified() -> set[Version]:
    """Return the versions of Python that the project's metadata names."""
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    named = (re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", line) for line in metadata)
    return {(3, int(match[1])) for match in named if match}


def found() -> dict[Version, Path]:
    """Return the interpreters of this machine from 3.11 on: those on the PATH, and what pyenv keeps beside it."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    kept = [path for path in pyenv.glob("3.*/bin/python3.*") if re.fullmatch(r"python3\.\d+", path.name)]
    on_path = (shutil.which(f"python3.{minor}") for minor in range(OLDEST[1], 40))
    versions = {OLDEST: OURS} if sys.version_info[:2] == OLDEST else {}
    for python in [*kept, *map(Path, filter(None, on_path))]:
        if (version := _version(python)) and version >= OLDEST:
            versions.setdefault(version, python)
    return dict(sorted(versions.items()))


def distributions_own() -> Path | None:
    """Return the `python3` of the operating system, which Debian changes in several ways; None: it is too old."""
    python = Path("/usr/bin/python3")
    version = _version(python) if python.exists() else None
    return python if version and version >= OLDEST else None


def with_pip(pip: Path, folder: Path) -> Path:
    """Return an interpreter whose `-m venv` brings this pip, as a Python of its time would.

    Args:
        pip: Its wheel.
        folder: Where the interpreter is written to.
    """
    python = folder / "python"
    python.write_text(f"""#!/bin/sh
"{OURS}" "$@" || exit
case "$1 $2" in "-m venv") for venv; do :; done; exec "$venv/bin/python" -m pip install -q --no-index "{pip}" ;; esac
""")
    python.chmod(0o755)
    return python


def _version(python: Path) -> Version | None:
    """Ask an interpreter; None: it does not run, as pyenv's stand-in for a version that is not chosen."""
    code, said = attempt(python, "-c", "import sys, ensurepip; print(*sys.version_info[:2])")
    return None if code else (int(said.split()[0]), int(said.split()[1]))
