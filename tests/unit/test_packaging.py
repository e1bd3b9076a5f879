"""What is said about dependencies in more than one place is the same in all of them."""

import re
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.pythons import OLDEST, classified
from tests.unit.test_imports import MODULES, imports

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
LOCKS = sorted(REQUIREMENTS.glob("*.txt"))
METADATA = tomllib.loads((REQUIREMENTS.parent / "pyproject.toml").read_text())
PROJECT = METADATA["project"]
DATA = {"tzdata"}  # zoneinfo reads it where the system has no time zones
RUNTIME = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["otel"]]
DIRECT = [
    *PROJECT["dependencies"],
    *chain.from_iterable(PROJECT["optional-dependencies"].values()),
    *METADATA["dependency-groups"]["dev"],
]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_a_lock_is_installed_as_it_stands(lock: Path) -> None:
    """Each line is one version of one package with its hashes: no extra to resolve, no option, no registry."""
    lines = lock.read_text().replace("\\\n", " ").splitlines()

    assert lines
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^#@]*?)?( +--hash=sha256:[0-9a-f]{64})+", line), line


@pytest.mark.parametrize("requirement", sorted(set(DIRECT)))
def test_the_locks_are_those_of_the_bounds(requirement: str) -> None:
    """The newest lock keeps the bounds; the lowest is at them, so that a bound that CI did not see is none."""
    wanted = Requirement(requirement)
    lowest = [bound.version for bound in wanted.specifier if bound.operator == ">="]

    assert wanted.specifier.contains(_locked("dev.txt")[wanted.name])
    assert len(lowest) == 1
    assert Requirement(f"x=={lowest[0]}").specifier.contains(_locked("lowest.txt")[wanted.name])


@pytest.mark.parametrize(
    ("name", "asked"), [("image.txt", RUNTIME), ("build.txt", METADATA["build-system"]["requires"])]
)
def test_the_image_holds_what_was_tested(name: str, asked: list[str]) -> None:
    """What goes into the image, or builds what goes into it, is in the lock that the tests run with, as it is there."""
    locked = _locked(name)

    assert locked.items() <= _locked("dev.txt").items()
    assert {canonicalize_name(Requirement(one).name) for one in asked} <= locked.keys()


def test_what_is_required_is_imported() -> None:
    """A dependency that no module of the package imports is one that nobody needs, unless it is read as data."""
    distributions = packages_distributions()
    roots = {name.partition(".")[0] for path in MODULES.values() for name in imports(path)}
    imported = {canonicalize_name(distribution) for root in roots for distribution in distributions.get(root, ())}

    assert DATA == {Requirement(one).name for one in PROJECT["dependencies"]} - imported


def test_the_metadata_names_the_pythons_that_are_tried() -> None:
    """The oldest Python is the one that the classifiers begin with; CI tries each of them (`tests/install`)."""
    assert f">={OLDEST[0]}.{OLDEST[1]}" == PROJECT["requires-python"]
    assert min(classified()) == OLDEST


def _locked(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([\w.]+)", (REQUIREMENTS / name).read_text(), re.MULTILINE))
