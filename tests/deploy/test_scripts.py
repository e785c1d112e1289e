"""The scripts: shellcheck on all of them, and change.sh against a recording stand-in of the AWS command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.templates import AWS, load, tool

ROOT = AWS.parents[1]
SCRIPTS = [*sorted((ROOT / "deploy").rglob("*.sh")), ROOT / ".ci" / "run"]
MACHINES = {
    "template.yaml": lambda resources: resources["RegistryInstance"]["Properties"],
    "scale-out.yaml": lambda resources: resources["LaunchTemplate"]["Properties"]["LaunchTemplateData"],
}
BOOTS = [("template.yaml", "RegistryInstance"), ("scale-out.yaml", "Group")]

STAND_IN = (
    f"#!{sys.executable} -IS\n"
    + """
import json, pathlib, sys
here, words = pathlib.Path(__file__).parent, sys.argv[1:]
given = [word.removeprefix("file://") for word in words if word.startswith("file://") and "parameters" in word]
sent = json.loads(pathlib.Path(given[0]).read_text()) if given else None
with open(here / "calls", "a") as calls:
    calls.write(json.dumps({"words": words, "parameters": sent}) + "\\n")
command = " ".join(words[1:3] if words[1] == "wait" else words[1:2])
answer = json.loads((here / "answers").read_text()).get(command, "")
if answer is None:
    sys.exit("the stand-in fails on purpose")
print(answer)
"""
)


class Operator:
    """An operator's machine, and a stack that the stand-in describes."""

    def __init__(self, at: Path) -> None:
        self.at = at
        (at / "aws").write_text(STAND_IN)
        (at / "aws").chmod(0o755)
        self.parameters = {
            "TeamName": "Research",
            "DBPassword": "****",
            "DBSnapshotIdentifier": "",
            "DBMultiAZ": "false",
            "InstanceType": "t4g.small",
            "AmiX86": "/x86",
            "AmiArm": "/arm",
            "AmiOverride": "",
        }
        self.changes = ["RegistrySecret\tModify\tFalse\tTeamName"]
        self.answers: dict[str, str | None] = {
            "describe-stack-resource": "i-1",
            "describe-instances": "ami-old\tarm64",
            "describe-instance-types": "arm64",
            "get-parameter": "ami-old",
            "create-change-set": "arn:change-set",
        }

    def change(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        """Run change.sh for the stack `registry`."""
        answers = {
            "describe-stacks": "\n".join(f"{key}\t{value}" for key, value in self.parameters.items()),
            "get-template-summary": "\t".join(self.parameters),
            "describe-change-set": "\n".join(self.changes),
        }
        (self.at / "answers").write_text(json.dumps(answers | self.answers))
        (self.at / "calls").unlink(missing_ok=True)
        command = [AWS / "change.sh", "registry", *words]
        environment = os.environ | {"PATH": f"{self.at}:{os.environ['PATH']}", "TMPDIR": str(self.at)}
        return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, check=False)

    def calls(self, command: str) -> list[dict[str, Any]]:
        path = self.at / "calls"
        every = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call for call in every if command in call["words"]]

    def sent(self) -> dict[str, str | None]:
        """Return the requested change set as value by parameter. None keeps the value."""
        (call,) = self.calls("create-change-set")
        return {one["ParameterKey"]: one.get("ParameterValue") for one in call["parameters"]}


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


def _shellcheck(script: str) -> str:
    done = subprocess.run([tool("shellcheck"), "-"], input=script, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.relative_to(ROOT)))
def test_shellcheck_finds_nothing(script: Path) -> None:
    assert _shellcheck(script.read_text()) == ""
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize(("name", "resource"), BOOTS)
def test_shellcheck_finds_nothing_in_what_a_template_carries(name: str, resource: str) -> None:
    files = load(name)["Resources"][resource]["Metadata"]["AWS::CloudFormation::Init"]["host"]["files"]
    assert _shellcheck(files["/opt/quilt-registry/bootstrap.sh"]["content"]) == ""
    user_data = MACHINES[name](load(name)["Resources"])["UserData"]["Fn::Base64"]["Fn::Sub"]
    assert _shellcheck(re.sub(r"\$\{AWS::(\w+)\}", r"\1", user_data)) == ""


def test_a_boot_without_its_settings_says_so(tmp_path: Path) -> None:
    script = (AWS / "bootstrap.sh").read_text().replace("/etc/quilt-registry", str(tmp_path))
    done = subprocess.run(
        ["bash", "-c", script, "bootstrap.sh", "install"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == f"bootstrap.sh: {tmp_path}/host.env is missing.\n"


def test_a_change_is_shown_and_not_made(operator: Operator) -> None:
    done = operator.change("TeamName=New name")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^RegistrySecret +Modify +in place +TeamName$", done.stdout, re.MULTILINE)
    assert operator.calls("execute-change-set") == []
    assert len(operator.calls("delete-change-set")) == 1


def test_every_other_parameter_stays(operator: Operator) -> None:
    operator.change('TeamName=Anna\'s "team" \\o/')
    assert operator.sent() == dict.fromkeys(operator.parameters) | {"TeamName": 'Anna\'s "team" \\o/'}


def test_a_change_is_made_when_asked(operator: Operator) -> None:
    done = operator.change("TeamName=New", "--execute")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Done.")
    (call,) = operator.calls("execute-change-set")
    assert "arn:change-set" in call["words"]
    assert len(operator.calls("stack-update-complete")) == 1
    assert operator.calls("delete-change-set") == []


def test_an_update_that_fails_is_reported(operator: Operator) -> None:
    operator.answers["wait stack-update-complete"] = None
    done = operator.change("TeamName=New", "--execute")
    assert done.returncode == 1
    assert "rolled back" in done.stderr


@pytest.mark.parametrize("resource", ["Database", "Bucket", "RegistryUser", "SigningSecret"])
@pytest.mark.parametrize(("action", "replacement"), [("Remove", "False"), ("Modify", "True")])
def test_no_change_loses_data(operator: Operator, resource: str, action: str, replacement: str) -> None:
    operator.changes.append(f"{resource}\t{action}\t{replacement}\tsomething")
    done = operator.change("TeamName=New", "--execute")
    assert done.returncode == 2
    assert f"{resource} would be lost" in done.stderr
    assert operator.calls("execute-change-set") == []
    assert len(operator.calls("delete-change-set")) == 1


def test_what_can_be_made_again_may_be_replaced(operator: Operator) -> None:
    operator.changes = ["RegistryInstance\tModify\tTrue\tAmiArm", "Database\tModify\tConditional\tDBMultiAZ"]
    done = operator.change("DBMultiAZ=true", "--execute")
    assert done.returncode == 0, done.stderr
    assert "perhaps replaced" in done.stdout


@pytest.mark.parametrize(("before", "after"), [("snap-1", ""), ("snap-1", "snap-2"), ("", "snap-1")])
def test_the_snapshot_stays(operator: Operator, before: str, after: str) -> None:
    operator.parameters["DBSnapshotIdentifier"] = before
    assert operator.change(f"DBSnapshotIdentifier={after}", "--execute").returncode == 2
    assert operator.calls("create-change-set") == []


def test_the_standby_stays(operator: Operator) -> None:
    operator.parameters["DBMultiAZ"] = "true"
    done = operator.change("DBMultiAZ=false", "--execute")
    assert done.returncode == 2
    assert "DBMultiAZ must stay true" in done.stderr
    assert operator.calls("create-change-set") == []


def test_a_newer_image_does_not_come_by_itself(operator: Operator) -> None:
    operator.answers["get-parameter"] = "ami-new"
    done = operator.change("TeamName=New")
    assert operator.sent()["AmiOverride"] == "ami-old"
    assert "ami-new" in done.stdout
    assert "/arm" in operator.calls("get-parameter")[0]["words"]


def test_a_newer_image_comes_on_purpose(operator: Operator) -> None:
    operator.answers["get-parameter"] = "ami-new"
    operator.change("AmiOverride=")
    assert operator.sent()["AmiOverride"] == ""


def test_another_architecture_brings_its_own_image(operator: Operator) -> None:
    operator.answers |= {"get-parameter": "ami-new", "describe-instance-types": "i386\tx86_64"}
    operator.change("InstanceType=m5.large")
    assert operator.sent()["AmiOverride"] is None
    operator.parameters["AmiOverride"] = "ami-old"
    done = operator.change("InstanceType=m5.large")
    assert done.returncode == 1
    assert "Add AmiOverride= to the command." in done.stderr


def test_a_password_is_asked_for_and_is_no_argument(operator: Operator) -> None:
    done = operator.change("DBPassword=-", typed="new.password-1\n")
    assert operator.sent()["DBPassword"] == "new.password-1"
    assert "new.password-1" not in done.stdout + done.stderr
    assert "new.password-1" not in json.dumps([call["words"] for call in operator.calls("cloudformation")])
    assert [path.name for path in operator.at.iterdir() if path.is_dir()] == []


def test_a_new_template_may_drop_and_add_parameters(operator: Operator, tmp_path: Path) -> None:
    template = tmp_path / "new.yaml"
    template.write_text("Resources: {}")
    operator.answers["get-template-summary"] = "TeamName\tInstanceType\tBrandNew"
    operator.change("--template", str(template), "BrandNew=1")
    assert operator.sent() == {"TeamName": None, "InstanceType": None, "BrandNew": "1"}
    assert f"file://{template}" in operator.calls("create-change-set")[0]["words"]


def test_nothing_to_change_is_no_error(operator: Operator) -> None:
    operator.answers["wait change-set-create-complete"] = None
    operator.answers["describe-change-set"] = "The submitted information didn't contain changes."
    done = operator.change("TeamName=Research", "--execute")
    assert (done.returncode, done.stdout) == (0, "Nothing to change.\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["TeamNam=x"], "The template has no parameter 'TeamNam'."),
        (["nonsense"], "Unknown argument 'nonsense'."),
        (["--template", "absent.yaml"], "The template 'absent.yaml' cannot be read."),
    ],
)
def test_mistakes_are_reported(operator: Operator, words: list[str], sentence: str) -> None:
    done = operator.change(*words)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert operator.calls("create-change-set") == []
