"""Where servers run and as whom: some refuse root, and root's folders are closed to everybody else."""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UNPRIVILEGED = "nobody" if os.geteuid() == 0 else None  # for servers that refuse root; None: we are not root


@dataclass(frozen=True)
class Owner:
    """Who a process runs as, in the words of `subprocess.Popen`; None: as the tests do."""

    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None


def _owners() -> Mapping[str | None, Owner]:
    if UNPRIVILEGED is None:
        return {None: Owner()}
    entry = pwd.getpwnam(UNPRIVILEGED)
    return {None: Owner(), UNPRIVILEGED: Owner(entry.pw_uid, entry.pw_gid, ())}


OWNER = _owners()


def new_folder(owner: str | None) -> Path:
    """Make a folder that belongs to `owner`, somewhere it can reach."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if owner is None or reachable(Path(parent)):
            folder = Path(tempfile.mkdtemp(prefix="trio-alerts-test-", dir=parent))
            give(folder, owner)
            return folder
    raise OSError(f"no temporary folder that the user {owner} can reach")


def give(path: Path, owner: str | None) -> None:
    """Make `path` belong to `owner`."""
    who = OWNER[owner]
    if who.user is not None and who.group is not None:
        os.chown(path, who.user, who.group)


def reachable(path: Path) -> bool:
    """Whether any user of this machine can read `path` and get to it."""
    path = path.resolve()
    readable = path.stat().st_mode & stat.S_IROTH
    return bool(readable) and all(folder.stat().st_mode & stat.S_IXOTH for folder in path.parents)


def link_tree(source: Path, target: Path) -> None:
    """Make a second name for all files below `source`; copy them only where the file systems differ."""

    def link(original: str, other: str) -> None:
        try:
            os.link(original, other)
        except OSError:
            shutil.copy2(original, other)

    shutil.copytree(source, target, copy_function=link)


def cache_folder() -> Path:
    """Return the ignored folder of the repository where downloads are kept between runs."""
    folder = Path(__file__).resolve().parents[3] / ".cache"
    folder.mkdir(exist_ok=True)
    return folder
