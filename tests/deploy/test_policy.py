"""checkov scans deploy/ and finds only what was decided otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.tools import run

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.drill  # checkov is installed first, and reads for a minute

# The check, the resource, and why it is not followed.
AWS_EXCEPTIONS = {
    ("CKV_AWS_260", "AWS::EC2::SecurityGroup.ElbSecurityGroup"): "port 80 only redirects to 443",
    ("CKV_AWS_18", "AWS::S3::Bucket.Bucket"): "access logs cost money; the registry has an audit log",
    ("CKV_AWS_91", "AWS::ElasticLoadBalancingV2::LoadBalancer.LoadBalancer"): "likewise; it logs its requests",
    ("CKV_AWS_40", "AWS::IAM::Policy.RegistryUserPolicy"): "there is one machine user, and no group to put it in",
    ("CKV_AWS_149", "AWS::SecretsManager::Secret.SigningSecret"): "the service's own key is enough",
    ("CKV_AWS_149", "AWS::SecretsManager::Secret.RegistrySecret"): "the service's own key is enough",
    ("CKV_AWS_16", "AWS::RDS::DBInstance.Database"): "it is encrypted, unless it comes from a snapshot, which decides",
    ("CKV_AWS_157", "AWS::RDS::DBInstance.Database"): "a standby doubles the price: the parameter DBMultiAZ",
    ("CKV_AWS_118", "AWS::RDS::DBInstance.Database"): "the alarms of alarms.yaml are enough",
    ("CKV_AWS_161", "AWS::RDS::DBInstance.Database"): "the database does not use IAM sign-in",
    ("CKV_AWS_88", "AWS::EC2::Instance.RegistryInstance"): "operators connect by SSH from SshInputCIDR",
    ("CKV_AWS_88", "AWS::EC2::LaunchTemplate.LaunchTemplate"): "likewise, to the instances of scale-out.yaml",
    ("CKV_AWS_26", "AWS::SNS::Topic.Topic"): "messages of alarms.yaml are not secret",
}
PODS = ("Deployment.default.quilt-registry", "Job.default.quilt-registry-migrate-0.1.0")
NAMESPACED = (*PODS, *(f"{kind}.default.quilt-registry" for kind in ("Service", "Ingress", "Secret")))
KUBERNETES_EXCEPTIONS = {
    **{("CKV_K8S_11", pod): "a limit of CPU only makes pushes slow on idle nodes" for pod in PODS},
    **{("CKV_K8S_15", pod): "a release's tag never moves" for pod in PODS},
    **{("CKV_K8S_43", pod): "the image is the operator's own; its digest is theirs to put there" for pod in PODS},
    **{("CKV_K8S_35", pod): "the settings are the environment, as everywhere" for pod in PODS},
    **{("CKV_K8S_21", each): "the namespace is the operator's choice, kubectl --namespace" for each in NAMESPACED},
}
IMAGE_EXCEPTIONS = {("CKV_DOCKER_7", "Dockerfile.FROM"): "BASE, which it does not read, has a version and a digest"}


@pytest.fixture(scope="module")
def reports() -> dict[str, Any]:
    """Return checkov's report for each kind of file."""
    files = [*sorted((ROOT / "deploy/aws").glob("*.yaml")), *sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))]
    kinds = ("cloudformation", "kubernetes", "dockerfile")
    options = ("--skip-download", "--quiet", "--compact", "--output", "json")  # no request to checkov's vendor
    done = run("checkov", "--framework", *kinds, *options, "--file", *files, ROOT / "Dockerfile")
    return {report["check_type"]: report for report in json.loads(done.stdout)}


@pytest.mark.parametrize(
    ("kind", "least", "decided"),
    [
        ("cloudformation", 59, AWS_EXCEPTIONS),
        ("kubernetes", 169, KUBERNETES_EXCEPTIONS),
        ("dockerfile", 69, IMAGE_EXCEPTIONS),
    ],
    ids=["AWS", "Kubernetes", "the image"],
)
def test_nothing_is_found_but_what_was_decided(
    reports: dict[str, Any], kind: str, least: int, decided: dict[tuple[str, str], str]
) -> None:
    """`least` is the number of checks that pass now. Fewer would mean that checkov reads less."""
    summary, results = reports[kind]["summary"], reports[kind]["results"]
    assert summary["parsing_errors"] == 0
    assert summary["passed"] >= least
    failed = [(each["check_id"], each["resource"].removeprefix(f"{ROOT}/")) for each in results["failed_checks"]]
    assert sorted(failed) == sorted(decided)
