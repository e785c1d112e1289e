"""The image: what the Dockerfile builds on the tests' Debian, and a registry in it, confined as in compose.yaml."""

from __future__ import annotations

import json
import os
import platform
import re
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from quilt_registry import settings
from tests.deploy import dockerfile, release
from tests.deploy.debian import packed_root, require, skip_or_fail, unpack
from tests.deploy.dockerfile import Image
from tests.deploy.templates import tool
from tests.deploy.tools import run
from tests.registry import PASSWORD, Registry
from tests.s3server import S3Server
from tests.waiting import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SERVICE = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["registry"]
# Without CAP_SYS_RESOURCE and a cgroup of its own, podman can only start a container with lower limits.
ENGINE = """
    mount -t cgroup2 none /sys/fs/cgroup
    exec podman run --rm --cgroups=disabled --ulimit=nofile=4096:4096 --ulimit=nproc=4096:4096 --timeout=250 "$@"
"""


def gather_wheels(base: Path, to: Path) -> None:
    """Collect the wheels that pip fetches during an image build, for the Python of the base."""
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run(["chroot", base, "python3", "-c", version], capture_output=True, text=True, check=True)
    python = found.stdout.strip()
    built = release.build(ROOT, to / "release", f"--target={python}-{platform.machine()}")
    for wheel in (release.unpack(built, to / "unpacked") / "wheels").iterdir():
        wheel.rename(to / wheel.name)
    hashed = ["--no-deps", "--require-hashes", "--requirement", release.LOCK.with_name("build.txt")]
    done = subprocess.run([tool("pip"), "download", "--quiet", *hashed, "--dest", to], capture_output=True, text=True)
    if done.returncode:
        skip_or_fail(f"pip cannot fetch what the image needs: {done.stderr[-500:]}")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image that the Dockerfile builds."""
    require("chroot", "unshare")
    home = tmp_path_factory.mktemp("image")
    base = unpack(packed_root(["python3", "python3-venv", "ca-certificates"]), home / "base")
    gather_wheels(base, home / "wheels")
    return dockerfile.build(ROOT, base, home, home / "wheels")


@pytest.fixture(scope="module")
def imported(image: Image) -> Iterator[str]:
    """The image's name in podman."""
    require("podman")
    name = f"localhost/quilt-registry-test:{secrets.token_hex(4)}"
    changes = [f"--change={instruction}" for instruction in image.instructions]
    done = image.within('tar -C "$root" -c . | podman import --quiet "$@"', *changes, "-", name)
    assert done.returncode == 0, done.stderr
    yield name
    subprocess.run(["podman", "rmi", "--force", name], capture_output=True, check=True)


class Container(Registry):
    """A registry in a container, confined as in compose.yaml, with its secrets in files."""

    def __init__(self, image: str, home: Path, database_url: str, user: str = SERVICE["user"], **environment: str):
        super().__init__(home, database_url, **environment)
        self.image, self.user, self.name = image, user, f"quilt-test-{secrets.token_hex(4)}"
        home.mkdir()
        self.options = [*self._secrets_and_settings(), *self._database_socket()]

    def _secrets_and_settings(self) -> Iterator[str]:
        given = {name: value for name, value in self.environment.items() if name in settings.variables()}
        given.pop("QUILT_HOME")  # set by the image
        for name in given.keys() & set(settings.SECRETS):
            file = self.home / name
            file.write_text(given.pop(name))
            yield f"--volume={file}:/run/secrets/{name}:ro"
            yield f"--env={name}_FILE=/run/secrets/{name}"
        yield from (f"--env={name}={value}" for name, value in given.items())

    def _database_socket(self) -> Iterator[str]:
        """Mount the socket of a database on this machine at the same path."""
        assert self.database_url is not None
        for folder in parse_qs(urlsplit(self.database_url).query).get("host", ()):
            yield f"--volume={folder}/.s.PGSQL.5432:{folder}/.s.PGSQL.5432"

    def engine(self, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        """Return the command line that runs a command in the image."""
        confined = [
            *("--network=host", f"--user={self.user}", "--read-only", "--read-only-tmpfs=false"),
            *(f"--tmpfs={path}" for path in SERVICE["tmpfs"]),
            *(f"--cap-drop={name}" for name in SERVICE["cap_drop"]),
            *(f"--security-opt={option.removesuffix(':true')}" for option in SERVICE["security_opt"]),
        ]
        assert SERVICE["read_only"]
        words = [*confined, *self.options, *options, self.image, *command]
        return ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-ec", ENGINE, "sh", *words]

    def command(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.engine(*arguments), input=input, capture_output=True, text=True, timeout=60)

    def start(self) -> Container:
        # As the image's own command, but on the loopback only.
        words = [*SERVICE["command"][:1], "--host", "127.0.0.1", "--port", str(self.port), "--workers", "2"]
        with open(self.log, "ab") as log:
            started = self.engine(*words, options=(f"--name={self.name}",))
            self.process = subprocess.Popen(started, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self.answers, 60, self.log.read_text)
        return self

    def inside(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container of the registry."""
        return subprocess.run(["podman", "exec", self.name, *words], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def container(
    imported: str, s3: S3Server, new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    made = Container(imported, tmp_path_factory.mktemp("containers") / "one", new_database(), **s3.settings)
    yield made.start()
    if made.process and made.process.poll() is None:
        made.stop()


# ------------------------------------------------------------------------------------------------ the image


def test_the_dockerfile_is_well_written() -> None:
    done = run("hadolint", ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


def test_the_base_is_one_image_and_no_other() -> None:
    assert re.search(r"^ARG BASE=\S+:[\w.-]+@sha256:[0-9a-f]{64}$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_what_is_copied_is_sent_to_the_engine_and_nothing_else() -> None:
    copies = [rest.split() for word, rest in dockerfile.steps(ROOT / "Dockerfile") if word == "COPY"]
    copied = {name for words in copies if not words[0].startswith("--from") for name in words[:-1]}
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    sent = {line[1:] for line in ignored if line[0] == "!"}
    whole = {name for name in copied if not any(name.startswith(f"{folder}/") for folder in copied)}
    assert sent == whole | {"deploy"}
    assert "deploy/*" in ignored


def test_the_image_is_its_base_and_a_virtual_environment(image: Image) -> None:
    added = {path.relative_to(image.added) for path in image.added.glob("*/*")}
    assert {str(path) for path in added} == {"opt/quilt-registry", "var/lib"}
    assert list((image.added / "var").rglob("*/*")) == [image.added / "var/lib/quilt-registry"]
    programs = {path.name for path in (image.added / "opt/quilt-registry/bin").iterdir()}
    assert "quilt-registry" in programs
    assert not {name for name in programs if name.startswith(("pip", "gcc", "cc"))}
    for path in (image.added / "opt").rglob("*"):
        assert path.lstat().st_uid == 0
        assert path.is_symlink() or not path.stat().st_mode & 0o022, f"others may change {path}"


def test_the_image_holds_no_secret(image: Image) -> None:
    given = "\n".join(image.instructions)
    assert not [name for name in settings.SECRETS if name in given]
    files = [path.name for path in image.added.rglob("*") if path.is_file()]
    assert not [name for name in files if re.search(r"\.env$|^\.git|\.key$|^id_|^pip\.conf$|^\.netrc$", name)]


def test_it_serves_by_default(image: Image) -> None:
    assert 'ENTRYPOINT ["quilt-registry"]' in image.instructions
    assert 'CMD ["serve", "--host", "0.0.0.0"]' in image.instructions


def test_the_health_checks_of_the_image_and_of_compose_are_the_same(image: Image) -> None:
    assert SERVICE["healthcheck"]["test"] == ["CMD", *image.health]


# ------------------------------------------------------------------------------------------------ at work


def test_without_the_schema_it_does_not_start_and_migrating_helps(
    imported: str, new_database: Callable[[], str], tmp_path: Path
) -> None:
    empty = Container(imported, tmp_path / "empty", new_database())
    empty.sql("DROP SCHEMA public CASCADE")
    empty.sql("CREATE SCHEMA public")
    refused = empty.command("serve", "--host", "127.0.0.1", "--port", str(empty.port))
    assert refused.returncode == 1
    assert "Run `quilt-registry migrate`" in refused.stderr + refused.stdout
    assert empty.command("migrate").returncode == 0
    assert empty.command("migrate", "--check").returncode == 0


def test_users_push_and_install(container: Container) -> None:
    anna = container.make_person("anna")
    top_hash = anna.push("birds", {"a": b"wren", "b": {"c": b"", "d": b"x" * 100_000}})
    anna.install("anna", "birds", top_hash)
    assert not list(container.home.glob("objects/**"))


def test_it_reports_that_it_is_healthy(container: Container, image: Image) -> None:
    here = [word.replace("5000", str(container.port)) for word in image.health]
    assert container.inside(*here).returncode == 0
    elsewhere = [word.replace("5000", "1") for word in image.health]
    assert container.inside(*elsewhere).returncode != 0
    checked = container.command("check", "--json")
    states = {each["part"]: each["state"] for each in json.loads(checked.stdout)}
    assert (states["database"], states["store"]) == ("ok", "ok"), checked.stdout


def test_it_can_do_little(container: Container) -> None:
    status = container.inside("cat", "/proc/1/status").stdout
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["Uid"].split() == fields["Gid"].split() == ["10001"] * 4
    assert {fields[name] for name in fields if name.startswith("Cap")} == {"0" * 16}
    assert fields["NoNewPrivs"] == "1"
    assert container.inside("sh", "-c", "echo >/opt/quilt-registry/x").returncode != 0
    assert container.inside("sh", "-c", "echo >/tmp/x && rm /tmp/x").returncode == 0
    words = container.inside("cat", "/proc/1/cmdline", "/proc/1/environ").stdout
    for name in settings.SECRETS:
        assert container.environment.get(name, "none") not in words


def test_a_backup_is_written_to_the_operators_folder(container: Container, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir(mode=0o700)
    os.chown(folder, 4321, 4321)
    words = container.engine("backup", "/backups/monday.dump", options=("--user=4321", f"--volume={folder}:/backups"))
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (folder / "monday.dump").stat().st_uid == 4321
    assert json.loads((folder / "monday.dump.json").read_text())["tables"]["package"] >= 1


def test_sigterm_lets_a_running_request_end(container: Container) -> None:
    """`docker stop` sends it to the first process, which is the registry."""
    assert container.process is not None
    body = json.dumps({"username": "anna", "password": PASSWORD}).encode()
    head = f"POST /api/login HTTP/1.1\r\nHost: registry\r\nContent-Length: {len(body)}\r\n"
    with socket.create_connection(("127.0.0.1", container.port), timeout=30) as anna:
        anna.sendall(f"{head}Content-Type: application/json\r\n\r\n".encode() + body[:10])
        container.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not container.answers(), 10)
        assert container.process.poll() is None
        anna.sendall(body[10:])
        assert anna.recv(100).startswith(b"HTTP/1.1 200")
    assert container.process.wait(15) == 0
    assert "Traceback" not in container.log.read_text()
    left = subprocess.run(["podman", "ps", "--all", "--format={{.Names}}"], capture_output=True, text=True).stdout
    assert container.name not in left.split()


def test_any_other_user_will_do_and_a_folder_for_objects(
    imported: str, new_database: Callable[[], str], tmp_path: Path
) -> None:
    made = Container(imported, tmp_path / "other", new_database(), user="54321")
    made.objects.mkdir()
    os.chown(made.objects, 54321, 0)
    made.options.append(f"--volume={made.objects}:/var/lib/quilt-registry/objects")
    made.start()
    try:
        anna = made.make_person("anna")
        anna.install("anna", "trees", anna.push("trees", {"oak": b"acorn"}))
        assert {path.stat().st_uid for path in made.objects.rglob("*") if path.is_file()} == {54321}
    finally:
        assert made.stop() == 0
