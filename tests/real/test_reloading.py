"""`run` while its configuration changes, on real servers: alone and with children."""

import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.real.conftest import MakeSite
from tests.real.test_monitoring import Monitor
from tests.real.test_stopping import catches, silent_port
from tests.support.program import PATIENCE_S, Site, children, stop, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer

pytestmark = pytest.mark.usefixtures("hang_up_means_something")
__all__ = ["silent_port"]  # a fixture

CHANNEL = '[[channels]]\nname = "{name}"\nurl = "{url}/{name}"\nsecret_file = "{folder}/secret"\n'
TAKEN_UP = "took up what its parent has read"
FIRST, SECOND = "whsec_" + 32 * "MTIz", "whsec_" + 32 * "NDU2"


@pytest.fixture(params=["1", "2"])
def site(request: pytest.FixtureRequest, make_site: MakeSite, receiver: ReceiverServer) -> Site:
    site = make_site(Site, processes=request.param, log_format="text", retry_schedule_s="2,2,2,2")
    del site.settings["webhook_url"]
    site.settings["config"] = str(site.folder / "alerts.toml")
    (site.folder / "secret").write_text(FIRST)
    configure(site, receiver, "old")
    return site


def configure(site: Site, receiver: ReceiverServer, *names: str, more: str = "") -> None:
    text = "".join(CHANNEL.format(name=name, url=receiver.url, folder=site.folder) for name in names)
    Path(site.settings["config"]).write_text(more + text)


def reload(site: Site, process: subprocess.Popen[bytes], said: str) -> None:
    """Ask for a reload, and wait until the log says what came of it."""
    before, taken_up = site.log().count(said), site.log().count(TAKEN_UP)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: site.log().count(said) > before, f"it says {said!r}", site)
    if "refused" not in said:
        followers = len(children(process.pid))
        wait_until(lambda: site.log().count(TAKEN_UP) >= taken_up + followers, "its children follow", site)


def reading(site: Site, more: int = 0) -> bool:
    return site.log().count("reading AlertStream") == int(site.settings["processes"]) + more


def emit(site: Site, receiver: ReceiverServer, count: int, *paths: str) -> None:
    """Emit until every process must have had one, and see that all of them went to these paths and no others."""
    receiver.clear()
    for number in range(count):
        site.emit(alert_id=f"a-{number}")
    wait_until(lambda: receiver.totals().accepted == count * len(paths), f"all went to {paths}", site)
    assert dict.fromkeys(paths, count) == Counter(request.path for request in receiver.ledger().requests)


def test_all_processes_have_the_same_whatever_the_file_says(site: Site, receiver: ReceiverServer) -> None:
    """A channel comes, a mistake changes nothing, a secret changes, a channel goes; who dies meanwhile is replaced."""
    monitor = Monitor(site)
    with site.running("--log-level", "debug") as process:
        wait_until(lambda: reading(site), "all read", site)
        emit(site, receiver, 20, "/old")
        configure(site, receiver, "old", "new")
        reload(site, process, "alerts.toml was read again: channel new added")
        emit(site, receiver, 20, "/old", "/new")
        assert 20 == monitor.value("trio_alerts_attempts_total", channel="new", result="accepted")

        configure(site, receiver, "new", more=f'[[routes]]\nchannels = ["gone"]\nmatch = {{ view = "{FIRST}" }}\n')
        reload(site, process, "alerts.toml is refused, and everything stays as it was: ")
        (why,) = [line.partition("as it was: ")[2] for line in site.log().splitlines() if " is refused" in line]
        assert "there is no channel 'gone'" in why
        checked = site.call("check").err
        assert all(part in checked for part in why.split("; ")), (why, checked)
        wait_until(lambda: monitor.value("trio_alerts_last_reload_ok") == 0.0, "the figure follows", site)
        assert (0.0, 1.0, 1.0) == (
            monitor.value("trio_alerts_last_reload_ok"),
            monitor.value("trio_alerts_reloads_total", outcome="ok"),
            monitor.value("trio_alerts_reloads_total", outcome="refused"),
        )
        wait_until(monitor.is_ready, "ready", site)
        replaced = children(process.pid)[:1]
        for child in replaced:
            os.kill(child, signal.SIGKILL)
        wait_until(lambda: reading(site, len(replaced)), "another one reads", site)
        emit(site, receiver, 20, "/old", "/new")

        (site.folder / "secret").write_text(SECOND)
        configure(site, receiver, "new", more="workers = 17\ngroup = 'other'\n")
        reload(site, process, "changes that need a restart, and wait for it: group, workers")
        emit(site, receiver, 20, "/new")
        for request in receiver.ledger().requests:
            Webhook(SECOND).verify(request.body, request.headers)
        wait_until(lambda: monitor.value("trio_alerts_last_reload_ok") == 1.0, "the figure follows", site)
        assert 0 == stop(process), site.log()
    assert FIRST not in site.log()
    assert SECOND not in site.log()


def test_nothing_under_way_is_cut(site: Site, receiver: ReceiverServer) -> None:
    """Each is being sent when its channel changes, and again when it goes: one attempt, accepted, no doubt."""
    receiver.set_scripts({"*": Script([Step(200, delay_s=2.0)])})
    with site.running("--log-level", "debug") as process:
        wait_until(lambda: reading(site), "all read", site)
        ids = [site.emit(alert_id=f"a-{number}") for number in range(16)]
        wait_until(lambda: receiver.totals().requests == 16, "all are being sent", site)
        configure(site, receiver, "old", more='networks = ["127.0.0.0/8"]\n')
        reload(site, process, "networks changed")
        configure(site, receiver, "new")
        reload(site, process, "channel old removed")
        wait_until(lambda: receiver.totals().accepted == 16, "all are accepted", site)
        site.until(*["delivered"] * 16)
        assert 0 == stop(process), site.log()
    assert (16, 0) == (receiver.totals().requests, receiver.totals().duplicates)
    deliveries = [site.records()[record_id]["delivery"] for record_id in ids]
    assert {(1, 0)} == {(one["attempts"], one["in_doubt"]) for one in deliveries}


def test_a_hangup_at_any_moment_ends_nothing(site: Site, receiver: ReceiverServer) -> None:
    """From the first line on, again and again: while it starts, reads, and drains. What was new meanwhile is in use."""
    receiver.set_scripts({"*": Script([Step(200, delay_s=1.0)])})
    with site.running("--log-level", "debug") as process:
        wait_until(lambda: catches(process, signal.SIGHUP), "the first line", site)
        configure(site, receiver, "new")
        while not reading(site):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        reload(site, process, "was read again")
        site.emit()
        wait_until(lambda: receiver.totals().requests == 1, "it is being sent", site)
        process.send_signal(signal.SIGTERM)
        while process.poll() is None:
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert 0 == process.wait(PATIENCE_S), site.log()
    assert ["/new"] == [request.path for request in receiver.ledger().requests if request.accepted]
    assert "Traceback" not in site.log()


def test_a_hangup_while_redis_hangs_at_the_start(site: Site, silent_port: int) -> None:
    """It goes on waiting, and ends as it would have: with exit code 4."""
    site.settings |= {"redis_url": f"redis://127.0.0.1:{silent_port}/0", "redis_timeout_s": "2"}
    with site.running("--log-level", "debug") as process:
        wait_until(lambda: "set       " in site.log(), "it starts", site)
        for _ in range(10):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        assert 4 == process.wait(PATIENCE_S), site.log()
