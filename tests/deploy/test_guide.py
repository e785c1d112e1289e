"""Everything that the operator's guide types exists: AWS calls and options, parameters, outputs, commands, files."""

from __future__ import annotations

import re
from collections.abc import Iterator

import botocore.session
import pytest
from botocore import xform_name

from tests.deploy.templates import AWS, load

ROOT = AWS.parents[1]
GUIDE = (AWS.parent / "README.md").read_text()
GLOBAL_OPTIONS = {"query", "output", "region", "profile"}  # options of every call
NOT_AN_API = {("s3", "sync"), ("s3", "ls")}
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


def test_every_parameter_and_output_is_of_the_template() -> None:
    template = load()
    changed = re.findall(r"change\.sh registry ([^`\n#]*)", GUIDE)
    keys = {key for words in changed for key in re.findall(r"\b([A-Z]\w+)=", words)}
    named = set(re.findall(r"`([A-Z][A-Za-z]*[a-z][A-Za-z]*)(?:=[^`]*)?`", GUIDE)) - {"AdministratorAccess"}
    assert len(keys) > 5
    assert keys <= template["Parameters"].keys()
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
