"""Tools of other ecosystems that judge what is deployed: from the Go module proxy and the package index, made once."""

import fcntl
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.go import go
from tests.support.obtain import obtain
from tests.support.servers.places import cache_folder

MODULES = Path(__file__).parents[1] / "real" / "judges"
# What describes custom resources: files of Go modules, each with its version and the hash of all its files.
CRDS = {
    "github.com/kedacore/keda/v2@v2.20.2 h1:SR60v8uIcelbveS8n/1jcl8tLdBBIbHMxmdOHw8tKqA=": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0 h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=": (
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
}


def go_in(module: str, *argv: str) -> str:
    """Run the Go tool in a module of `tests/real/judges`, whose `go.sum` has the hash of all that it takes."""
    why = "what is deployed is judged by programs that need Go 1.26 or newer"
    done = obtain(lambda: go(*argv, cwd=MODULES / module, why=why))
    assert 0 == done.returncode, done.stderr
    return done.stdout


def built(module: str) -> Path:
    """Return the folder with the programs and tools of a module; they are built if anything of it has changed."""
    sources = sorted(path for path in (MODULES / module).rglob("*") if path.is_file())
    key = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = cache_folder()
    target = cache / f"judges-{module}-{key}"
    with (cache / f"judges-{module}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test runs may start at once
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix=f".judges-{module}-", dir=cache) as folder:
                go_in(module, "build", "-ldflags=-s -w", "-o", f"{folder}/bin/", "./...", "tool")
                Path(folder, "bin").rename(target)  # all of it or nothing, also if we are killed
    return target


def environment(name: str) -> Path:
    """Return a virtual environment with what a lock beside the modules names."""
    lock = MODULES / f"{name}.txt"
    target = cache_folder() / f"judges-{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:16]}"
    with (cache_folder() / f"judges-{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (target / "ready").exists():
            subprocess.run([sys.executable, "-m", "venv", "--clear", target], check=True)
            pip = [str(target / "bin" / "python"), "-m", "pip", "install", "-q", "--no-deps", "--require-hashes"]
            subprocess.run([*pip, "-r", str(lock)], check=True)
            (target / "ready").touch()
    return target


def module_folder(module: str) -> Path:
    """Return where the files of a Go module of `CRDS` lie, which are what they were when it was pinned here."""
    path, said = module.rpartition(" ")[::2]
    found = json.loads(go_in("chart", "mod", "download", "-json", path))
    assert said == found["Sum"]
    return Path(found["Dir"])
