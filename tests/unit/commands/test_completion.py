"""`completion`: the scripts, in the shells themselves."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from tests.support.calling import call
from tests.support.obtain import give_up
from trio_alerts.commands import COMMANDS
from trio_alerts.commands.shells import completed_commands
from trio_alerts.delivery import StoredState
from trio_alerts.event import SEVERITIES

# What bash does at a TAB: it splits the line, and calls the function that `complete` names.
AT_TAB = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p trio-alerts | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "trio-alerts"
    called = call("completion", "bash")
    assert (0, "") == (called.exit_code, called.err)
    path.write_text(called.out)
    return path


def found(script: Path, *words: str) -> list[str]:
    argv = ["bash", "--norc", "--noprofile", "-uc", AT_TAB, "bash", str(script), "trio-alerts", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
    assert "" == done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", list(COMMANDS)),
        ("re", ["redeliver", "resolve"]),
        ("--config /etc/a.toml li", ["list"]),
        ("--log-level ", ["debug", "info", "warning", "error"]),
        ("--vers", ["--version"]),
        ("list --sev", ["--severity"]),
        ("list --severity ", list(SEVERITIES)),
        ("list --severity = hi", ["high"]),
        ("list --severity =", list(SEVERITIES)),
        ("list --state w", ["waiting"]),
        ("redeliver --view list --state in", ["in_doubt"]),
        ("list --view ", []),
        ("list --json --t", ["--tx", "--title"]),
        ("run --log-format ", ["text", "json"]),
        ("run --start-from n", ["now"]),
        ("dead ", ["list", "show", "replay", "drop"]),
        ("dead d", ["drop"]),
        ("dead drop --y", ["--yes"]),
        ("resolve 1-0 ", ["delivered", "failed"]),
        ("schema ", ["event", "settings"]),
        ("completion z", ["zsh"]),
        ("emit ", []),
        ("show nothing-known", []),
    ],
)
def test_bash_completes(line: str, expected: list[str], script: Path) -> None:
    """Commands, the options of each, and the values of those that have some; else bash has its own way with paths."""
    assert expected == found(script, *line.split(" "))


@pytest.mark.parametrize("name", COMMANDS)
def test_bash_knows_every_option_that_help_explains(name: str, script: Path) -> None:
    """Made from the same parser, so that nothing is forgotten; what the help hides is not offered."""
    explained = re.findall(r"^  (?:-h, )?(--[\w-]+)", call(name, "--help").out, re.MULTILINE)
    assert set(explained) == set(found(script, name, "--"))


def test_filters_offer_their_values() -> None:
    """Also those that argparse knows nothing of."""
    by_name = {part.names[-1]: part for part in completed_commands()["list"] if part.names}
    assert set(get_args(StoredState)) == set(by_name["--state"].choices)
    assert by_name["--label"].repeats
    assert not by_name["--limit"].repeats
    assert "FILE" == by_name["--config"].value


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_can_read_its_script(shell: str, tmp_path: Path) -> None:
    """Without a fault; where it is not installed, at least every command and option is in it."""
    text = msgspec.json.decode(call("completion", shell, "--json").out)["script"]
    assert text == call("completion", shell).out
    for name, parts in completed_commands().items():
        assert name in text
        assert all(option.lstrip("-") in text for part in parts for option in part.names)
    if shutil.which(shell) is None:
        give_up(f"{shell} is not installed: apt-get install {shell}")
    path = tmp_path / "script"
    path.write_text(text)
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
