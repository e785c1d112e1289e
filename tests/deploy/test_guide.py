"""Everything that the operator's guide types exists: AWS calls and options, parameters, outputs, commands, files."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import boto3
import botocore.session
import pytest
from botocore import xform_name
from moto import mock_aws

from tests.deploy.templates import AWS, load

ROOT = AWS.parents[1]
GUIDE = (AWS.parent / "README.md").read_text()
GLOBAL_OPTIONS = {"query", "output", "region", "profile"}  # options of every call
NOT_AN_API = {("s3", "cp"), ("s3", "sync"), ("s3", "ls")}
SESSION = botocore.session.get_session()


def lines() -> Iterator[str]:
    """Yield all lines that are marked as code, with continued lines joined."""
    for block in re.findall(r"^ *```\n(.*?)^ *```", GUIDE, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()
    for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", GUIDE, flags=re.DOTALL)):
        yield " ".join(code.split())


def calls() -> list[tuple[str, str, str]]:
    """Return each AWS call: service, operation, options as written."""
    found = []
    for line in lines():
        for call in re.split(r"(?=\baws [a-z0-9]+ [a-z-]+)", line):
            if match := re.match(r"aws ([a-z0-9]+) ([a-z0-9-]+)(.*)", call):
                found.append(match.groups())
    return found  # type: ignore[return-value]


CALLS = [call for call in calls() if call[:2] not in NOT_AN_API]


def test_the_guide_was_read() -> None:
    assert len(CALLS) > 25
    assert {"cloudformation", "rds", "ec2", "iam", "elbv2", "autoscaling"} <= {service for service, _, _ in CALLS}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(call[:2]))
def test_aws_knows_the_call_and_its_options(call: tuple[str, str, str]) -> None:
    service, operation, rest = call
    options = {option.removeprefix("no-") for option in re.findall(r"--([a-z-]+)", rest)}
    service = {"s3api": "s3"}.get(service, service)
    model = SESSION.get_service_model(service)
    if operation == "wait":
        waiters = {xform_name(name, "-"): name for name in SESSION.get_waiter_model(service).waiter_names}
        assert rest.split()[0] in waiters
        operation = xform_name(SESSION.get_waiter_model(service).get_waiter(waiters[rest.split()[0]]).operation, "-")
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations
    shape = model.operation_model(operations[operation]).input_shape
    assert options - GLOBAL_OPTIONS <= {xform_name(member, "-") for member in shape.members}
    if rest.strip() and "…" not in rest:
        assert {xform_name(member, "-") for member in shape.required_members} <= options | {"aws"}


def changed(stack: str) -> set[str]:
    """Return the parameters of a stack that the guide changes."""
    calls = re.findall(rf"change\.sh {stack} ([^`\n#]*)", GUIDE)
    return {key for words in calls for key in re.findall(r"\b([A-Z]\w+)=", words)}


def test_every_parameter_and_output_is_of_the_template() -> None:
    template = load()
    keys, more = changed("registry"), changed("registry-more")
    named = set(re.findall(r"`([A-Z][A-Za-z]*[a-z][A-Za-z]*)(?:=[^`]*)?`", GUIDE)) - {"AdministratorAccess"}
    assert len(keys) > 5
    assert keys <= template["Parameters"].keys()
    assert more == {"ReleaseUrl", "ReleaseSha256"} <= load("scale-out.yaml")["Parameters"].keys()
    outputs = set(re.findall(r"\$\(out (\w+)\)", GUIDE))
    assert len(outputs) > 5
    assert outputs <= template["Outputs"].keys()
    known = {*template["Parameters"], *template["Resources"], *template["Outputs"]}
    known |= set(load("scale-out.yaml")["Parameters"])
    assert named <= known


@pytest.mark.parametrize("name", ["scale-out.yaml", "alarms.yaml"])
def test_a_further_stack_is_launched_with_all_it_needs(name: str) -> None:
    [line] = [line for line in lines() if f"deploy/aws/{name}" in line]
    given = set(re.findall(r"ParameterKey=(\w+)", line))
    parameters = load(name)["Parameters"]
    assert given <= parameters.keys()
    assert {key for key, parameter in parameters.items() if "Default" not in parameter} <= given


def test_every_file_and_command_exists() -> None:
    for file in set(re.findall(r"\bdeploy/[\w./-]+\w", GUIDE)):
        assert (ROOT / file).exists(), file
    words = set(re.findall(r"bootstrap\.sh ([a-z]+)", GUIDE))
    assert words == {"install", "configure", "start", "rollback"}


def blocks(title: str) -> list[str]:
    """Return the code blocks of a section."""
    section = GUIDE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


def test_the_guide_begins_with_the_release() -> None:
    titles = re.findall(r"^## (.*)", GUIDE, re.MULTILINE)
    assert titles[:3] == ["Architecture", "Build and host the release", "Launch"]
    first, *_ = blocks("Build and host the release")
    assert first.split("#")[0].strip() == "make release"
    assert "RegistryPackage" not in GUIDE
    assert "REGISTRY_PACKAGE" not in GUIDE


def test_a_quota_is_named_for_what_the_template_creates() -> None:
    quotas = {row[0] for row in re.findall(r"`(\w+)`, `(L-[0-9A-F]{8})`", GUIDE)}
    assert quotas == {"ec2", "vpc", "elasticloadbalancing", "rds", "ses"}


# ------------------------------------------------------------------------------------------------ replication

COPY = "example-com-quilt-copy"  # as in the guide


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[Any]:
    """An account in the emulator in which the guide's commands for replication have run."""
    with mock_aws():
        session = boto3.Session(region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key="secret")
        for bucket in ("packages", COPY):
            session.client("s3").create_bucket(Bucket=bucket)
            session.client("s3").put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        [script] = [block for block in blocks("Backup and recovery") if "put-bucket-replication" in block]
        fill_in = script.partition("aws s3api")[0].partition("\n")[2]  # the account is the emulator's
        prelude = "set -eu; out() { echo packages; }; account=123456789012\n"
        fill_in = fill_in.replace(">replication-", f">{tmp_path}/replication-")
        subprocess.run(["bash", "-c", prelude + fill_in], cwd=ROOT, check=True)
        texts = {file: (tmp_path / f"replication-{file}.json").read_text() for file in ("role", "policy", "rule")}
        iam = session.client("iam")
        iam.create_role(RoleName="registry-replication", AssumeRolePolicyDocument=texts["role"])
        iam.put_role_policy(RoleName="registry-replication", PolicyName="replication", PolicyDocument=texts["policy"])
        session.client("s3").put_bucket_replication(
            Bucket="packages", ReplicationConfiguration=json.loads(texts["rule"])
        )
        yield session


def test_the_rule_copies_all_objects_and_no_deletion(replicated: Any) -> None:
    found = replicated.client("s3").get_bucket_replication(Bucket="packages")["ReplicationConfiguration"]
    assert found["Role"] == replicated.client("iam").get_role(RoleName="registry-replication")["Role"]["Arn"]
    [rule] = found["Rules"]
    assert (rule["Status"], rule["Filter"], rule["Priority"]) == ("Enabled", {"Prefix": ""}, 1)
    assert rule["DeleteMarkerReplication"] == {"Status": "Disabled"}
    assert rule["Destination"]["Bucket"] == f"arn:aws:s3:::{COPY}"


def test_only_s3_of_this_account_can_take_the_role(replicated: Any) -> None:
    role = replicated.client("iam").get_role(RoleName="registry-replication")["Role"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "s3.amazonaws.com"}
    assert statement["Condition"] == {"StringEquals": {"aws:SourceAccount": "123456789012"}}


def test_the_role_reads_one_bucket_and_writes_the_other(replicated: Any) -> None:
    named = {"RoleName": "registry-replication", "PolicyName": "replication"}
    statements = replicated.client("iam").get_role_policy(**named)["PolicyDocument"]["Statement"]
    allowed = {statement["Resource"]: set(statement["Action"]) for statement in statements}
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    assert allowed == {
        "arn:aws:s3:::packages": {"s3:GetReplicationConfiguration", "s3:ListBucket"},
        "arn:aws:s3:::packages/*": {
            "s3:GetObjectVersionAcl",
            "s3:GetObjectVersionForReplication",
            "s3:GetObjectVersionTagging",
        },
        f"arn:aws:s3:::{COPY}/*": {"s3:ReplicateObject", "s3:ReplicateTags"},  # no ReplicateDelete
    }


# ------------------------------------------------------------------------------------------------ the picture


def test_the_picture_is_linked_and_readable_in_light_and_dark() -> None:
    [picture] = re.findall(r"!\[.+\]\((aws/.+\.svg)\)", GUIDE)
    root = ElementTree.parse(AWS.parent / picture).getroot()
    space = {"svg": "http://www.w3.org/2000/svg"}
    assert root.find("svg:title", space) is not None
    assert root.find("svg:desc", space) is not None
    style = root.findtext("svg:style", namespaces=space) or ""
    light, _, dark = style.partition("@media (prefers-color-scheme: dark)")
    colored = [set(re.findall(r"^ *(.+?) \{[^{}]*#[0-9a-f]{6}", part, re.MULTILINE)) for part in (light, dark)]
    assert colored[0] == colored[1]
    for selector in (".page", "text", ".soft", ".public", ".private", ".data"):
        assert selector in colored[0]
    ink, page = (re.findall(rf"^ *{name} \{{[^}}]*fill: #(\w+)", style, re.MULTILINE) for name in ("text", r"\.page"))
    assert [_contrast(*pair) > 10 for pair in zip(ink, page, strict=True)] == [True, True]
    words = {
        word for text in root.iter("{http://www.w3.org/2000/svg}text") for word in re.findall(r"\w+", text.text or "")
    }
    template = load()
    assert not re.search(r"signs? (sessions|cookies)", ElementTree.tostring(root, "unicode"))
    camel = {word for word in words if re.search("[a-z][A-Z]", word)} - {"PostgreSQL"}
    assert camel <= {*template["Parameters"], *template["Resources"]}
    assert {"ReleaseUrl", "RegistrySecret", "SigningSecret", "ZoneA", "ZoneB"} <= camel


def _contrast(one: str, other: str) -> float:
    """Return the contrast of two colors as WCAG defines it, 1 to 21."""

    def luminance(color: str) -> float:
        parts = [int(color[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)
