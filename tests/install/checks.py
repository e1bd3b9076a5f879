"""What must install, and work once it is installed; each check in a folder of its own."""

import dataclasses
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.install.commands import ROOT, FailedError, attempt, run
from tests.install.pythons import OLDEST, OURS, classified, distributions_own, found, with_pip
from tests.install.wheels import NEWEST_PIP, PIPS, fetch_lock, fetch_pip, make_newer_releases, only_from

NEWEST_LOCK = ROOT / "requirements" / "dev.txt"
LOWEST_LOCK = ROOT / "requirements" / "lowest.txt"
UNIT_TESTS = ["-q", "-p", "no:cacheprovider", "tests", "--ignore=tests/real", "--ignore=tests/crash"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the result.

    Attributes:
        name: What must work.
        run: Does it in an empty folder; returns what is worth knowing; raises `FailedError`.
        pinned: It depends on nothing but the repository and what it pins. What is not pinned may break on any day
            without a change of ours: its failure is reported, and fails nothing.
    """

    name: str
    run: Callable[[Path], str]
    pinned: bool = True


@dataclasses.dataclass(frozen=True)
class Wheels:
    """Wheels that were fetched once, for all checks.

    Attributes:
        lock: The folder with what the lock file names.
        later: The same, in a year: with newer releases of everything.
        pips: The wheel of each pip.
    """

    lock: Path
    later: Path
    pips: dict[str, Path]


def fetch_wheels(folder: Path) -> Wheels:
    """Fetch what the checks need in common.

    Raises:
        NoIndexError: There is no package index within reach.
    """
    pips = {version: fetch_pip(version, folder) for version in PIPS}
    wheels = Wheels(folder / "lock", folder / "later", pips)
    fetch_lock(NEWEST_LOCK, wheels.lock)
    wheels.later.mkdir()
    for wheel in wheels.lock.iterdir():
        (wheels.later / wheel.name).hardlink_to(wheel)
    make_newer_releases(NEWEST_LOCK, wheels.later)
    return wheels


def checks(wheels: Wheels) -> Iterator[Check]:
    """Yield every check that this machine can run."""
    pythons = found()
    for version in sorted(classified() - {OLDEST}):
        name = f"the unit tests pass on Python {_dotted(version)} with the newest versions"
        yield Check(name, partial(_unit_tests, pythons.get(version), NEWEST_LOCK))
    yield Check(
        f"the unit tests pass on Python {_dotted(OLDEST)} with the lowest versions",
        partial(_unit_tests, OURS, LOWEST_LOCK),
    )
    newest = max(pythons)
    yield Check(
        f"the unit tests pass on Python {_dotted(newest)} with what the index has today",
        partial(_unit_tests_today, pythons[newest], wheels),
        pinned=False,
    )
    for pip, wheel in wheels.pips.items():
        name = f"pip {pip} installs the lock when there are newer releases"
        yield Check(name, partial(_lock, wheel, wheels.later))
    if system := distributions_own():
        yield Check(f"{system} installs the lock", partial(_make, system, {}))
    yield Check("without an index, `make` says so in one line", _says_that_there_is_no_index)
    yield Check("`pip install .` works", partial(_source, wheels))
    yield Check("the sdist works", partial(_sdist, wheels))
    yield Check("the wheel works, and its extra runs the demo", partial(_wheel, wheels))


def _unit_tests(python: Path | None, lock: Path, at: Path) -> str:
    if python is None:
        raise FailedError("this machine has no such Python, neither on the PATH nor in pyenv; install it")
    _make(python, {}, at, f"LOCK={lock}")
    return _last_line(run(at / "venv" / "bin" / "python", "-m", "pytest", *UNIT_TESTS))


def _unit_tests_today(python: Path, wheels: Wheels, at: Path) -> str:
    run(python, "-m", "venv", at / "venv")
    bin_ = at / "venv" / "bin"
    run(bin_ / "pip", "install", "-q", "--no-index", wheels.pips[NEWEST_PIP])  # pip knows groups from 25.1 on
    run(bin_ / "pip", "install", "-q", "-e", f"{ROOT}[embedded,otel]", "--group", f"{ROOT}/pyproject.toml:dev")
    locked = set(re.findall(r"^([a-z0-9-]+==[^ \\]+)", NEWEST_LOCK.read_text(), re.MULTILINE))
    installed = set(run(bin_ / "pip", "freeze", "--exclude-editable").lower().replace("_", "-").split())
    newer = ", ".join(sorted(installed - locked)) or "nothing"
    try:
        result = _last_line(run(bin_ / "python", "-m", "pytest", *UNIT_TESTS))
    except FailedError as failure:
        raise FailedError(f"{failure}\nother than in the lock: {newer}") from None
    return f"{result}; other than in the lock: {newer}"


def _lock(pip: Path, index: Path, at: Path) -> str:
    return _make(with_pip(pip, at), only_from(index), at)


def _make(python: Path, env: dict[str, str], at: Path, *more: str) -> str:
    """Let the Makefile set up a venv, as everybody does; it ends with `pip check`."""
    run("make", "--no-print-directory", "venv", f"PYTHON={python}", f"VENV={at / 'venv'}", *more, env=env)
    return run(at / "venv" / "bin" / "pip", "--version").partition(" from ")[0]


def _says_that_there_is_no_index(at: Path) -> str:
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_FIND_LINKS": "",
        "PIP_NO_CACHE_DIR": "1",
    }
    code, said = attempt("make", "--no-print-directory", "venv", f"PYTHON={OURS}", f"VENV={at / 'venv'}", env=nowhere)
    ours = [line for line in said.splitlines() if "a package index, which pip must be able to reach" in line]
    if code == 0 or len(ours) != 1 or "Traceback" in said:
        raise FailedError(f"it ended with {code}:\n{said}")
    return ours[0]


def _source(wheels: Wheels, at: Path) -> str:
    return _package(str(ROOT), wheels, at)


def _sdist(wheels: Wheels, at: Path) -> str:
    return _package(_built("sdist", at), wheels, at)


def _wheel(wheels: Wheels, at: Path) -> str:
    _package(f"{_built('wheel', at)}[embedded]", wheels, at)
    said = run("env", "-C", at, at / "venv" / "bin" / "trio-alerts", "demo")
    return next(line for line in said.splitlines() if line.startswith("The ledger balances"))


def _built(kind: str, at: Path) -> str:
    """Build the project; return the path of what was made."""
    run(sys.executable, "-m", "hatchling", "build", "-d", at / "dist", "-t", kind)
    return str(next((at / "dist").iterdir()))


def _package(what: str, wheels: Wheels, at: Path) -> str:
    """Install the project without the repository's help, with the pip that Python brings; see that it starts."""
    run(OURS, "-m", "venv", at / "venv")
    bin_ = at / "venv" / "bin"
    run(bin_ / "pip", "install", "-q", what, env=only_from(wheels.lock))
    run(bin_ / "pip", "check")
    # From elsewhere: beside the repository's own package, Python would take that one.
    version = run("env", "-C", at, bin_ / "trio-alerts", "--version").strip()
    run("env", "-C", at, bin_ / "python", "-m", "trio_alerts", "demo", "--help")
    return version


def _last_line(output: str) -> str:
    return output.splitlines()[-1]


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def run_check(check: Check) -> tuple[bool, str]:
    """Run a check; return whether it passed, and what there is to say."""
    with tempfile.TemporaryDirectory(prefix="trio-alerts-install-") as folder:
        try:
            return True, check.run(Path(folder))
        except FailedError as failure:
            return False, str(failure)
