"""The Kubernetes manifests: valid, confined, and with settings that the registry knows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from quilt_registry import __version__, settings
from quilt_registry.cli import cli
from quilt_registry.cli.serve import SHUTDOWN_TIMEOUT
from quilt_registry.cli.server import LINGER_TIMEOUT
from tests.deploy.tools import run

pytestmark = pytest.mark.drill

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
OBJECTS: list[dict[str, Any]] = [
    each for file in sorted(KUBERNETES.glob("*.yaml")) for each in yaml.safe_load_all(file.read_text())
]


def one(kind: str) -> dict[str, Any]:
    [found] = [each for each in OBJECTS if each["kind"] == kind]
    return found


def pod(kind: str) -> dict[str, Any]:
    spec: dict[str, Any] = one(kind)["spec"]["template"]["spec"]
    return spec


def container(kind: str) -> dict[str, Any]:
    [found] = pod(kind)["containers"]
    return dict(found)


def names_of(kind: str) -> dict[str, str]:
    labels: dict[str, str] = one(kind)["spec"]["template"]["metadata"]["labels"]
    return labels


def chosen(selector: dict[str, str]) -> list[str]:
    return [kind for kind in ("Deployment", "Job") if selector.items() <= names_of(kind).items()]


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_knows_every_field(version: str) -> None:
    files = sorted(KUBERNETES.glob("*.yaml"))
    done = run("kubernetes-validate", "--strict", "--kubernetes-version", version, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (done.stdout + done.stderr).count(" passed ") == len(OBJECTS)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("replicas: 2", "replicas: two"), ("maxUnavailable: 0", "maxUnavailabel: 0"), ("port: 80", "port: [80]")],
)
def test_a_mistake_would_be_found(tmp_path: Path, right: str, wrong: str) -> None:
    text = (KUBERNETES / "registry.yaml").read_text()
    assert right in text
    (tmp_path / "slip.yaml").write_text(text.replace(right, wrong, 1))
    assert run("kubernetes-validate", "--strict", tmp_path / "slip.yaml").returncode != 0


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_a_pod_can_do_little(kind: str) -> None:
    spec, inside = pod(kind), container(kind)
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert inside["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["volumes"] == [{"name": "tmp", "emptyDir": {}}]
    assert inside["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert inside["resources"]["requests"] == {"cpu": "250m", "memory": "512Mi"}


def test_a_rollout_takes_no_pod_away_before_another_answers() -> None:
    deployment = one("Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    for probe in ("readinessProbe", "livenessProbe"):
        assert container("Deployment")[probe]["httpGet"] == {"path": "/healthcheck", "port": "http"}
    [_, pause] = container("Deployment")["lifecycle"]["preStop"]["exec"]["command"]
    assert int(pause) + LINGER_TIMEOUT + SHUTDOWN_TIMEOUT <= pod("Deployment")["terminationGracePeriodSeconds"] == 75


def test_the_pods_of_the_registry_and_no_others_serve() -> None:
    assert chosen(one("Service")["spec"]["selector"]) == ["Deployment"]
    for kind in ("Deployment", "PodDisruptionBudget"):
        assert chosen(one(kind)["spec"]["selector"]["matchLabels"]) == ["Deployment"]
    [port] = one("Service")["spec"]["ports"]
    assert port["targetPort"] in [each["name"] for each in container("Deployment")["ports"]]


def test_the_job_migrates_with_the_image_that_will_serve() -> None:
    job, server = container("Job"), container("Deployment")
    assert job["image"] == server["image"]
    assert job["image"].endswith(f":{__version__}")
    assert one("Job")["metadata"]["name"] == f"quilt-registry-migrate-{__version__}"
    assert job["envFrom"] == server["envFrom"] == [{"secretRef": {"name": one("Secret")["metadata"]["name"]}}]
    for each in (job, server):
        assert each["args"][0] in cli.commands


def test_both_names_come_to_the_service_over_tls() -> None:
    ingress, given = one("Ingress")["spec"], one("Secret")["stringData"]
    hosts = [given[name].removeprefix("https://") for name in ("CATALOG_URL", "REGISTRY_URL")]
    assert [rule["host"] for rule in ingress["rules"]] == hosts == ingress["tls"][0]["hosts"]
    for rule in ingress["rules"]:
        [path] = rule["http"]["paths"]
        assert path["backend"]["service"] == {"name": one("Service")["metadata"]["name"], "port": {"name": "http"}}


def test_only_the_ingress_comes_in_and_little_goes_out() -> None:
    policy = one("NetworkPolicy")["spec"]
    assert chosen(policy["podSelector"]["matchLabels"]) == ["Deployment", "Job"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    [incoming] = policy["ingress"]
    assert [list(each) for each in incoming["from"]] == [["namespaceSelector"]]
    ports = [port["port"] for rule in policy["egress"] for port in rule["ports"]]
    assert ports == [53, 53, 5432, 443, int(one("Secret")["stringData"]["SMTP_PORT"])]


def test_the_settings_start_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    given = one("Secret")["stringData"]
    assert given.keys() <= settings.variables()
    for name in settings.variables():
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert settings.load().package_bucket_name == given["PACKAGE_BUCKET_NAME"]
    assert settings.warnings() == []
    secrets = {name: value for name, value in given.items() if re.search("SECRET|PASSWORD|KEY", name)}
    assert all(value.isupper() for value in secrets.values()), "the example holds a real secret"
