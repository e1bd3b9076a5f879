"""The Compose file: loaded by Compose's own library, and each of its parts tried on the real programs that are here."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import AuthenticationError, ConnectionError, TimeoutError  # noqa: A004 - redis' own

from tests.real.test_chart import answers
from tests.support.judges import built
from tests.support.obtain import obtain
from tests.support.program import Program, wait_until
from tests.support.servers import ReceiverServer, ValkeyServer
from tests.support.servers.process import free_port
from trio_alerts.settings.settings import Settings

pytestmark = pytest.mark.registry

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
(RECIPE,) = re.findall(r"```sh\n(mkdir .*?)```", (ROOT / "docs" / "deploying.md").read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """The project as Compose sees it: merged, with defaults, paths absolute."""
    done = subprocess.run([built("containers") / "compose", FILE], capture_output=True, check=False)
    assert (0, b"") == (done.returncode, done.stderr)
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What the page says to do first, done in a folder of its own; return the folder with the secrets."""
    shutil.copytree(FILE.parent / "redis", tmp_path / "deploy" / "redis")
    subprocess.run(["sh", "-eu", "-c", RECIPE], cwd=tmp_path, check=True)
    return tmp_path / "deploy" / "secrets"


def test_every_service_is_confined(project: dict[str, Any]) -> None:
    """No capability, no new privileges, a user but root, a read-only root, a bound on memory, a health check."""
    assert {"valkey", "opensearch", "worker", "console", "prometheus", "grafana"} == project["services"].keys()
    for name, service in project["services"].items():
        assert (["ALL"], ["no-new-privileges:true"]) == (service["cap_drop"], service["security_opt"]), name
        assert service["user"].split(":")[0] not in ("0", "root", ""), name
        assert service.get("read_only", False) is (name != "opensearch"), name
        assert int(service["mem_limit"]) > 0, name
        assert "healthcheck" in service or name == "worker", name  # the image has the worker's
        assert all(port["host_ip"] == "127.0.0.1" for port in service.get("ports", [])), name
        assert not re.search("PASSWORD$|TOKEN$|SECRET$", " ".join(service.get("environment", {}))), name
    assert project["networks"]["backends"]["internal"]
    for name in ("valkey", "opensearch"):
        assert ["backends"] == list(project["services"][name]["networks"])


def test_a_stop_waits_for_the_worker(project: dict[str, Any]) -> None:
    """As long as the program itself may take, with the settings of the file."""
    assert (
        f"{Settings.grace_s + 2 * Settings.store_timeout_s + 10:g}s"
        == project["services"]["worker"]["stop_grace_period"]
    )
    text = (FILE.parent / "compose" / "trio-alerts.toml").read_text()
    assert not re.search("^(grace_s|store_timeout_s)", text, re.MULTILINE)


def test_every_file_that_is_mounted_is_there(project: dict[str, Any], secrets: Path) -> None:
    """Those of the repository, and the secrets that the page makes: no more, no fewer, none empty."""
    made = {path.name for path in secrets.iterdir()}
    assert {Path(one["file"]).name for one in project["secrets"].values()} | {"producer-redis-url"} == made
    for name, one in project["secrets"].items():
        assert FILE.parent / "secrets" / name == Path(one["file"])
        assert (secrets / name).stat().st_size > 0
    for one in project["configs"].values():
        assert Path(one["file"]).is_file()


class ConfiguredValkey(ValkeyServer):
    """One that tells nothing to whoever has no password, but that it is there."""

    def is_ready(self) -> bool:
        with self.client() as client:
            try:
                client.ping()
            except AuthenticationError:
                return True
            except (ConnectionError, TimeoutError):
                return False
        return False


def test_valkey_worker_and_console_find_each_other(
    project: dict[str, Any], secrets: Path, receiver: ReceiverServer, tmp_path: Path
) -> None:
    """Valkey takes its configuration and the ACL; through it, alerts go out with these settings and secrets.

    What is called by the name of a service there is on this machine here. The console is healthy while it runs.
    """
    services = project["services"]
    assert ["valkey-server", "/etc/valkey.conf"] == services["valkey"]["command"]
    lines = (FILE.parent / "compose" / "valkey.conf").read_text().replace("/run/secrets", str(secrets)).splitlines()
    assert "dir /data" == lines.pop(0)
    port = free_port()
    check = services["console"]["healthcheck"]["test"]
    command = [text.replace("0.0.0.0:8081", f"127.0.0.1:{port}") for text in services["console"]["command"]]
    with obtain(lambda: ConfiguredValkey(extra=lines)) as server:
        for path in secrets.glob("*-redis-url"):
            path.write_text(path.read_text().replace("@valkey:6379", f"@127.0.0.1:{server.port}"))
        (secrets / "store-url").write_text(f"sqlite:///{tmp_path}/alerts.db")
        (secrets / "webhook-url").write_text(f"{receiver.url}/hook")
        worker, operator = (
            Program(tmp_path, {"config": str(configured(services, name, secrets, tmp_path))})
            for name in ("worker", "console")
        )
        producer = Program(tmp_path, {"redis_url_file": str(secrets / "producer-redis-url")})
        checked = worker.call("check")
        assert (0, "") == (checked.exit_code, checked.err)
        with worker.running():
            emitted = producer.call("emit", str(ROOT / "examples" / "alerts.jsonl"))
            assert 0 == emitted.exit_code, emitted
            wait_until(lambda: receiver.totals().accepted > 100, "alerts go out", worker)
            with operator.serving(*command, console_token_file=str(secrets / "console-token")):
                wait_until(lambda: healthy(check, 8081, port), "the console is healthy", operator)
                assert not answers(f"http://127.0.0.1:{port}/")  # not without the token
        assert not healthy(check, 8081, port)


def configured(services: dict[str, Any], name: str, secrets: Path, folder: Path) -> Path:
    """Write the file of settings as a service finds it, with the secrets that are mounted for that one."""
    text = (FILE.parent / "compose" / "trio-alerts.toml").read_text()
    for one in services[name]["secrets"]:
        mounted = f"/run/secrets/{Path(one.get('target', one['source'])).name}"
        text = text.replace(f'"{mounted}"', f'"{secrets / one["source"]}"')
    assert "/run/secrets" not in text
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def healthy(test: list[str], port: int, here: int) -> bool:
    """Run a health check as it stands, but for the port."""
    assert "CMD" == test[0]
    command = [text.replace(str(port), str(here)) for text in test[1:]]
    assert command != test[1:]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_what_is_mounted_is_where_the_others_look(project: dict[str, Any]) -> None:
    """Prometheus finds its rules and the workers, Grafana its dashboard and Prometheus, by the names that they have."""
    services = project["services"]
    mounted = {one["target"] for service in services.values() for one in service.get("configs", [])}
    prometheus = (FILE.parent / "prometheus" / "prometheus.yml").read_text()
    (rules,) = re.findall(r"^rule_files:\n  - (\S+)$", prometheus, re.MULTILINE)
    (folder,) = re.findall(
        r"path: (\S+)$", Path(project["configs"]["grafana-dashboards"]["file"]).read_text(), re.MULTILINE
    )
    datasource = Path(project["configs"]["grafana-datasource"]["file"]).read_text()

    assert {f"/etc/prometheus/{rules}", f"{folder}/dashboard.json"} <= mounted
    assert "--config.file=/etc/prometheus/prometheus.yml" in services["prometheus"]["command"]
    assert "names: [worker], type: A, port: 8080" in prometheus
    assert "url: http://prometheus:9090\n" in datasource
    assert set(services["prometheus"]["networks"]) & set(services["worker"]["networks"])
    assert set(services["prometheus"]["networks"]) & set(services["grafana"]["networks"])
