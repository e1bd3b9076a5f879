"""Cells in which the configuration is read again and again while alerts come, every second time with a mistake."""

import os
import signal
import time
import urllib.request
from functools import partial

from prometheus_client.parser import text_string_to_metric_families

from tests.crash.cell import Cell, CellFailedError, RunningCell
from tests.support.crew import Worker
from tests.support.program import children
from tests.support.servers.process import free_port

RELOADS = 50
PER_S = 500.0
ALERTS = 5_000  # ten seconds of them
HTTP = f"127.0.0.1:{free_port()}"
SETTINGS = {"processes": "3", "workers": "32", "http_bind": HTTP}
MISTAKE = '\n[[channels]]\nname = "hook"\n'
REFUSED = "channels.toml is refused, and everything stays as it was: "
SECRET, OTHER = "whsec_" + 32 * "MTIz", "whsec_" + 32 * "NDU2"
# A channel that comes and goes, of a route that no alert takes.
EXTRA = """
[[channels]]
name = "extra"
url = "{url}/extra"

[[routes]]
match = {{ view = "Nowhere" }}
channels = ["extra"]
"""


def _reloaded(cell: RunningCell, *, kill: bool = False) -> None:
    """Change the first channel, the networks and the routes with each good file, while 500 alerts a second arrive."""
    path = cell.folder / "channels.toml"
    cell.begin()
    plain = path.read_text()
    worker = cell.oldest()
    cell.emit(ALERTS, PER_S)
    killed = 0
    for number in range(RELOADS):
        good = number % 2 == 0
        path.write_text(_another(plain, cell.servers.receiver.url, number // 2) if good else plain + MISTAKE)
        said = "was read again" if good else "is refused, and everything stays as it was"
        before = worker.said().count(said)
        worker.signal(signal.SIGHUP)
        if kill and number % 5 == 4:
            os.kill(children(worker.process.pid)[0], signal.SIGKILL)
            killed += 1
        cell.until(partial(_has_said, worker, said, before), f"reload {number} is done")
        time.sleep(0.1)
    cell.until_emitted()
    _compare(cell)
    cell.notes.append(f"{RELOADS // 2} reloads, {RELOADS // 2} refused" + f", {killed} children killed" * kill)


def _has_said(worker: Worker, words: str, before: int) -> bool:
    return worker.said().count(words) > before


def _another(plain: str, url: str, number: int) -> str:
    """Return a good configuration that differs from the last one in everything that may change."""
    secret = SECRET if number % 2 else OTHER
    networks = 'networks = ["127.0.0.0/8"]\n' if number % 3 else ""
    first = plain.replace('name = "hook"', f'name = "hook"\nsecret = "{secret}"', 1)
    return networks + first.replace("\n[[routes]]", EXTRA.format(url=url) + "\n[[routes]]", 1 if number % 2 else 0)


def _compare(cell: RunningCell) -> None:
    """Look at what the log and the metrics say of the reloads.

    Raises:
        CellFailedError: It is not what was done.
    """
    named = cell.crew.log().count(REFUSED)
    with urllib.request.urlopen(f"http://{HTTP}/metrics", timeout=10) as answer:
        page = answer.read().decode()
    metrics = {
        (sample.name.removeprefix("trio_alerts_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    counted = [metrics[key] for key in (("reloads_total", "ok"), ("reloads_total", "refused"), ("last_reload_ok",))]
    if (named, counted) != (RELOADS // 2, [RELOADS / 2, RELOADS / 2, 0.0]):
        raise CellFailedError(f"the log names the refused file {named} times, and the metrics say {counted}")


CELLS = (
    Cell(
        name="reload",
        about=f"{ALERTS:,} alerts at {PER_S:g} a second; the configuration is read again {RELOADS} times, every second "
        "time with a mistake",
        play=_reloaded,
        settings=SETTINGS,
        size=1,
        expected=lambda cell: {"delivered": ALERTS},
        check=lambda cell: f"{cell.repeats} repeats" if cell.repeats else "",  # no send was cut
    ),
    Cell(
        name="reload-kill",
        about="the same with kill -9 to a child beside every fifth reload",
        play=partial(_reloaded, kill=True),
        settings=SETTINGS,
        size=1,
        expected=lambda cell: {"delivered": ALERTS},
    ),
)
