"""The scripts: shellcheck on all of them, and change.sh against a recording stand-in of the AWS command line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import cfnlint
import pytest

from tests.deploy.templates import AWS, load, references, tool

ROOT = AWS.parents[1]
SCRIPTS = [*sorted((ROOT / "deploy").rglob("*.sh")), ROOT / ".ci" / "run"]
MACHINES = {
    "template.yaml": lambda resources: resources["RegistryInstance"]["Properties"],
    "scale-out.yaml": lambda resources: resources["LaunchTemplate"]["Properties"]["LaunchTemplateData"],
}
BOOTS = [("template.yaml", "RegistryInstance"), ("scale-out.yaml", "Group")]

# `aws`, in a shell because that starts faster than Python: it writes down its words, and answers from files.
STAND_IN = """#!/bin/bash
shopt -s nullglob
here=${0%/*}
calls=("$here"/calls/*)
call=$here/calls/${#calls[@]}
printf '%s\\0' "$@" >"$call"
for word; do
    case $word in file://*parameters*) cp "${word#file://}" "$here/parameters" ;; esac
done
command=$2
[ "$2" != wait ] || command="$2 $3"
[ ! -e "$here/fails/$command" ] || { echo "the stand-in fails on purpose" >&2; exit 1; }
[ ! -e "$here/answers/$command" ] || cat "$here/answers/$command"
"""


class Operator:
    """An operator's machine, and a stack that the stand-in describes."""

    def __init__(self, at: Path) -> None:
        self.stand_in, self.temporary = at / "stand-in", at / "temporary"
        self.temporary.mkdir()
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
        shutil.rmtree(self.stand_in, ignore_errors=True)
        for name in ("calls", "answers", "fails"):
            (self.stand_in / name).mkdir(parents=True)
        for name, answer in (answers | self.answers).items():
            (self.stand_in / ("fails" if answer is None else "answers") / name).write_text(f"{answer}\n")
        (self.stand_in / "aws").write_text(STAND_IN)
        (self.stand_in / "aws").chmod(0o755)
        command = [AWS / "change.sh", "registry", *words]
        environment = os.environ | {"PATH": f"{self.stand_in}:{os.environ['PATH']}", "TMPDIR": str(self.temporary)}
        return subprocess.run(command, env=environment, input=typed, capture_output=True, text=True, check=False)

    def calls(self, command: str) -> list[list[str]]:
        """Return the words of each call of a command."""
        every = [path.read_text().split("\0") for path in (self.stand_in / "calls").iterdir()]
        return [words for words in every if command in words]

    def sent(self) -> dict[str, str | None]:
        """Return the requested change set as value by parameter. None keeps the value."""
        assert len(self.calls("create-change-set")) == 1
        parameters = json.loads((self.stand_in / "parameters").read_text())
        return {one["ParameterKey"]: one.get("ParameterValue") for one in parameters}


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


# ------------------------------------------------------------------------------------------------ bootstrap.sh install

# `python3 -m venv` and pip, which both only write down that they were called.
PYTHON = """#!/bin/sh
echo "$@" >>"$CALLS"
[ "$2" = venv ] || exit 0
mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && printf '#!/bin/sh\necho quilt-registry 1.0\n' >"$3/bin/quilt-registry"
chmod +x "$3/bin/quilt-registry"
"""
FETCH = """#!/bin/sh
echo "$(basename "$0")" "$@" >>"$CALLS"
target=
while [ $# -gt 1 ]; do
    [ "$1" != --output ] || target=$2
    shift
    [ -n "$target" ] || last=$1
done
cp "$RELEASE" "${target:-$last}"
"""


class Host:
    """A host for bootstrap.sh below a directory, with stand-ins for Python, curl and the AWS command line."""

    def __init__(self, at: Path) -> None:
        self.at, self.calls, self.base = at, at / "calls", at / "opt"
        self.release = at / "release.tar"
        with tarfile.open(self.release, "w") as tar:
            for name in ("requirements.txt", "wheels/some.whl"):
                tar.addfile(tarfile.TarInfo(name))
        self.settings = {
            "AWS_REGION": "eu-central-1",
            "DB_CA_URL": "",
            "RELEASE_URL": str(self.release),
            "RELEASE_SHA256": hashlib.sha256(self.release.read_bytes()).hexdigest(),
        }
        for name, text in {"python3.12": PYTHON, "curl": FETCH, "aws": FETCH, "id": "#!/bin/sh\n"}.items():
            program = at / "bin" / name
            program.parent.mkdir(exist_ok=True)
            program.write_text(text)
            program.chmod(0o755)

    def install(self) -> subprocess.CompletedProcess[str]:
        lines = [f"{name}='{value}'\n" for name, value in self.settings.items()]
        (self.at / "host.env").write_text("".join(lines))
        script = (AWS / "bootstrap.sh").read_text()
        script = script.replace("/etc/quilt-registry", str(self.at)).replace("/opt/quilt-registry", str(self.base))
        environment = {
            "PATH": f"{self.at / 'bin'}:/usr/bin:/bin",
            "CALLS": str(self.calls),
            "RELEASE": str(self.release),
        }
        words = ["bash", "-c", script, "bootstrap.sh", "install"]
        return subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_verified_release_is_installed_without_an_index(host: Host) -> None:
    done = host.install()
    assert done.returncode == 0, done.stderr
    venv, pip = host.called()
    release = (host.base / "next").readlink()
    assert venv == f"-m venv {release}"
    assert f"--no-index --find-links {release}/wheels --only-binary=:all: --require-hashes" in pip
    assert sorted(path.name for path in release.iterdir()) == ["bin", "requirements.txt", "version"]


@pytest.mark.parametrize(
    ("url", "call"),
    [
        ("s3://releases/r.tar", "aws --region eu-central-1 s3 cp --only-show-errors s3://releases/r.tar"),
        ("https://example.com/r.tar?key=secret", "curl --silent --show-error --fail --location --proto =https"),
    ],
)
def test_a_release_is_fetched_from_s3_or_https(host: Host, url: str, call: str) -> None:
    host.settings["RELEASE_URL"] = url
    assert host.install().returncode == 0
    assert host.called()[0].startswith(call)


def test_a_release_in_s3_needs_a_region(host: Host) -> None:
    """As host.env has none on a host outside of AWS."""
    del host.settings["AWS_REGION"]
    host.settings["RELEASE_URL"] = "s3://releases/r.tar"
    done = host.install()
    assert done.returncode == 1
    assert f"AWS_REGION: is missing in {host.at}/host.env" in done.stderr
    assert list((host.base / "releases").iterdir()) == []


@pytest.mark.parametrize("url", ["s3://releases/r.tar", "https://example.com/r.tar?key=secret", "/srv/r.tar"])
def test_a_release_that_cannot_be_fetched_is_reported(host: Host, url: str) -> None:
    host.settings["RELEASE_URL"] = url
    host.release.unlink()
    done = host.install()
    assert done.returncode == 1
    assert f"Cannot fetch the release {url.partition('?')[0]}. Check RELEASE_URL" in done.stderr
    assert "secret" not in done.stderr
    assert list((host.base / "releases").iterdir()) == []


@pytest.mark.parametrize("digest", ["0" * 64, "", "*"])
def test_nothing_of_another_release_is_run(host: Host, digest: str) -> None:
    host.settings["RELEASE_SHA256"] = digest
    done = host.install()
    assert done.returncode == 1
    assert ("Nothing of it was run." if digest else "RELEASE_SHA256: is missing") in done.stderr
    assert host.called() == []
    assert not (host.base / "next").exists()
    assert not list(host.base.glob("releases/*"))


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
    assert "arn:change-set" in call
    assert len(operator.calls("stack-update-complete")) == 1
    assert operator.calls("delete-change-set") == []


def test_an_update_that_fails_is_reported(operator: Operator) -> None:
    operator.answers["wait stack-update-complete"] = None
    done = operator.change("TeamName=New", "--execute")
    assert done.returncode == 1
    assert "rolled back" in done.stderr


def test_a_scale_out_stack_is_changed_in_the_same_way(operator: Operator) -> None:
    """It has no instance and image of its own to keep: a changed release replaces its instances."""
    operator.parameters = {"RegistryStackName": "registry", "AmiArm": "/arm", "ReleaseUrl": "s3://r/1.tar"}
    operator.changes = ["LaunchTemplate\tModify\tFalse\tReleaseUrl", "Group\tModify\tFalse\tLaunchTemplate"]
    done = operator.change("ReleaseUrl=s3://r/2.tar", "--execute")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "Done.")
    assert operator.sent() == {"RegistryStackName": None, "AmiArm": None, "ReleaseUrl": "s3://r/2.tar"}


@pytest.mark.parametrize("resource", ["Database", "Bucket", "RegistryUser", "SigningSecret"])
@pytest.mark.parametrize(("action", "replacement"), [("Remove", "False"), ("Modify", "True")])
def test_no_change_loses_data(operator: Operator, resource: str, action: str, replacement: str) -> None:
    operator.changes.append(f"{resource}\t{action}\t{replacement}\tsomething")
    done = operator.change("TeamName=New", "--execute")
    assert done.returncode == 2
    assert f"{resource} would be lost" in done.stderr
    assert operator.calls("execute-change-set") == []
    assert len(operator.calls("delete-change-set")) == 1


@pytest.mark.parametrize("properties", ["", "DBSubnetGroupName", "MultiAZ SomethingNew", "AvailabilityZone"])
def test_a_database_that_might_be_replaced_is_refused(operator: Operator, properties: str) -> None:
    operator.changes.append(f"Database\tModify\tConditional\tsomething\t{properties}")
    done = operator.change("TeamName=New", "--execute")
    assert done.returncode == 2
    assert f"Database might be replaced, because of {properties or 'an unnamed property'}. Nothing" in done.stderr
    assert operator.calls("execute-change-set") == []


@pytest.mark.parametrize("resource", ["Bucket", "RegistryUser", "SigningSecret"])
def test_what_else_holds_data_is_never_perhaps_replaced(operator: Operator, resource: str) -> None:
    operator.changes.append(f"{resource}\tModify\tConditional\tsomething\tMultiAZ")
    assert operator.change("DBMultiAZ=true", "--execute").returncode == 2


@pytest.mark.parametrize(
    ("change", "properties"),
    [
        ("DBMultiAZ=true", "MultiAZ AvailabilityZone"),
        ("DBBackupRetentionDays=30", "BackupRetentionPeriod"),
        ("DBEngineVersion=18", "DBParameterGroupName"),
    ],
)
def test_a_database_changes_in_place_where_rds_always_does_that(
    operator: Operator, change: str, properties: str
) -> None:
    """CloudFormation says of these properties that they might replace the database."""
    operator.parameters |= {"DBBackupRetentionDays": "14", "DBEngineVersion": "17"}
    operator.changes = [
        "RegistryInstance\tModify\tTrue\tAmiArm\tImageId",
        f"Database\tModify\tConditional\t\t{properties}",
    ]
    done = operator.change(change, "--execute")
    assert done.returncode == 0, done.stderr
    assert "perhaps replaced" in done.stdout


def test_change_sh_knows_what_parameters_of_the_template_might_replace() -> None:
    """Which of the database's properties are conditional is in CloudFormation's own schema."""
    schemas = Path(cfnlint.__file__).parent / "data" / "schemas"
    file = json.loads((schemas / "providers" / "us-east-1.json").read_text())["AWS::RDS::DBInstance"]
    schema = json.loads((schemas / "resources" / f"{file}.json").read_text())
    conditional = {path.removeprefix("/properties/") for path in schema["conditionalCreateOnlyProperties"]}
    properties = load()["Resources"]["Database"]["Properties"]
    variable = {name for name in conditional & properties.keys() if list(references(properties[name]))}
    script = (AWS / "change.sh").read_text()
    known = {*re.findall(r'^in_place=" (.*) "$', script, re.MULTILINE)[0].split(), "AvailabilityZone"}
    assert variable == known | {"DBSnapshotIdentifier"}


@pytest.mark.parametrize(("before", "after"), [("snap-1", ""), ("snap-1", "snap-2"), ("", "snap-1")])
def test_the_snapshot_stays(operator: Operator, before: str, after: str) -> None:
    operator.parameters["DBSnapshotIdentifier"] = before
    assert operator.change(f"DBSnapshotIdentifier={after}", "--execute").returncode == 2
    assert operator.calls("create-change-set") == []


@pytest.mark.parametrize("zone", ["ZoneA", "ZoneB"])
def test_the_zones_stay(operator: Operator, zone: str) -> None:
    operator.parameters |= {"ZoneA": "", "ZoneB": ""}
    done = operator.change(f"{zone}=us-east-1c", "DBMultiAZ=true", "--execute")
    assert done.returncode == 2
    assert f"{zone} must stay ''" in done.stderr
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
    assert "/arm" in operator.calls("get-parameter")[0]


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
    assert "new.password-1" not in json.dumps(operator.calls("cloudformation"))
    assert list(operator.temporary.iterdir()) == []


def test_a_new_template_may_drop_and_add_parameters(operator: Operator, tmp_path: Path) -> None:
    template = tmp_path / "new.yaml"
    template.write_text("Resources: {}")
    operator.answers["get-template-summary"] = "TeamName\tInstanceType\tBrandNew"
    operator.change("--template", str(template), "BrandNew=1")
    assert operator.sent() == {"TeamName": None, "InstanceType": None, "BrandNew": "1"}
    assert f"file://{template}" in operator.calls("create-change-set")[0]


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
