"""The Helm chart: judged by Helm, by Kubernetes' schemas and security standard, and by the program that it starts."""

import json
import re
import shutil
import subprocess
import tomllib
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from tests.real.conftest import MakeSite
from tests.support.examples import secrets_for
from tests.support.judges import CRDS, built, environment, module_folder
from tests.support.program import Program, Site, wait_until
from tests.support.servers import RedisServer
from tests.support.servers.process import free_port
from trio_alerts.settings.settings import Settings

pytestmark = pytest.mark.registry

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "trio-alerts"
OURS = {"defaults": CHART / "values.yaml"} | {
    path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))
}
OLDEST = "1.27.0"  # kubeVersion in Chart.yaml
Validators = dict[str, jsonschema_rs.Validator]
SECRETS = "/run/secrets/trio-alerts"
every_values = pytest.mark.parametrize("values", OURS.values(), ids=OURS)


@pytest.fixture(scope="module")
def helm() -> Path:
    return built("chart") / "helm"


@pytest.fixture(scope="module")
def crds() -> Validators:
    """The custom resources of Prometheus Operator and KEDA by their kinds, as their own modules describe them."""
    found = {}
    for module, files in CRDS.items():
        for file in files:
            (one,) = json.loads(judged((module_folder(module) / file).read_bytes()).stdout)
            (version,) = one["spec"]["versions"]
            found[one["spec"]["names"]["kind"]] = jsonschema_rs.validator_for(
                strict(version["schema"]["openAPIV3Schema"])
            )
    return found


def strict(schema: Any) -> Any:
    """Return a schema that takes no field which it does not name, as the API server warns of."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(one) for name, one in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return closed


def rendered(helm: Path, values: Path, *options: str, chart: Path = CHART) -> bytes:
    done = subprocess.run(
        [helm, "template", "alerts", chart, "--kube-version", OLDEST, "-f", values, *options],
        capture_output=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def documents(manifests: bytes) -> dict[tuple[str, str], dict[str, Any]]:
    """Return each object by its kind and name; its Pods keep the Pod Security Standard "restricted"."""
    done = judged(manifests)
    assert (0, b"") == (done.returncode, done.stderr)
    return {(one["kind"], one["metadata"]["name"]): one for one in json.loads(done.stdout)}


def judged(manifests: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([built("chart") / "manifests"], input=manifests, capture_output=True, check=False)


def container(found: dict[tuple[str, str], dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    pod = found[kind, name]["spec"]
    (one,) = pod["template"]["spec"]["containers"] if kind == "Deployment" else pod["containers"]
    assert isinstance(one, dict)
    return one


@every_values
def test_helm_has_nothing_against_it(helm: Path, values: Path) -> None:
    """`helm lint --strict` finds no error and no warning."""
    done = subprocess.run([helm, "lint", "--strict", CHART, "-f", values], capture_output=True, check=False, text=True)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "1 chart(s) linted, 0 chart(s) failed" in done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("version", [OLDEST, "1.37.0"])
@every_values
def test_kubernetes_takes_what_is_rendered(helm: Path, crds: Validators, values: Path, version: str) -> None:
    """Every object is valid by the schema of its kind, and has no field that is not there."""
    manifests = rendered(helm, values)
    found = documents(manifests)
    custom = [one for one in found.values() if one["kind"] in crds]
    assert len(found) == len(re.findall(r"^kind: ", manifests.decode(), re.MULTILINE)) > 5
    for one in custom:
        crds[one["kind"]].validate(one)
    own = [one for one in found.values() if one["kind"] not in crds]
    assert (0, "") == kubernetes_says(own, version)


def test_everything_is_judged(helm: Path, crds: Validators) -> None:
    """The values that switch everything on render an object of every kind that there is a custom resource for."""
    found = documents(rendered(helm, OURS["everything"]))
    assert crds.keys() <= {kind for kind, _ in found}


def kubernetes_says(objects: list[dict[str, Any]], version: str) -> tuple[int, str]:
    """Return what Kubernetes' own schemas have against objects, and whether anything."""
    python = environment("kubernetes") / "bin" / "python"
    listed = "\n---\n".join(json.dumps(one) for one in objects)
    done = subprocess.run(
        [python, "-m", "kubernetes_validate", "--strict", "--quiet", "--no-warn", "-k", version, "/dev/stdin"],
        input=listed,
        capture_output=True,
        check=False,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_judges_can_say_no(helm: Path, crds: Validators) -> None:
    """An unknown field, a value that KEDA does not have, a Pod with too many rights: each is noticed."""
    manifests = rendered(helm, OURS["everything"])
    found = documents(manifests)
    found["Deployment", "alerts"]["spec"]["template"]["spec"]["terminationGraceSeconds"] = 1
    code, says = kubernetes_says([found["Deployment", "alerts"]], OLDEST)
    assert code != 0
    assert "terminationGraceSeconds" in says
    for path, wrong in (("fallback", {"failureThreshold": 3, "replicas": 2, "behavior": "any"}), ("lag", 1)):
        scaled = found["ScaledObject", "alerts"]
        assert not crds["ScaledObject"].is_valid(scaled | {"spec": scaled["spec"] | {path: wrong}})
    loose = judged(manifests.replace(b"allowPrivilegeEscalation: false", b"allowPrivilegeEscalation: true"))
    assert 1 == loose.returncode
    assert b"allowPrivilegeEscalation" in loose.stderr


@every_values
def test_run_would_start_with_these_settings(helm: Path, values: Path, valkey: RedisServer, tmp_path: Path) -> None:
    """The rendered file says what the values say, number for number, and `check` has nothing against it."""
    found = documents(rendered(helm, values))
    text = found["ConfigMap", "alerts"]["data"]["trio-alerts.toml"]
    here = placed(text, tmp_path, redis_url=valkey.url, store_url=f"sqlite:///{tmp_path}/alerts.db")
    ended = Program(tmp_path, {**here, "connect_timeout_s": "1"}).call("check")

    assert (0, "") == (ended.exit_code, ended.err)
    assert ended.out.endswith("`run` would start\n")
    if "everything" in values.name:
        settings = tomllib.loads(text)
        assert (1000, 40, 7.5, [5, 30.5, 28800], 31536000) == tuple(
            settings[name] for name in ("workers", "grace_s", "store_timeout_s", "retry_schedule_s", "trim_keep_s")
        )
        assert 'maintenance "of" Zürich \\ <test>' == settings["routes"][0]["name"]
        assert ["treasury", "lending & more"] == settings["routes"][0]["match"]["labels.team"]


def placed(text: str, folder: Path, **addresses: str) -> dict[str, str]:
    """Write a rendered file to a folder with the secrets that it names; return the settings of who runs with it."""
    text = re.sub(r"^(redis|store)_url(_file)? = .*\n", "", text, flags=re.MULTILINE)
    (folder / "trio-alerts.toml").write_text(secrets_for(text, SECRETS, folder))
    return {"config": str(folder / "trio-alerts.toml"), **addresses}


@pytest.mark.parametrize("name", ["alerts", "alerts-console"])
def test_the_probes_are_answered(helm: Path, make_site: MakeSite, name: str) -> None:
    """What the container is started with serves what the kubelet and Prometheus ask for, at the port that they ask."""
    found = documents(rendered(helm, OURS["everything"]))
    one = container(found, "Deployment", name)
    (port,) = one["ports"]
    asked = [one[kind]["httpGet"] for kind in ("startupProbe", "livenessProbe", "readinessProbe")]
    paths = {each["path"] for each in asked}
    if name == "alerts":
        paths.add(found["ServiceMonitor", name]["spec"]["endpoints"][0]["path"])
    assert (
        {port["name"]} == {each["port"] for each in asked} == {found["Service", name]["spec"]["ports"][0]["targetPort"]}
    )

    site = make_site(Site)
    text = re.sub("^streams = .*\n", "", found["ConfigMap", "alerts"]["data"]["trio-alerts.toml"], flags=re.MULTILINE)
    given = {entry["name"]: entry["value"] for entry in one["env"]}
    assert "/etc/trio-alerts/trio-alerts.toml" == given["TRIO_ALERTS_CONFIG"]
    where, here = f"0.0.0.0:{port['containerPort']}", f"127.0.0.1:{free_port()}"
    command = [here if argument == where else argument for argument in one["args"]]
    assert where == given["TRIO_ALERTS_HTTP_BIND"] if name == "alerts" else here in command
    site.settings = placed(text, site.folder) | ({"http_bind": here} if name == "alerts" else {})
    with ExitStack() as ending:
        if name == "alerts-console":  # it needs the store that a worker makes
            ending.enter_context(site.running())
            wait_until(lambda: "reading" in site.log(), "a worker reads", site)
        ending.enter_context(site.serving(*command))
        for path in sorted(paths):
            wait_until(lambda path=path: answers(f"http://{here}{path}"), path, site)  # type: ignore[misc]


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@every_values
def test_a_pod_has_the_time_to_drain(helm: Path, values: Path) -> None:
    """SIGKILL comes after what the program itself would kill: `grace_s`, two store time-outs and 4 s."""
    found = documents(rendered(helm, values))
    given = tomllib.loads(found["ConfigMap", "alerts"]["data"]["trio-alerts.toml"])
    grace_s = given.get("grace_s", Settings.grace_s)
    store_timeout_s = given.get("store_timeout_s", Settings.store_timeout_s)
    pod = found["Deployment", "alerts"]["spec"]["template"]["spec"]

    assert grace_s + 2 * store_timeout_s + 10 == pod["terminationGracePeriodSeconds"]


def test_changed_settings_replace_the_pods(helm: Path) -> None:
    """And nothing else does: the checksum is that of the file."""

    def checksum(*options: str) -> str:
        found = documents(rendered(helm, OURS["defaults"], *options))
        annotations = found["Deployment", "alerts"]["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/settings"])

    assert checksum() == checksum("--set", "replicas=3")
    assert checksum() != checksum("--set", "settings.workers=17")


def test_keda_looks_where_the_program_reads(helm: Path) -> None:
    """A trigger for each stream, by the program's group; the number of Pods is left to KEDA."""
    found = documents(rendered(helm, OURS["everything"]))
    spec = found["ScaledObject", "alerts"]["spec"]
    triggers = [trigger["metadata"] for trigger in spec["triggers"]]

    assert ["AlertStream:{0}", "AlertStream:{1}"] == [trigger["stream"] for trigger in triggers]
    assert [("pagers", "1000000", "redis.data:6379")] * 2 == [
        (trigger["consumerGroup"], trigger["lagCount"], trigger["address"]) for trigger in triggers
    ]
    assert "replicas" not in found["Deployment", "alerts"]["spec"]
    bare = documents(rendered(helm, OURS["defaults"], "--set", "keda.enabled=true,keda.address=r:6379"))
    (trigger,) = bare["ScaledObject", "alerts"]["spec"]["triggers"]
    assert (Settings.stream, Settings.group) == (trigger["metadata"]["stream"], trigger["metadata"]["consumerGroup"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("settings.worker=17", "additional properties 'worker' not allowed"),
        ("settings.workers=0", "minimum: got 0, want 1"),
        ("settings.http_bind=0.0.0.0:80", "additional properties 'http_bind' not allowed"),
        (
            "settings.redis_url_file=null,settings.redis_url=redis://us:hunter2@h/0",
            "settings.redis_url holds a password",
        ),
        ("settings.webhook_secret=aHVudGVyMg==", "additional properties 'webhook_secret' not allowed"),
        ("settings.channels[0].name=desk,settings.channels[0].url=https://h/s3cret", "'url' not allowed"),
        (
            "settings.channels[0].name=desk,settings.channels[0].url_file=/f,settings.channels[0].headers.Authorization=x",
            "'Authorization' does not match pattern '_file$'",
        ),
        ("settings.channels[0].name=desk,settings.channels[0].kind=sms", "value must be one of 'webhook', 'slack'"),
        ("replicas=-1", "minimum: got -1, want 0"),
        ("image.digest=latest", "does not match pattern"),
        ("bind=127.0.0.1:8080", "value must be one of '0.0.0.0:8080', '[::]:8080'"),
        ("keda.minReplicas=0", "minimum: got 0, want 1"),
        ("kedaa.enabled=true", "additional properties 'kedaa' not allowed"),
        ("settings.redis_url=redis://h/0", "settings.redis_url and settings.redis_url_file are both given"),
        ("settings.webhook_url_file=null", "settings has no channel, so nobody would be notified"),
        ("settings.store_url_file=null,settings.store_url=sqlite:////a.db", "Pods have none in common"),
        ("console.enabled=true", "the console must know its visitors"),
        ("networkPolicy.enabled=true", "without networkPolicy.backends"),
        ("keda.enabled=true", "keda.address must say where Redis is"),
        ("keda.enabled=true,keda.address=h:1,keda.minReplicas=11", "keda.minReplicas is more than keda.maxReplicas"),
    ],
)
def test_wrong_values_are_refused(helm: Path, options: str, says: str) -> None:
    """Before anything is sent to a cluster, and the message names the value, but never a secret."""
    done = subprocess.run(
        [helm, "template", "alerts", CHART, "--kube-version", OLDEST, "--set", options],
        capture_output=True,
        check=False,
        text=True,
    )
    assert 1 == done.returncode
    assert says in done.stderr
    assert not re.search("hunter|aHVudGVyMg|s3cret", done.stderr)


def test_the_notes_say_what_comes_next(helm: Path, tmp_path: Path) -> None:
    """They name the Secret, the check, and how long a stop takes. Helm shows them only where there is a cluster."""
    shutil.copytree(CHART, tmp_path / "trio-alerts")
    templates = tmp_path / "trio-alerts" / "templates"
    notes = "".join(f"  {line}\n" for line in (templates / "NOTES.txt").read_text().splitlines())
    (templates / "notes.yaml").write_text(f"kind: ConfigMap\nmetadata: {{name: notes}}\ntext: |\n{notes}")
    shown = rendered(helm, OURS["everything"], "--show-only", "templates/notes.yaml", chart=tmp_path / "trio-alerts")
    text = shown.decode()

    assert "AlertStream:{0}, AlertStream:{1}" in text
    assert "get secret trio-alerts" in text
    assert "port-forward service/alerts-console 8081:80" in text
    assert "A Pod that is told to stop has 65 s" in text
