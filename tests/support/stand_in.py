"""A root file system in the place of the official Python image, which no package registry has: made of this machine."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

# What the steps of the Containerfile and the tests call, beside Python itself.
PROGRAMS = ("sh", "install", "env", "cat")
# What every wheel for "manylinux" may take for granted (PEP 600), beside what Python itself is linked to.
GRANTED = (
    "pthread.so.0",
    "dl.so.2",
    "rt.so.1",
    "util.so.1",
    "resolv.so.2",
    "nss_dns.so.2",
    "gcc_s.so.1",
    "stdc++.so.6",
)
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def make_root(python: Path, root: Path) -> None:
    """Copy an interpreter, its standard library, a shell and the libraries of all of them.

    Args:
        python: The interpreter, at its own prefix.
        root: The folder that becomes the root; Python is in `/usr/local`, as in the official image.
    """
    python = python.resolve()
    home, name = python.parents[1], f"python{python.name.removeprefix('python')}"
    library = root / "usr/local/lib" / name
    shutil.copytree(
        home / "lib" / name,
        library,
        symlinks=True,
        ignore=lambda folder, names: {one for one in names if _is_left_out(Path(folder, one))},
    )
    (root / "usr/local/bin").mkdir(parents=True)
    shutil.copy2(python, root / "usr/local/bin" / name)
    for alias in ("python", "python3"):
        (root / "usr/local/bin" / alias).symlink_to(name)
    programs = [Path(found).resolve() for one in PROGRAMS if (found := shutil.which(one))]
    for one, program in zip(PROGRAMS, programs, strict=True):
        _copy(program, root / "usr/bin" / one)
    (root / "bin").symlink_to("usr/bin")
    libraries = _libraries([python, *programs, *library.glob("lib-dynload/*.so")])
    (beside,) = {file.parent for file in libraries if file.name.startswith("libc.so")}
    for file in libraries | {beside / f"lib{name}" for name in GRANTED}:
        _copy(file, root / file.relative_to("/"))
    for folder in ("etc", "tmp", "proc", "dev", "sys", "run", "var/lib"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    if CERTIFICATES.exists():
        _copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))


def _is_left_out(path: Path) -> bool:
    if path.parent.name == "site-packages":
        return not path.name.startswith("pip")
    return path.name in {"test", "idlelib", "tkinter", "__pycache__"} or path.name.startswith("_tkinter")


def _libraries(binaries: Iterable[Path]) -> set[Path]:
    said = subprocess.run(["ldd", *binaries], capture_output=True, text=True, check=False).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.MULTILINE)}


def _copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(file, target)
