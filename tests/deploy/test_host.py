"""What a release installs on a host with systemd (units, scripts, settings file), and the output of `check` there."""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boto3
import obstore
import pytest
from hypothesis import example, given, strategies as st

from quilt_registry import settings as settings_module
from quilt_registry.cli import cli
from tests.deploy.debian import skip_or_fail
from tests.registry import Registry, free_port, new_name, run_sql
from tests.s3server import S3Server

pytestmark = pytest.mark.drill

ROOT = Path(__file__).parents[2]
SYSTEMD = ROOT / "deploy" / "systemd"
SECRET = "hunter2hunter2hunter2"
MODES = {
    "etc/systemd/system/quilt-registry.service": 0o644,
    "etc/systemd/system/quilt-registry.socket": 0o644,
    "etc/systemd/system/quilt-registry-backup.service": 0o644,
    "etc/systemd/system/quilt-registry-backup.timer": 0o644,
    "etc/systemd/journald.conf.d/quilt-registry.conf": 0o644,
    "usr/local/bin/quilt-registry": 0o755,
    "home/ec2-user/create_admin.sh": 0o755,
    "home/ec2-user/start.sh": 0o755,
}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
with_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")


def run(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "quilt_registry", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **more)  # type: ignore[call-overload, no-any-return]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def files_below(root: Path) -> dict[str, tuple[int, str]]:
    files = [path for path in root.rglob("*") if not path.is_dir()]
    return {str(path.relative_to(root)): (mode(path), path.read_text()) for path in files}


# ------------------------------------------------------------------------------------------------ host install


def test_what_a_host_gets(tmp_path: Path) -> None:
    done = run("host", "install", "--root", tmp_path, umask=0o027)
    assert done.returncode == 0, done.stderr
    found = files_below(tmp_path)
    assert {name: mode for name, (mode, _) in found.items()} == MODES
    assert mode(tmp_path / "home/ec2-user/env") == 0o700
    assert found["etc/systemd/system/quilt-registry.service"][1] == (SYSTEMD / "quilt-registry.service").read_text()
    assert sorted(done.stdout.splitlines()) == sorted(f"Wrote {tmp_path / name}" for name in MODES)


def test_a_second_install_mends_the_first_and_leaves_the_settings(tmp_path: Path) -> None:
    assert run("host", "install", "--root", tmp_path).returncode == 0
    before = files_below(tmp_path)
    (tmp_path / "usr/local/bin/quilt-registry").write_text("cut off")
    (tmp_path / "home/ec2-user/start.sh").chmod(0o600)
    (tmp_path / "home/ec2-user/env/registry").write_text('TEAM_ID="acme"\n')
    assert run("host", "install", "--root", tmp_path).returncode == 0
    after = files_below(tmp_path)
    assert after.pop("home/ec2-user/env/registry")[1] == 'TEAM_ID="acme"\n'
    assert after == before


def test_the_operator_may_live_elsewhere(tmp_path: Path) -> None:
    assert run("host", "install", "--root", tmp_path, "--home", "/srv/operator").returncode == 0
    found = files_below(tmp_path)
    assert "srv/operator/start.sh" in found
    assert not [name for name, (_, text) in found.items() if "ec2-user" in name + text]
    assert "EnvironmentFile=/srv/operator/env/registry\n" in found["etc/systemd/system/quilt-registry.service"][1]


@pytest.mark.parametrize("home", ["relative", "/", "/srv/with space", "/srv/100%", "/srv/$HOME", "/srv/../etc", "/a;b"])
def test_a_home_that_units_cannot_name_is_refused(tmp_path: Path, home: str) -> None:
    done = run("host", "install", "--root", tmp_path, "--home", home)
    assert (done.returncode, done.stdout) == (1, "")
    assert "absolute path" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_home_leads_root_nowhere(tmp_path: Path) -> None:
    (tmp_path / "host/home/ec2-user").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "host/home/ec2-user/env").symlink_to(tmp_path / "elsewhere")
    done = run("host", "install", "--root", tmp_path / "host")
    assert done.returncode == 1
    assert "home/ec2-user/env" in done.stderr
    assert mode(tmp_path / "elsewhere") == 0o755


def test_a_missing_home_is_named() -> None:
    done = run("host", "install", "--home", "/nonexistent/operator")
    assert done.returncode == 1
    assert "The directory /nonexistent/operator does not exist." in done.stderr


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    done = run("host", "install", "--root", tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(rf"quilt-registry: Cannot write {tmp_path}/etc\S*: Not a directory.*\n", done.stderr)


@as_root
def test_the_operator_owns_what_is_in_their_home(tmp_path: Path) -> None:
    """On the running host, with a private mount namespace that hides its folders during the command."""
    if not Path("/etc/systemd").is_dir():
        pytest.skip("there is no /etc/systemd")
    nobody = pwd.getpwnam("nobody")
    for name in ("etc", "home"):
        (tmp_path / name).mkdir()
    shutil.copytree("/usr/local/bin", tmp_path / "bin", symlinks=True)
    os.chown(tmp_path / "home", nobody.pw_uid, nobody.pw_gid)
    script = f"""set -e
        mount --bind {tmp_path}/etc /etc/systemd || exit 77
        mount --bind {tmp_path}/bin /usr/local/bin
        exec {sys.executable} -m quilt_registry host install --home {tmp_path}/home"""
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True)
    if done.returncode == 77 or "unshare failed" in done.stderr:
        pytest.skip("mounting is not permitted here")
    assert done.returncode == 0, done.stderr
    assert {path.stat().st_uid for path in (tmp_path / "home").rglob("*")} == {nobody.pw_uid}
    assert (tmp_path / "home/start.sh").stat().st_gid == nobody.pw_gid
    units = list((tmp_path / "etc/system").iterdir())
    assert {path.stat().st_uid for path in [*units, tmp_path / "bin/quilt-registry"]} == {0}
    assert len(units) == 4


def test_the_wheel_brings_these_files(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    shutil.rmtree(tmp_path / "site" / "quilt_registry" / "migrations" / "__pycache__", ignore_errors=True)
    done = run(
        "host", "install", "--root", tmp_path / "host",
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    packaged = {path.name: path.read_bytes() for path in (tmp_path / "site/quilt_registry/systemd").iterdir()}
    assert packaged == {path.name: path.read_bytes() for path in SYSTEMD.iterdir()}
    assert files_below(tmp_path / "host").keys() == MODES.keys()


# ------------------------------------------------------------------------------------------------ units


@with_systemd
@pytest.mark.parametrize("unit", sorted(SYSTEMD.glob("quilt-registry*.[st][eoi][rcm]*")), ids=lambda path: path.name)
def test_systemd_has_no_complaints(tmp_path: Path, unit: Path) -> None:
    """Any line is a complaint, whatever the exit status. The program is replaced, as no release is installed here."""
    for each in SYSTEMD.glob("quilt-registry*"):
        text = each.read_text().replace("/opt/quilt-registry/current/bin/quilt-registry", "/bin/true")
        (tmp_path / each.name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@with_systemd
@pytest.mark.parametrize("name", ["quilt-registry.service", "quilt-registry-backup.service"])
def test_the_services_can_do_little(name: str) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(SYSTEMD / name)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:]


# ------------------------------------------------------------------------------------------------ scripts


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An operator's home on a host whose other paths are moved below a directory."""
    assert run("host", "install", "--root", tmp_path).returncode == 0
    release = tmp_path / "opt/quilt-registry/current/bin/quilt-registry"
    release.parent.mkdir(parents=True)
    release.write_text(f'#!/bin/sh\nexec {sys.executable} -m quilt_registry "$@"\n')
    release.chmod(0o755)
    for name in ("home/ec2-user/create_admin.sh", "usr/local/bin/quilt-registry"):
        script = tmp_path / name
        script.write_text(re.sub(r"(/opt|/usr/local/bin|/home)/", rf"{tmp_path}\1/", script.read_text()))
    return tmp_path / "home/ec2-user"


def test_the_two_lines_of_the_old_guide_make_an_admin(home: Path, new_database: Callable[[], str]) -> None:
    variables = {"SQLALCHEMY_DATABASE_URI": new_database(), "TEAM_NAME": """it's "$HOME" `id`; #1""", "TEAM_ID": "acme"}
    (home / "given").write_text(json.dumps(variables))
    (home / "key").write_text("a-key-of-enough-characters")
    assert run("host", "env", "--out", home / "env/registry", home / "given", home / "key").returncode == 0
    new = "./create_admin.sh --username ada --email ada@example.com --password-stdin"
    clean: dict[str, object] = {"cwd": home, "env": {"PATH": os.environ["PATH"]}, "capture_output": True, "text": True}
    lines = ["sh", "-c", f". env/registry\n{new}"]
    done = subprocess.run(lines, input="long enough\n", **clean)  # type: ignore[call-overload]
    assert (done.returncode, done.stdout) == (0, "Created the admin ada.\n"), done.stderr
    again = subprocess.run(new.split(), input="long enough\n", **clean)  # type: ignore[call-overload]
    assert (again.returncode, again.stderr) == (1, "quilt-registry: Username already taken.\n")
    checked = subprocess.run([home.parents[1] / "usr/local/bin/quilt-registry", "check"], **clean)  # type: ignore[call-overload]
    assert "team acme" in checked.stdout
    assert "database  ok:" in checked.stdout


def test_without_settings_nothing_is_run(home: Path) -> None:
    done = subprocess.run([home / "create_admin.sh"], capture_output=True, text=True, cwd=home)
    assert done.returncode == 1
    assert f"the settings in {home}/env/registry are missing" in done.stderr


@pytest.mark.parametrize(
    ("systemctl", "curl", "status", "message"),
    [
        ("exit 0", "echo ok", 0, ""),
        ("test $1 != restart", "echo ok", 1, "the registry does not start"),
        ("exit 0", "exit 7", 1, "does not respond"),
        ("exit 0", "echo Not found", 1, "does not respond"),
    ],
)
def test_a_restart_says_how_it_went(tmp_path: Path, systemctl: str, curl: str, status: int, message: str) -> None:
    stand_ins = {
        "systemctl": f'echo "$*" >>{tmp_path}/calls\n{systemctl}',
        "curl": curl,
        "sleep": "",
        "sudo": 'exec "$@"',
    }
    for name, text in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run([SYSTEMD / "start.sh"], capture_output=True, text=True, env={"PATH": path})
    assert done.returncode == status
    assert message in done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:2] == ["start quilt-registry.socket", "restart quilt-registry.service"]
    assert len(calls) == (3 if status == 0 else 2)


def test_the_nightly_backup_replaces_that_of_a_week_ago(tmp_path: Path, new_database: Callable[[], str]) -> None:
    unit = (SYSTEMD / "quilt-registry-backup.service").read_text()
    [line] = re.findall(r"^ExecStart=(.*)", unit, re.MULTILINE)
    line = line.replace("$$", "$").replace("%%", "%")  # systemd does this
    program = "/opt/quilt-registry/current/bin/quilt-registry"
    words = shlex.split(line.replace(program, f"{sys.executable} -m quilt_registry"))
    (tmp_path / "backups").mkdir()  # StateDirectory= does this
    registry = Registry(tmp_path, new_database())
    for _ in range(2):
        subprocess.run(words, cwd=tmp_path, env={**registry.environment, "LC_ALL": "C.UTF-8"}, check=True)
    names = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert re.fullmatch(r"(\w+day)\.dump \1\.dump\.json", " ".join(names))


# ------------------------------------------------------------------------------------------------ host env

NAMES = ["TEAM_NAME", "SMTP_PASSWORD", "QUILT_SECRET_KEY", "DEPLOYMENT_ID", "STRIPE_KEY", "TEAM_ID"]
NOT_CHARACTERS = {chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)}
CHARACTERS = st.characters(
    exclude_categories=("Cc", "Cs"), exclude_characters=NOT_CHARACTERS | set(map(chr, range(0xFDD0, 0xFDF0)))
)
VALUES = st.text(CHARACTERS | st.sampled_from("""'"\\$`#; =!~{}()<>|&*?[]%"""), max_size=40)


def read_by_sh(file: Path) -> dict[str, str]:
    names = " ".join(NAMES)
    script = f'unset {names}; set -a; . "$0"; exec env -0'
    out = subprocess.run(["sh", "-c", script, file], capture_output=True, check=True).stdout.decode()
    return dict(line.split("=", 1) for line in out.split("\0") if line.partition("=")[0] in NAMES)


def read_by_the_rule_of_systemd(file: Path) -> dict[str, str]:
    """systemd.exec(5): in double quotes, a backslash before one of these four characters escapes it."""
    found = {}
    for line in file.read_text().split("\n")[:-1]:
        match = re.fullmatch(r'([A-Z_]+)="((?:[^"\\]|\\["\\`$])*)"', line)
        assert match, line
        found[match[1]] = re.sub(r'\\(["\\`$])', r"\1", match[2])
    return found


def read_by_systemd(file: Path) -> dict[str, str]:
    """Parse the file with systemd's own function for EnvironmentFile=."""
    lines = ctypes.POINTER(ctypes.c_char_p)()
    assert ctypes.CDLL(str(SYSTEMD_LIBRARIES[0])).load_env_file(None, str(file).encode(), ctypes.byref(lines)) == 0
    found: list[str] = []
    while lines and (line := lines[len(found)]) is not None:
        found.append(line.decode())
    return dict(line.split("=", 1) for line in found)


SYSTEMD_LIBRARIES = [
    *Path("/usr/lib").glob("systemd/libsystemd-shared-*.so"),
    *Path("/usr/lib").glob("*/systemd/libsystemd-shared-*.so"),
]
READERS = [read_by_sh, read_by_the_rule_of_systemd, *([read_by_systemd] if SYSTEMD_LIBRARIES else [])]


@pytest.mark.parametrize("read", READERS)
@example({"TEAM_NAME": """it's "$HOME" `id` \\ # ; é 🌳 \u2028 %h ${X} $(id)""", "TEAM_ID": ""})
@example({"TEAM_NAME": "\\", "DEPLOYMENT_ID": " \\\\n ", "STRIPE_KEY": "\u00a0x"})
@given(variables=st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_what_goes_in_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, read: Callable[[Path], dict[str, str]], variables: dict[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("env")
    (folder / "given").write_text(json.dumps(variables))
    cli(["host", "env", "--out", str(folder / "out"), str(folder / "given")], standalone_mode=False)
    assert read(folder / "out") == variables


def test_the_file_is_sorted_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"TEAM_ID": "acme", "AWS_SECRET_KEY": "x$y", "QUILT_SERVER_CONFIG": "old.py"}')
    (tmp_path / "b").write_text('{"DATABASE_URL_FILE": "/run/url", "SSL_CERT_FILE": "/etc/ca.pem"}')
    (tmp_path / "signing").write_text("0123456789\n")
    (tmp_path / "out").write_text("old")
    (tmp_path / "out").chmod(0o644)
    done = run("host", "env", "--out", "out", "a", "b", "signing", cwd=tmp_path, umask=0)
    assert (done.returncode, done.stdout) == (0, "Wrote 6 settings to out.\n"), done.stderr
    assert (tmp_path / "out").read_text() == (
        'AWS_SECRET_KEY="x\\$y"\nDATABASE_URL_FILE="/run/url"\nQUILT_SECRET_KEY="0123456789"\n'
        'QUILT_SERVER_CONFIG="old.py"\nSSL_CERT_FILE="/etc/ca.pem"\nTEAM_ID="acme"\n'
    )
    assert mode(tmp_path / "out") == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "out", "signing"]


@as_root
def test_the_file_is_the_owners(tmp_path: Path) -> None:
    (tmp_path / "signing").write_text("key")
    words = ("host", "env", "--out", tmp_path / "out", tmp_path / "signing", "--owner")
    assert run(*words, "nobody").returncode == 0
    assert (tmp_path / "out").stat().st_uid == pwd.getpwnam("nobody").pw_uid
    assert mode(tmp_path / "out") == 0o600
    refused = run(*words, "who-is-this")
    assert (refused.returncode, refused.stderr) == (1, "quilt-registry: The user who-is-this does not exist.\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps({"TEAM_ID": "acme", "TEAM_IDD": SECRET, "FOO": SECRET}), "Unknown variables: FOO, TEAM_IDD."),
        (json.dumps({"evil\nNAME": SECRET}), "Unknown variables: 'evil\\nNAME'."),
        (json.dumps({"SMTP_PASSWORD": SECRET + "\n"}), "SMTP_PASSWORD contains"),
        (json.dumps({"SMTP_PASSWORD": SECRET + "\x7f"}), "SMTP_PASSWORD contains"),
        (json.dumps({"SMTP_PASSWORD": SECRET + "\x85"}), "SMTP_PASSWORD contains"),
        (json.dumps({"SMTP_PASSWORD": SECRET + "\0"}), "SMTP_PASSWORD contains"),
        (json.dumps({"SMTP_PASSWORD": SECRET + "\ud800"}), "SMTP_PASSWORD contains"),
        (json.dumps({"SMTP_PASSWORD": SECRET + "\uffff"}), "SMTP_PASSWORD contains"),
        (json.dumps({"SMTP_PASSWORD": [SECRET]}), "SMTP_PASSWORD in given must be a string in quotes"),
        (json.dumps({"SMTP_PORT": 587}), "SMTP_PORT in given must be a string in quotes"),
        (f'{{"SMTP_PASSWORD": "x", "SMTP_PASSWORD": "{SECRET}"}}', "SMTP_PASSWORD is set twice"),
        (f'{{"SMTP_PASSWORD": "{SECRET}"', "is not a valid JSON object"),
        ('{"a":' * 100_000, "is not a valid JSON object"),
        (f"{SECRET} {SECRET}", "neither a JSON object nor the signing key"),
        (f'["{SECRET}", 1]', "neither a JSON object nor the signing key"),
        ("\n", "neither a JSON object nor the signing key"),
        (f"{SECRET}\x01", "QUILT_SECRET_KEY contains"),
        (b"\xff\xfe" + SECRET.encode(), "given is not UTF-8 text"),
        (None, "Cannot read given"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "given").write_bytes(content if isinstance(content, bytes) else content.encode())
    (tmp_path / "out").write_text("old")
    done = run("host", "env", "--out", "out", "given", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} <= {"given", "out"}


def test_a_variable_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(SECRET + name)
    done = run("host", "env", "--out", "out", "a", "b", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        "quilt-registry: QUILT_SECRET_KEY is set twice, the second time in b.\n",
    )


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("key")
    done = run("host", "env", "--out", tmp_path / "env/registry", tmp_path / "key")
    assert done.returncode == 1
    assert "quilt-registry host install" in done.stderr
    (tmp_path / "taken").mkdir()
    assert run("host", "env", "--out", "taken", "key", cwd=tmp_path).returncode == 2


def test_every_variable_of_the_stack_is_known() -> None:
    template = (ROOT / "deploy/aws/template.yaml").read_text()
    body = re.search(r"SecretString: !Sub\n +- \|\n(.*?)\n +\}", template, re.DOTALL)
    assert body
    names = re.findall(r'"([A-Z_]+)":', body[1])
    assert len(names) > 20
    assert set(names) <= settings_module.variables()


# ------------------------------------------------------------------------------------------------ check


def findings(registry: Registry, *options: str) -> dict[str, tuple[str, str]]:
    done = registry.command("check", "--json", *options)
    found = json.loads(done.stdout)
    assert done.returncode == any(each["state"] == "failed" for each in found)
    return {each["part"]: (each["state"], each["says"]) for each in found}


def test_a_registry_that_does_not_run_is_a_warning(new_database: Callable[[], str], tmp_path: Path) -> None:
    found = findings(Registry(tmp_path, new_database(), DEPLOYMENT_ID="blue"))
    state, message = found.pop("registry")
    assert state == "warning"
    assert "does not respond" in message
    assert list(found) == ["settings", "database", "contents", "store", "mail", "outbox"]
    assert {state for state, _ in found.values()} == {"ok"}
    assert "deployment blue" in found["settings"][1]


def test_check_waits_for_what_is_still_to_come(postgres: str, tmp_path: Path) -> None:
    name = new_name("late")
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    registry = Registry(tmp_path, postgres.format(name))
    assert findings(registry, "--wait", "1")["database"][0] == "failed"
    words = [sys.executable, "-m", "quilt_registry", "check", "--json", "--wait", "100"]
    with subprocess.Popen(words, env=registry.environment, stdout=subprocess.PIPE) as waiting:
        assert registry.command("migrate").returncode == 0
        registry.start()
        shown = json.loads(waiting.communicate(timeout=60)[0])
    assert waiting.returncode == 0
    assert {each["part"]: each["state"] for each in shown}["registry"] == "ok"
    assert registry.stop() == 0


def test_another_server_in_place_of_the_registry_is_reported(
    new_database: Callable[[], str], tmp_path: Path, mailbox: object, s3: S3Server
) -> None:
    state, message = findings(Registry(tmp_path, new_database(), REGISTRY_URL=s3.endpoint))["registry"]
    assert state == "warning"
    assert s3.endpoint in message


def test_contents_and_connection_of_the_database_are_reported(new_database: Callable[[], str], tmp_path: Path) -> None:
    registry = Registry(tmp_path, new_database())
    registry.sql("INSERT INTO account (name, email) VALUES ('anna', 'anna@example.com')")
    found = findings(registry)
    assert found["contents"] == ("ok", "1 accounts, 0 packages, 0 versions, 0 objects")
    assert found["database"][1].endswith(", not encrypted")


def test_a_database_with_few_connections_left_is_reported(new_database: Callable[[], str], tmp_path: Path) -> None:
    """The server reports a lower limit than it has."""
    url = new_database()
    name = run_sql(url, "SELECT current_database() AS name")[0]["name"]
    run_sql(url, "CREATE SCHEMA few")
    run_sql(
        url,
        """CREATE FUNCTION few.current_setting(name text) RETURNS text LANGUAGE sql
           AS $$ SELECT CASE name WHEN 'max_connections' THEN '1' ELSE pg_catalog.current_setting(name) END $$""",
    )
    run_sql(url, f"ALTER DATABASE {name} SET search_path = few, public, pg_catalog")
    state, message = findings(Registry(tmp_path, url))["database"]
    assert state == "warning"
    assert re.match(r"\d+ of the database's 1 connections are in use\. Lower DATABASE_POOL", message)


@pytest.mark.parametrize(
    ("apart", "database", "store"),
    [(75, "warning", "warning"), (-75, "warning", "warning"), (20, "ok", "ok"), (3600, "warning", "failed")],
)
def test_a_clock_that_is_wrong_is_reported(
    s3: S3Server, new_database: Callable[[], str], tmp_path: Path, apart: int, database: str, store: str
) -> None:
    """Database and store have the right time. A store refuses requests signed an hour too late."""
    found = findings(Registry(tmp_path, new_database(), **s3.settings, **clock(apart)))
    assert (found["database"][0], found["store"][0]) == (database, store)
    if apart != 20:
        wrong = rf"This host's clock is {str(abs(apart))[:-1]}\d seconds {'ahead of' if apart > 0 else 'behind'} the"
        assert re.search(rf"{wrong} database's\. Presigned URLs", found["database"][1])
        assert re.search(rf"{wrong} store's\. Presigned URLs", found["store"][1])


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_a_store_that_sends_no_time_causes_no_traceback(
    new_database: Callable[[], str], tmp_path: Path, date: str
) -> None:
    class Odd(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: int | None = None) -> str:
            return date

        def do_GET(self) -> None:
            self.send_error(403)

        def do_PUT(self) -> None:
            self.send_error(403)

    with ThreadingHTTPServer(("127.0.0.1", 0), Odd) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        given = {"PACKAGE_BUCKET_NAME": "packages", "S3_ENDPOINT": f"http://127.0.0.1:{store.server_port}"}
        keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": SECRET}
        state, message = findings(Registry(tmp_path, new_database(), **given, **keys))["store"]
        store.shutdown()
    assert state == "failed"
    assert "Check PACKAGE_BUCKET_NAME" in message


def clock(apart: int) -> dict[str, str]:
    """Return the variables that set a program's clock forward by so many seconds."""
    if not shutil.which("faketime"):
        skip_or_fail("there is no faketime")
    words = ["faketime", "-f", f"{apart:+}s", "printenv", "LD_PRELOAD"]
    library = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    return {"LD_PRELOAD": library, "FAKETIME": f"{apart:+}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


def test_what_pages_may_do_with_the_bucket(s3: S3Server, new_database: Callable[[], str], tmp_path: Path) -> None:
    catalog = "https://quilt.example.com"
    registry = Registry(tmp_path, new_database(), **s3.settings, CATALOG_URL=catalog)
    bucket = boto3.client(
        "s3", endpoint_url=s3.endpoint, region_name="us-east-1",
        aws_access_key_id=s3.access_key, aws_secret_access_key=s3.secret_key,
    )  # fmt: skip

    def with_rule(origin: str, *methods: str) -> tuple[str, str]:
        rule = {"AllowedOrigins": [origin], "AllowedMethods": list(methods), "AllowedHeaders": ["*"]}
        bucket.put_bucket_cors(Bucket="packages", CORSConfiguration={"CORSRules": [rule]})
        return findings(registry)["cors"]

    state, message = findings(registry)["cors"]
    assert state == "warning"
    assert f"does not allow GET and PUT to pages of {catalog}" in message
    try:
        assert with_rule("*", "GET", "HEAD", "PUT")[0] == "ok"
        assert with_rule(catalog, "GET", "HEAD", "PUT")[0] == "ok"
        assert "does not allow PUT to" in with_rule(catalog, "GET", "HEAD")[1]
        assert with_rule("https://other.example.com", "GET", "PUT")[0] == "warning"
    finally:
        bucket.delete_bucket_cors(Bucket="packages")


def test_presigned_urls_are_checked_as_clients_use_them(
    s3: S3Server, registry: Registry, new_database: Callable[[], str], tmp_path: Path
) -> None:
    given = {**s3.settings, "S3_INTERNAL_ENDPOINT": s3.endpoint}
    url = new_database()
    for endpoint, state, message in (
        (s3.endpoint, "ok", "bucket packages"),
        (f"http://127.0.0.1:{free_port()}", "warning", "cannot be reached at the URL that clients use"),
        (registry.url, "failed", "rejects a presigned URL with status 404"),
    ):
        found = findings(Registry(tmp_path, url, **{**given, "S3_ENDPOINT": endpoint}))["store"]
        assert found[0] == state, found
        assert message in found[1]
        assert "Signature" not in found[1]
    assert not [each for page in obstore.list(s3.bucket, "check") for each in page]


def test_check_shows_no_secret(new_database: Callable[[], str], tmp_path: Path) -> None:
    given = {
        "DATABASE_URL": f"postgresql://somebody:{SECRET}@127.0.0.1:9/none",
        "PACKAGE_BUCKET_NAME": "packages",
        "S3_ENDPOINT": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SECRET_KEY": SECRET + "2",
        "QUILT_SECRET_KEY": SECRET,
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "9",
        "SMTP_USERNAME": "somebody",
        "SMTP_PASSWORD": SECRET,
        "STRIPE_SECRET_KEY": SECRET,
        "METRICS_TOKEN": SECRET,
    }
    for options in ((), ("--json",)):
        done = Registry(tmp_path, **given).command("check", *options)
        assert done.returncode == 1
        assert "hunter2" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "STRIPE_SECRET_KEY" in done.stdout


def test_what_is_probably_not_meant_is_logged_once(new_database: Callable[[], str], tmp_path: Path) -> None:
    given = {"QUILT_SERVER_CONFIG": "dev.py", "UWSGI_PORT": "9000", "STRIPE_KEY": SECRET, "NGINX_PORT": ""}
    registry = Registry(tmp_path, new_database(), **given, CATALOG_URL="http://quilt.example.com")
    assert registry.start().stop() == 0
    log = registry.log.read_text()
    assert log.count("These variables have no effect: QUILT_SERVER_CONFIG, STRIPE_KEY, UWSGI_PORT.") == 1
    assert log.count("CATALOG_URL uses http,") == 1
    assert "REGISTRY_URL uses" not in log
    assert "hunter2" not in log
