"""The command `quilt-registry`."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

import quilt_registry
from quilt_registry.cli import cli, embedded_postgres
from quilt_registry.cli.embedded_postgres import ROOT_STAND_IN
from quilt_registry.packages import samples
from tests.commands import refuses
from tests.postgres import needs_proc
from tests.processes import commands, descendants, is_alive
from tests.registry import LocalRegistry, Person, Registry, download, free_port, new_name, run_sql
from tests.trees import Json
from tests.waiting import wait_until

READY = re.compile(r"username  (\w+)\n\s+password  (\S+)")


@pytest.fixture
def embedded() -> Iterator[Registry]:
    """A registry with only its data directory configured."""
    home = Path(tempfile.mkdtemp(prefix="quilt-test-"))
    registry = Registry(home)
    yield registry
    if registry.process and registry.process.poll() is None:
        registry.stop()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Registry, str]]:
    """Such a registry that runs, and what its first start prints."""
    home = Path(tempfile.mkdtemp(prefix="quilt-test-"))
    registry = Registry(home, SLOW_QUERY_MS="60000").start()  # without warnings on a busy machine
    yield registry, wait_until(lambda: "Ctrl-C" in (text := registry.log.read_text()) and text, 60)
    assert registry.stop(signal.SIGINT) == 0
    assert "KeyboardInterrupt" not in registry.log.read_text()
    shutil.rmtree(home)


def first_admin(registry: Registry) -> Person:
    """Sign in with the credentials that the first start prints."""
    shown = wait_until(lambda: READY.search(registry.log.read_text()), 60, registry.log.read_text)
    assert shown
    login = {"username": shown[1], "password": shown[2]}
    token = httpx.post(registry.url + "/api/login", json=login).raise_for_status().json()["token"]
    return Person(registry, shown[1], token)


def test_the_first_start_can_add_samples_which_a_command_removes(embedded: Registry) -> None:
    embedded.options = ["--samples"]
    admin = first_admin(embedded.start())
    for name in samples.NAMES:
        top_hash = admin.get(f"/api/version/admin/{name}/1.0").json()["hash"]
        package = admin.install("admin", name, top_hash)
        assert b"This is a sample package" in download_readme(admin, package)
    admin.push("sample_orchard", {"a": b"changed"})
    assert embedded.command("remove-samples").stdout == "Removed admin/sample_weather.\n"
    assert embedded.command("remove-samples").stdout == "There are no sample packages.\n"
    embedded.stop()
    embedded.start()
    listed = admin.get("/api/package/admin/").json()["packages"]
    assert [package["name"] for package in listed] == ["sample_orchard"]


def download_readme(person: Person, package: Json) -> bytes:
    (sha256,) = package["contents"]["children"]["README"]["hashes"]
    return download(package["urls"][sha256], package["sizes"][sha256], person.transfers)


def processes_below(home: Path) -> list[str]:
    """Return the command lines of the processes that use a data directory."""
    lines = [" ".join(words) for words in commands().values()]
    return [line for line in lines if f"{home}/postgres" in line]


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.drill)])
def test_an_embedded_registry_keeps_its_data_and_stops_with_its_database(embedded: Registry, with_signal: int) -> None:
    admin = first_admin(embedded.start())
    assert admin.get("/api/me").json()["is_staff"] is True
    top_hash = admin.push("kept", {"x": b"1", "README": b"# Kept"})
    assert processes_below(embedded.home)
    assert embedded.stop(with_signal) == 0
    assert processes_below(embedded.home) == []
    embedded.start()
    assert embedded.log.read_text().count("password") == 2, "the password is not shown exactly once"
    admin.install("admin", "kept", top_hash)


def test_a_second_start_says_what_to_do(running: tuple[Registry, str]) -> None:
    registry, _ = running
    for port in (registry.port, free_port()):
        again = registry.command("serve", "--port", str(port))
        process = f"process {registry.process and registry.process.pid}"
        refuses(again, f"The registry already runs: {registry.url} ({process})", str(registry.home), "QUILT_HOME")
    # Another registry on the same port.
    taken = Registry(registry.home / "other").command("serve", "--port", str(registry.port))
    other = f"make run ARGS=--port={registry.port + 1}, or quilt-registry serve --port={registry.port + 1}"
    refuses(taken, f"Cannot listen on 127.0.0.1:{registry.port}: Address already in use.", other)


def test_a_first_start_is_told_in_a_few_lines(running: tuple[Registry, str]) -> None:
    registry, text = running
    shown = [line for line in text.splitlines() if "/healthcheck" not in line]
    assert shown[0] == f"Quilt Registry is ready: {registry.url}"
    assert [line.split()[0] for line in shown if line.startswith("  ")] == ["username", "password", "data"]
    assert str(registry.home) in text
    assert len(shown) <= 9, text
    assert "{" not in text, "JSON that nobody asked for"


@pytest.mark.drill
def test_json_is_logged_if_asked_for(embedded: Registry) -> None:
    embedded.environment["LOG_FORMAT"] = "json"
    embedded.start()
    wait_until(lambda: "password" in embedded.log.read_text())
    assert embedded.stop() == 0
    events = [json.loads(line)["event"] for line in embedded.log.read_text().splitlines()]
    assert any(event.startswith(f"Quilt Registry is ready: {embedded.url}") for event in events)


@pytest.mark.drill
@needs_proc
def test_an_embedded_database_that_dies_is_started_again(embedded: Registry) -> None:
    """Its processes outlive it, in the middle of a statement, and would keep the next one from starting."""
    admin = first_admin(embedded.start())
    top_hash = admin.push("kept", {"x": b"1"})
    url = embedded_postgres.database_url(embedded.home)
    busy = threading.Thread(target=ends_with_the_server, args=(url,))
    busy.start()
    wait_until(
        lambda: run_sql(
            url, "SELECT FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()"
        )
    )
    os.kill(postmaster(embedded), signal.SIGKILL)
    wait_until(lambda: admin.get("/api/me").status_code == 200, 60)  # 503 if it was on a connection that is lost
    admin.install("admin", "kept", top_hash)
    busy.join(30)
    assert not busy.is_alive()
    assert "The embedded database ended (killed by SIGKILL). It is started again." in embedded.log.read_text()
    assert embedded.stop() == 0
    assert processes_below(embedded.home) == []


def ends_with_the_server(url: str) -> None:
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError):
        run_sql(url, "SELECT sum(n) FROM generate_series(1, 10000000000) n")


def postmaster(registry: Registry) -> int:
    return int((registry.home / "postgres" / "postmaster.pid").read_text().splitlines()[0])


@pytest.mark.drill
@pytest.mark.parametrize("workers", [1, 2])
def test_a_database_that_does_not_stay_up_ends_the_registry_with_a_message(embedded: Registry, workers: int) -> None:
    embedded.workers = workers
    embedded.start()
    with open(embedded.home / "postgres" / "postgresql.conf", "a") as configuration:
        configuration.write("shared_buffers = nonsense\n")
    began = time.monotonic()
    os.kill(postmaster(embedded), signal.SIGKILL)
    assert embedded.process
    assert embedded.process.wait(200) == 1, embedded.log.read_text()
    told = embedded.log.read_text()
    assert "quilt-registry: The embedded database ended 6 times within 10 minutes, so the registry has stopped." in told
    assert "nonsense" in told, "the end of the database's log"
    assert "Traceback" not in told
    assert processes_below(embedded.home) == []
    assert time.monotonic() - began > 5, "the tries are spread over some time"


@pytest.mark.drill
def test_a_new_start_takes_over_what_a_killed_one_left(embedded: Registry) -> None:
    admin = first_admin(embedded.start())
    top_hash = admin.push("kept", {"x": b"1"})
    embedded.kill()
    embedded.start()
    admin.install("admin", "kept", top_hash)
    assert embedded.stop() == 0
    assert processes_below(embedded.home) == []


def test_several_workers_stop_together(new_database: Callable[[], str], tmp_path: Path) -> None:
    registry = Registry(tmp_path, new_database(), workers=2).start()
    assert registry.stop(signal.SIGINT) == 0
    assert not _with_port(registry.port)


@pytest.mark.drill
def test_the_workers_of_a_killed_registry_end(new_database: Callable[[], str], tmp_path: Path) -> None:
    registry = Registry(tmp_path, new_database(), workers=2).start()
    below = descendants(registry.process.pid)  # type: ignore[union-attr]
    assert len(below) >= 2
    registry.kill()
    wait_until(lambda: not any(map(is_alive, below)))
    registry.start()  # the port is free again
    assert registry.stop() == 0


def _with_port(port: int) -> list[str]:
    """Return the command lines of the processes that were started with a port."""
    return [" ".join(words) for words in commands().values() if str(port) in words]


@pytest.mark.parametrize("command", ["serve", "check", "migrate"])
def test_a_data_directory_that_cannot_be_written_is_reported(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("no directory")
    done = Registry(tmp_path / "file" / "home").command(command)
    assert done.returncode == 1
    assert "cannot be written: Not a directory. Set QUILT_HOME" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.drill
def test_an_admin_is_made_before_the_first_start(embedded: Registry) -> None:
    """The command starts the database for itself only. The first start then creates no second admin."""
    new = ("create-admin", "--username", "ada", "--email", "ada@example.com", "--password-stdin")
    assert embedded.command("migrate").returncode == 0
    made = embedded.command(*new, input="long enough\n")
    assert made.returncode == 0, made.stderr
    assert processes_below(embedded.home) == []
    embedded.start()
    assert (
        httpx.post(embedded.url + "/api/login", json={"username": "ada", "password": "long enough"}).status_code == 200
    )
    assert embedded.stop() == 0
    assert "password" not in embedded.log.read_text()
    assert "failed" not in embedded.command("check").stdout, "a registry that is not running counts as a failure"


@pytest.mark.parametrize(
    ("username", "email", "password", "message"),
    [
        ("Ada", "a@example.com", "long enough", "Invalid username."),
        ("team", "a@example.com", "long enough", "Invalid username."),
        ("ada\n", "a@example.com", "long enough", "Invalid username."),
        ("ada", "nonsense", "long enough", "Invalid email."),
        ("ada", "a@example.com", "", "at least 8 characters"),
        ("taken", "a@example.com", "long enough", "Username already taken."),
        ("not_taken", "Taken@example.com", "long enough", "Email already taken."),
    ],
)
def test_a_wrong_admin_is_refused(registry: Registry, username: str, email: str, password: str, message: str) -> None:
    if not registry.sql("SELECT FROM account WHERE name = 'taken'"):
        registry.make_person("taken")
    options = ("--username", username, "--email", email, "--password-stdin")
    done = LocalRegistry(registry.home, registry.database_url).command("create-admin", *options, input=password + "\n")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_admins_are_made_while_the_registry_runs(running: tuple[Registry, str]) -> None:
    registry, _ = running
    new = ("create-admin", "--username", "ada", "--email", "ada@example.com", "--password-stdin")
    made = registry.command(*new, input="long enough\n")
    assert (made.returncode, made.stdout) == (0, "Created the admin ada.\n")
    again = registry.command(*new, input="long enough\n")
    assert (again.returncode, again.stderr) == (1, "quilt-registry: Username already taken.\n")
    checked = registry.command("check")
    assert checked.returncode == 0, checked.stdout
    assert [line.split()[1] for line in checked.stdout.splitlines()] == ["ok:"] * 7


@pytest.mark.drill
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a registry as another user")
def test_a_normal_user_can_run_it(embedded: Registry) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(embedded.home, nobody.pw_uid, nobody.pw_gid)
    path = [str(Path(quilt_registry.__file__).parent.parent), sysconfig.get_paths()["purelib"]]
    environment = {**embedded.environment, "HOME": str(embedded.home), "PYTHONPATH": os.pathsep.join(path)}
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "env": environment, "cwd": "/"}
    serve = ["-m", "quilt_registry", "serve", "--port", str(embedded.port)]
    with open(embedded.log, "wb") as log:
        embedded.process = subprocess.Popen([_python_for(identity), *serve], stdout=log, stderr=log, **identity)
    first_admin(embedded).push("mine", {"x": b"1"})
    assert {path.stat().st_uid for path in embedded.home.iterdir() if path != embedded.log} == {nobody.pw_uid}
    assert embedded.stop() == 0
    assert processes_below(embedded.home) == []


@pytest.mark.drill
@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs a user for the database")
def test_first_starts_at_the_same_moment_share_the_user_that_one_of_them_makes(tmp_path: Path) -> None:
    """Run in a mount namespace with its own /etc, where the user does not exist. Creating the user is slow there."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    slow = tmp_path / "useradd"
    slow.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which("useradd")} "$@"\n')
    slow.chmod(0o755)
    code = "from quilt_registry.cli import embedded_postgres; print(embedded_postgres._root_stand_in().pw_name)"
    first_start = f"{sys.executable} -c '{code}'"
    script = f"""
        cp -a /etc {tmp_path} && mount --bind {tmp_path}/etc /etc || exit
        sed -i /^{ROOT_STAND_IN}:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow
        export PATH={tmp_path}:$PATH
        for i in 1 2 3; do {first_start} & done
        wait
    """
    done = subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [ROOT_STAND_IN] * 3, done.stderr


def _python_for(identity: dict[str, Any]) -> str:
    """Return a Python that other users can run: this one, or the system's Python of the same version."""
    of_system = shutil.which("python{}.{}".format(*sys.version_info), path="/usr/local/bin:/usr/bin")
    for python in filter(None, (sys.executable, of_system)):
        with contextlib.suppress(PermissionError):
            if not subprocess.run(
                [python, "-c", "import quilt_registry.app"], capture_output=True, **identity
            ).returncode:
                return python
    pytest.skip("a normal user can reach neither this Python nor one of the system with the same version")


def test_an_unmigrated_database_is_refused_until_it_is_migrated(postgres: str, tmp_path: Path) -> None:
    name = new_name("bare")
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    registry = LocalRegistry(tmp_path, postgres.format(name))
    refused = registry.command("serve", "--port", str(registry.port))
    assert refused.returncode == 1
    assert "quilt-registry migrate" in refused.stderr
    assert registry.command("check").returncode == 1
    command = [sys.executable, "-m", "quilt_registry", "migrate"]
    both = [subprocess.Popen(command, env=registry.environment) for _ in range(2)]
    assert [each.wait(60) for each in both] == [0, 0]
    registry.start()
    assert registry.stop() == 0


def test_serve_can_migrate(postgres: str, tmp_path: Path) -> None:
    name = new_name("bare")
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    registry = Registry(tmp_path, postgres.format(name))
    command = [sys.executable, "-m", "quilt_registry", "serve", "--migrate", "--port", str(registry.port)]
    with subprocess.Popen(command, env=registry.environment, stderr=subprocess.DEVNULL) as registry.process:
        wait_until(registry.answers, 60)
        registry.make_person("anna").push("x", {"x": b"1"})
        assert registry.stop() == 0


@pytest.mark.parametrize(
    ("setting", "part", "message"),
    [
        ({"DATABASE_URL": "postgresql://x@127.0.0.1:9/none"}, "database", "127.0.0.1:9 (database none): connection"),
        ({"QUILT_HOME": "/proc/nowhere"}, "store", "permissions"),
        ({"REGISTRY_URL": "nonsense"}, "settings", "REGISTRY_URL"),
    ],
)
def test_check_names_the_part_that_fails(
    new_database: Callable[[], str], tmp_path: Path, setting: dict[str, str], part: str, message: str
) -> None:
    registry = LocalRegistry(tmp_path, new_database())
    registry.environment.update(setting)
    checked = registry.command("check")
    assert checked.returncode == 1
    assert any(line.startswith(f"{part:9} failed:") and message in line for line in checked.stdout.splitlines())
    assert "Traceback" not in checked.stderr


def test_a_wrong_setting_stops_the_start_with_its_name(tmp_path: Path) -> None:
    registry = Registry(tmp_path, TEAM_ID="Not Valid", PACKAGE_URL_EXPIRATION="soon")
    done = registry.command("serve")
    assert done.returncode == 1
    assert "TEAM_ID" in done.stderr
    assert "PACKAGE_URL_EXPIRATION" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.drill
def test_two_aws_secrets_that_differ_cause_a_warning(new_database: Callable[[], str], tmp_path: Path) -> None:
    secrets = {"AWS_SECRET_KEY": "old-hunter2", "AWS_SECRET_ACCESS_KEY": "new-hunter2"}
    registry = Registry(tmp_path, new_database(), **secrets).start()
    assert registry.stop() == 0
    shown = registry.log.read_text() + registry.command("check").stdout
    assert shown.count("AWS_SECRET_KEY and AWS_SECRET_ACCESS_KEY differ") == 2, "not once in each output"
    assert "hunter2" not in shown


def test_commands_that_do_not_migrate_do_not_load_alembic() -> None:
    """Alembic takes as long to load as all the rest, in each process and for each command."""
    script = "import sys, quilt_registry.app, quilt_registry.cli; print({'alembic', 'sqlalchemy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_each_command_has_help(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path)
    for name in cli.commands:
        shown = registry.command(name, "-h")
        assert shown.returncode == 0
        assert shown.stdout.startswith(f"Usage: quilt-registry {name} ")
    assert not list(tmp_path.iterdir())


def test_help_and_version(tmp_path: Path) -> None:
    registry = LocalRegistry(tmp_path)
    assert "quilt-registry, version" in registry.command("--version").stdout
    shown = registry.command("--help").stdout
    assert all(name in shown for name in ("serve", "migrate", "create-admin", "check"))
    assert registry.command("nonsense").returncode == 2
