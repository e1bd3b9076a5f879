"""The container image: its file read by BuildKit's linter, then built and run, on a stand-in for its base."""

import json
import os
import re
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.install.pythons import found
from tests.real.conftest import MakeSite
from tests.support.image import Image, container, stop_container
from tests.support.judges import built
from tests.support.obtain import give_up
from tests.support.program import Site, wait_until
from tests.support.receiver import Script, Step
from tests.support.servers import ReceiverServer
from tests.support.servers.process import free_port

pytestmark = pytest.mark.registry

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "Containerfile"
TEXT = FILE.read_text()
(BASE, MAJOR, MINOR) = re.findall(r"^ARG PYTHON_IMAGE=(\S+/python:(\d+)\.(\d+)-\S+)$", TEXT, re.MULTILINE)[0]
USER = 65532


def test_buildkit_has_nothing_against_it() -> None:
    """Every rule of `docker build --check`; a rule and an instruction that are broken on purpose are noticed."""

    def lint(text: str) -> tuple[list[str], bool]:
        done = subprocess.run(
            [built("containers") / "containerfile"], input=text.encode(), capture_output=True, check=False
        )
        assert (0, b"") == (done.returncode, done.stderr)
        said = json.loads(done.stdout)
        return [warning["ruleName"] for warning in said["warnings"] or ()], "buildError" in said

    assert ([], False) == lint(TEXT)
    assert (["SecretsUsedInArgOrEnv"], False) == lint(TEXT.replace("ARG REVISION", "ARG DB_PASSWORD\nARG REVISION"))
    assert lint(TEXT.replace("WORKDIR /var", "WORKDIRS /var"))[1]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built as the file says."""
    python = found().get((int(MAJOR), int(MINOR)))
    if python is None:
        give_up(f"Python {MAJOR}.{MINOR} is not installed: the image's stand-in base is made of it")
    image = Image(tmp_path_factory.mktemp("image"))
    image.build(FILE, ROOT, BASE, python)
    return image


def test_the_image_says_what_it_is_and_how_it_is_run(image: Image) -> None:
    """Labels, a user by number that is not root, the port, the stop signal and the health check."""
    config = image.config
    assert (f"{USER}:{USER}", ["trio-alerts"], ["run"]) == (config["User"], config["Entrypoint"], config["Cmd"])
    assert ("SIGTERM", ["8080/tcp"]) == (config["StopSignal"], list(config["ExposedPorts"]))
    assert "abc" == config["Labels"]["org.opencontainers.image.revision"]
    assert "Apache-2.0" == config["Labels"]["org.opencontainers.image.licenses"]
    assert "CMD" == config["Healthcheck"]["Test"][0]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_container_carries_alerts_and_drains(
    image: Image, make_site: MakeSite, receiver: ReceiverServer, tmp_path: Path, processes: str
) -> None:
    """As user 65532 on a read-only root, as process 1: alerts go out, its health check passes, SIGTERM lets it finish.

    Valkey is the one on this machine; what is being sent when SIGTERM comes arrives, and the exit code is 0.
    """
    site = make_site(Site)
    volume, given = tmp_path / "volume", tmp_path / "given"
    volume.mkdir()
    os.chown(volume, USER, USER)
    given.mkdir()
    (given / "redis-url").write_text(site.redis.url)
    where = f"127.0.0.1:{free_port()}"
    settings = {
        "http_bind": where,
        "redis_url_file": "/run/redis-url",
        "store_url": f"sqlite:///{image.config['WorkingDir']}/alerts.db",
        "stream": site.stream,
        "webhook_url": site.settings["webhook_url"],
        "processes": processes,
    }
    environment = {f"TRIO_ALERTS_{name.upper()}": text for name, text in settings.items()}
    test = [text.replace("8080", where.rpartition(":")[2]) for text in image.config["Healthcheck"]["Test"][1:]]
    check = image.inside(volume, given, *image.config["Env"], *test)
    log = tmp_path / "log"
    assert 1 == subprocess.run(check, capture_output=True, check=False).returncode
    with container(image.command(volume, given, environment), log) as process:
        wait_until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0, "healthy")
        site.emit(alert_id="first")
        wait_until(lambda: receiver.totals().accepted == 1, "delivered")
        receiver.set_scripts({"*": Script([Step(200, delay_s=5.0)])})
        site.emit(alert_id="second")
        wait_until(lambda: in_flight(where) == 1, "being sent")
        assert 0 == stop_container(process), log.read_text()
    assert 2 == receiver.totals().accepted
    assert 0 == site.pending()


def in_flight(where: str) -> float:
    with urllib.request.urlopen(f"http://{where}/metrics", timeout=10) as answer:
        (found,) = re.findall(r"^trio_alerts_in_flight (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found)


def test_nothing_can_be_written_but_the_volume(image: Image, tmp_path: Path) -> None:
    """Or the test above would prove nothing about a read-only root, nor about a user that is not root."""
    volume = tmp_path / "volume"
    volume.mkdir()
    os.chown(volume, USER, USER)
    tries = 'id=$(cat /proc/self/status); echo > here && echo volume; echo > /tmp/x || echo refused; echo "$id"'
    done = subprocess.run(
        image.inside(volume, tmp_path, *image.config["Env"], "sh", "-c", tries),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("volume\nrefused\n"), done
    assert re.search(rf"^Uid:\t{USER}\t{USER}\t", done.stdout, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", done.stdout, re.MULTILINE)
