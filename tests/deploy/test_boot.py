"""An instance from its first boot on: the template's user data, boot script and units under systemd.

The tests use one instance and run in order. When a test fails, the journal of that test is shown.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import CompletedProcess
from typing import NamedTuple
from urllib.parse import quote

import httpx
import pytest

from tests import trees
from tests.deploy.boot import HERE, RELEASES, ROOT, VERSIONS, Aws, Instance
from tests.deploy.cloud import BUCKET
from tests.deploy.templates import PASSWORDS
from tests.registry import PASSWORD, Registry
from tests.waiting import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.slow, pytest.mark.timeout(600)]

FIRST, SECOND, BROKEN = VERSIONS
TEAM_NAME = """it's $HOME `id` $(id) # ; é 🌳 %h ${X} & <b>"""
URL = f"http://{HERE}:5000"
SCRIPT = "/opt/quilt-registry/bootstrap.sh"
UNITS = "quilt-registry.service quilt-registry.socket quilt-registry-backup.service quilt-registry-backup.timer"
FAST = {"PIP_NO_COMPILE": "1", "CHECK_WAIT": "0"}


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    made = Instance(TeamName=TEAM_NAME)
    try:
        made.launch()
        yield made
    finally:
        made.stop()


@pytest.fixture(autouse=True)
def journal(instance: Instance) -> Iterator[None]:
    """Print the journal, so that pytest shows it when a test fails."""
    cursor = instance.output("journalctl --lines 0 --show-cursor").rpartition("-- cursor: ")[2]
    yield
    print(instance.run(f"journalctl --no-pager --output short --after-cursor '{cursor}'").stdout[-10_000:])  # noqa: T201


def secrets_of(instance: Instance) -> list[str]:
    return [
        *PASSWORDS.values(),
        instance.stack.environment["AWS_SECRET_KEY"],
        instance.stack.secret("SigningSecretArn"),
    ]


@contextlib.contextmanager
def commands_seen() -> Iterator[set[bytes]]:
    """Collect the command lines of all processes, which every user of the host can see."""
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with contextlib.suppress(OSError):
                    seen.add(process.read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


def links(instance: Instance) -> dict[str, str]:
    """Return the release that each link points to."""
    found = {
        name: instance.run(f"readlink /opt/quilt-registry/{name}").stdout for name in ("current", "previous", "next")
    }
    return {name: Path(target.strip()).name for name, target in found.items() if target}


def releases(instance: Instance) -> set[str]:
    return set(instance.output("ls /opt/quilt-registry/releases").split())


def main_process(instance: Instance) -> str:
    return instance.output("systemctl show --property MainPID --value quilt-registry.service")


def version(instance: Instance) -> str:
    return instance.output("quilt-registry --version", user="ec2-user").rpartition(" ")[2]


def is_ready() -> bool:
    return httpx.get(URL + "/readyz", timeout=30).status_code == 200


def signing_key(instance: Instance) -> str:
    """Return the key that the service signs its own requests to the bucket with."""
    instance.aws.signed_with = ""

    wait_until(lambda: is_ready() and instance.aws.signed_with != "")
    return instance.aws.signed_with


def write_release_settings(instance: Instance, url: str, digest: str) -> None:
    """Write the settings into host.env that an operator writes before an upgrade, as the guide says."""
    section = (ROOT / "deploy/README.md").read_text().partition("## Upgrade and roll back\n")[2]
    [edit] = re.findall(r"^sudo sed -i .*", section, re.MULTILINE)
    instance.output(edit.replace("URL'", f"{url}'").replace("DIGEST'", f"{digest}'"))
    assert instance.output("grep ^RELEASE_ /etc/quilt-registry/host.env").splitlines() == [
        f"RELEASE_URL='{url}'",
        f"RELEASE_SHA256='{digest}'",
    ]


# ------------------------------------------------------------------------------------------------ boots that fail

Trouble = Callable[[Instance], AbstractContextManager[dict[str, str]]]
# Only the new release is on the small disk, and other processes do not see that disk.
SMALL_DISK = """unshare --mount sh -c 'mkdir -p /opt/quilt-registry/releases
    mount -t tmpfs -o size=20m none /opt/quilt-registry/releases; exec "$@"' sh"""


@contextlib.contextmanager
def full_disk(_: Instance) -> Iterator[dict[str, str]]:
    yield {"within": SMALL_DISK}


@contextlib.contextmanager
def no_certificates(_: Instance) -> Iterator[dict[str, str]]:
    yield {"DB_CA_URL": f"https://{Aws.bundle}/absent.pem"}


@contextlib.contextmanager
def secret_out_of_reach(_: Instance) -> Iterator[dict[str, str]]:
    yield {"AWS_ENDPOINT_URL_SECRETS_MANAGER": f"https://{HERE}:9", "AWS_MAX_ATTEMPTS": "2"}


@contextlib.contextmanager
def wrong_database_password(instance: Instance) -> Iterator[dict[str, str]]:
    instance.database.set_password("another-password")
    try:
        yield {}
    finally:
        instance.database.set_password(PASSWORDS["DBPassword"])


@contextlib.contextmanager
def database_out_of_reach(instance: Instance) -> Iterator[dict[str, str]]:
    instance.database.stop()
    try:
        yield {}
    finally:
        instance.database.start()


@contextlib.contextmanager
def no_bucket(instance: Instance) -> Iterator[dict[str, str]]:
    s3 = instance.stack.cloud.s3
    rules = s3.get_bucket_cors(Bucket=BUCKET)["CORSRules"]
    s3.delete_bucket(Bucket=BUCKET)
    try:
        yield {}
    finally:
        s3.create_bucket(Bucket=BUCKET)
        s3.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRules": rules})


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (full_disk, f"Cannot fetch the release s3://{RELEASES}/quilt-registry-{FIRST}-"),
        (no_certificates, f"Cannot fetch the database's certificates from https://{Aws.bundle}/absent.pem."),
        (secret_out_of_reach, "Cannot read the secret arn:"),
        (wrong_database_password, "password authentication failed"),
        (database_out_of_reach, "Cannot connect to the database at "),
        (no_bucket, "The specified bucket does not exist"),
    ],
)
def test_a_boot_that_fails_says_why(instance: Instance, trouble: Trouble, message: str) -> None:
    began = time.monotonic()
    with trouble(instance) as given, commands_seen() as commands:
        status, log = instance.boot(**given, **FAST)
    assert status != 0
    assert message in log
    assert time.monotonic() - began < 100
    # Where `aws ec2 get-console-output` finds it. The console comes behind.
    wait_until(lambda: message in instance.console.read_text()[-8000:])
    assert not [secret for secret in secrets_of(instance) if secret in log or secret.encode() in b"".join(commands)]


# ------------------------------------------------------------------------------------------------ first boot


class Booted(NamedTuple):
    log: str
    commands: bytes


@pytest.fixture(scope="module")
def booted(instance: Instance) -> Booted:
    """The first boot that succeeds. The later tests depend on it."""
    with commands_seen() as commands:
        status, log = instance.boot()
    assert status == 0, log
    return Booted(log, b"".join(commands))


@pytest.fixture
def host(instance: Instance, booted: Booted) -> Instance:
    """The instance after its first boot."""
    return instance


def test_the_first_boot_ends_well(host: Instance, booted: Booted) -> None:
    assert host.output("systemctl is-active quilt-registry.socket quilt-registry.service") == "active\nactive"
    assert httpx.get(URL + "/healthcheck").text == "ok"
    assert is_ready()
    assert "TLSv1.3" in booted.log
    assert "warning" not in booted.log
    assert not [secret for secret in secrets_of(host) if secret.encode() in booted.commands]


def test_a_database_certificate_of_another_authority_is_refused(host: Instance) -> None:
    assert host.run("quilt-registry migrate --check", user="ec2-user").returncode == 0
    with_others = "mount --bind /etc/ssl/certs/ca-certificates.crt /etc/quilt-registry/rds-ca.pem"
    refused = host.run(f"unshare --mount sh -c '{with_others} && quilt-registry migrate --check'")
    assert refused.returncode == 1
    assert refused.stderr.startswith("quilt-registry: Cannot connect to the database at ")
    assert "certificate verify failed" in refused.stderr


def test_the_service_can_do_little(host: Instance) -> None:
    process = f"/proc/{main_process(host)}"
    user = host.output("id --user quilt-registry")
    status = dict(re.findall(r"(\w+):\s*(.*)", host.output(f"cat {process}/status")))
    assert status["Uid"].split() == [user] * 4 != ["0"] * 4
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    owners = [line.split() for line in host.output(f"cat {process}/uid_map").splitlines()]
    assert owners == [["0", "0", "1"], [user, user, "1"]]  # all other users are mapped to nobody
    assert host.output(f"ls {process}/root/home {process}/root/root 2>&1 || true").count("ec2-user") == 0
    with_its_eyes = f"nsenter --target {main_process(host)} --mount --setuid {user} --setgid {user}"
    assert host.run(f"{with_its_eyes} touch /opt/quilt-registry/mine").returncode == 1


def test_only_the_operator_reads_the_settings(host: Instance) -> None:
    assert host.output("stat --format '%U %a' /home/ec2-user/env/registry /home/ec2-user/env").split("\n") == [
        "ec2-user 600",
        "ec2-user 700",
    ]
    read = host.run("runuser --user quilt-registry cat /home/ec2-user/env/registry")
    assert (read.returncode, read.stdout) == (1, "")


def test_systemd_accepts_the_units_without_complaints(host: Instance) -> None:
    assert host.output(f"systemd-analyze verify {UNITS} 2>&1") == ""
    for name in ("quilt-registry", "quilt-registry-backup"):
        host.output(f"systemd-analyze security --threshold=20 --no-pager {name}.service")


def test_a_name_of_odd_characters_is_the_same_everywhere(host: Instance) -> None:
    assert host.output(""". env/registry; printf %s "$TEAM_NAME" """, user="ec2-user") == TEAM_NAME
    environment = host.output(f"cat /proc/{main_process(host)}/environ").split("\0")
    assert f"TEAM_NAME={TEAM_NAME}" in environment


def test_the_two_lines_of_the_old_guide_make_an_admin(host: Instance) -> None:
    lines = ". env/registry\n./create_admin.sh --username ada --email ada@example.com --password-stdin"
    made = host.run(lines, user="ec2-user", input=PASSWORD + "\n")
    assert (made.returncode, made.stdout) == (0, "Created the admin ada.\n"), made.stderr
    again = host.run(lines, user="ec2-user", input="something else\n")
    assert (again.returncode, again.stderr) == (1, "quilt-registry: Username already taken.\n")
    answer = httpx.post(URL + "/api/login", json={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 200


def test_the_operator_has_the_registry_checked(host: Instance) -> None:
    found = json.loads(host.output("quilt-registry check --json", user="ec2-user"))
    assert {each["state"] for each in found} == {"ok"}, found


def test_a_user_pushes_and_installs(host: Instance) -> None:
    """Debian's PostgreSQL is older than the embedded one. The bucket can be reached from inside only."""
    ada, data = registry_of(host).sign_in("ada"), b"1,2,3"
    node = trees.tree({"rows": data})
    answer = ada.send_push("ada", "trees", node, dry_run=True)
    assert answer.status_code == 200, answer.text
    [urls] = answer.json()["upload_urls"].values()
    host.run(f"curl --fail --silent --upload-file - '{urls['put']}'", input=data.decode(), check=True)
    answer = ada.send_push("ada", "trees", node, sizes=trees.sizes([data]))
    assert answer.status_code == 200, answer.text
    [url] = ada.get(f"/api/package/ada/trees/{trees.top_hash(node)}").json()["urls"].values()
    assert host.output(f"curl --fail --silent '{url}'") == data.decode()


# ------------------------------------------------------------------------------------------------ after the first boot


@contextlib.contextmanager
def requests_without_pause() -> Iterator[list[tuple[float, str]]]:
    """Send requests without pause: one client keeps its connection, the other reconnects. Yield waits and results."""
    results: list[tuple[float, str]] = []
    over = threading.Event()

    def ask(**headers: str) -> None:
        with httpx.Client(headers=headers, timeout=60) as client:
            while not over.wait(0.01):
                began = time.monotonic()
                try:
                    answer = client.get(URL + "/healthcheck").text
                except httpx.HTTPError as error:
                    answer = repr(error)
                results.append((time.monotonic() - began, answer))

    clients = [threading.Thread(target=ask), threading.Thread(target=ask, kwargs={"Connection": "close"})]
    for each in clients:
        each.start()
    try:
        yield results
    finally:
        over.set()
        for each in clients:
            each.join()


def test_no_request_is_refused_during_restarts(host: Instance) -> None:
    """No request waits longer than a restart takes, and a restart runs into no timeout."""
    since = host.output("date '+%F %T'")
    took = []

    def timed(script: str, user: str = "root") -> CompletedProcess[str]:
        began = time.monotonic()
        done = host.run(script, user)
        took.append(time.monotonic() - began)
        return done

    with requests_without_pause() as results:
        restarted = timed("systemctl restart quilt-registry")
        started = timed("./start.sh", "ec2-user")
        again = timed("systemctl restart quilt-registry.service")
    assert (restarted.returncode, again.returncode) == (0, 0)
    assert started.returncode == 0, started.stderr
    assert "active (running)" in started.stdout
    assert {answer for _, answer in results} == {"ok"}
    assert max(wait for wait, _ in results) < max(took) + 1
    journal = host.output(f"journalctl --no-pager --unit quilt-registry.service --since '{since}'")
    assert "Stopped" in journal
    assert "timed out" not in journal


def test_a_key_changed_by_hand_counts_until_the_next_configure(host: Instance) -> None:
    of_the_stack = host.stack.environment["AWS_ACCESS_KEY_ID"]
    assert signing_key(host) == of_the_stack
    edit = "s/^AWS_ACCESS_KEY_ID=.*/AWS_ACCESS_KEY_ID=BYHAND/; s/^AWS_SECRET_KEY=.*/AWS_SECRET_KEY=made-by-hand/"
    began = host.output("date '+%F %T'")
    host.run("sed -i -f - env/registry && ./start.sh", user="ec2-user", input=edit, check=True)
    assert signing_key(host) == "BYHAND"
    lines = host.output(f"journalctl --unit quilt-registry --output cat --since '{began}'")
    assert lines.count("AWS_SECRET_KEY and AWS_SECRET_ACCESS_KEY differ") == 1
    assert "made-by-hand" not in lines
    host.output(f"{SCRIPT} configure && /home/ec2-user/start.sh")
    assert signing_key(host) == of_the_stack


def test_a_key_changed_by_the_stack_counts_from_the_next_configure(host: Instance) -> None:
    before = host.stack.environment["AWS_ACCESS_KEY_ID"]
    host.stack.change(SigningKeySlot="B", RetiredKeyStatus="Active")
    after = host.stack.environment["AWS_ACCESS_KEY_ID"]
    assert signing_key(host) == before != after
    host.output(f"sudo {SCRIPT} configure && ./start.sh", user="ec2-user")
    assert signing_key(host) == after


@contextlib.contextmanager
def nothing_changes(instance: Instance) -> Iterator[None]:
    """Check that the same process continues with the same release, and that nothing is left over."""
    before = links(instance), releases(instance), main_process(instance)
    yield
    assert (links(instance), releases(instance), main_process(instance)) == before
    assert httpx.get(URL + "/healthcheck").text == "ok"


def assert_refused(host: Instance, url: str, digest: str, message: str) -> None:
    write_release_settings(host, url, digest)
    with nothing_changes(host):
        done = host.run(f"{SCRIPT} install", **FAST)
        assert done.returncode == 1
        assert message in done.stderr


def test_an_absent_release_changes_nothing(host: Instance) -> None:
    url = f"s3://{RELEASES}/quilt-registry-9.9.9.tar"
    assert_refused(host, url, "0" * 64, f"Cannot fetch the release {url}. Check RELEASE_URL in /etc/quilt-registry/")


def test_another_release_than_announced_changes_nothing(host: Instance) -> None:
    url, digest = host.release(SECOND)
    _, announced = host.release(FIRST)
    assert_refused(host, url, announced, f"The SHA-256 of {url} is {digest}, not that of RELEASE_SHA256")


def test_a_release_that_does_not_run_changes_nothing(host: Instance) -> None:
    assert_refused(host, *host.release(BROKEN), "The release does not run.")


def test_a_full_disk_changes_nothing(host: Instance) -> None:
    write_release_settings(host, *host.release(SECOND))
    with nothing_changes(host):
        done = host.run(f"{SMALL_DISK} {SCRIPT} install")
        assert done.returncode == 1
        assert "Free space: " in done.stderr


def test_an_install_that_is_killed_changes_nothing(host: Instance) -> None:
    before = links(host), main_process(host)
    killed = host.run(
        f"""setsid {SCRIPT} install & install=$!
            until pgrep --full 'pip install.*--require-hashes' >/dev/null; do sleep 0.1; done
            sleep 1; kill -KILL -- -$install; wait $install"""
    )
    assert killed.returncode == 128 + 9
    assert (links(host), main_process(host)) == before


def test_an_upgrade_and_a_rollback(host: Instance) -> None:
    """Each command runs twice. An operator who repeats the whole upgrade can still roll back."""
    first = links(host)["current"]
    host.output(f"{SCRIPT} install")
    assert host.run(f"{SCRIPT} install", **FAST).returncode == 0
    assert version(host) == FIRST
    assert releases(host) == {first, links(host)["next"]}  # this also removed what the killed install had left
    with requests_without_pause() as results:
        for _ in range(2):
            host.output(f"{SCRIPT} start")
            assert version(host) == SECOND
    assert {answer for _, answer in results} == {"ok"}
    assert host.run(f"{SCRIPT} install && {SCRIPT} start", **FAST).returncode == 0
    assert links(host)["previous"] == first
    for _ in range(2):
        host.output(f"{SCRIPT} rollback")
        assert version(host) == FIRST


def test_after_a_reboot_it_runs_with_the_settings_as_they_are(host: Instance) -> None:
    """It also does if the database starts later than the host."""
    host.output("echo 'TEAM_NAME=\"By hand\"' >>env/registry", user="ec2-user")
    host.database.stop()
    host.reboot()
    show = "systemctl show quilt-registry.service --value --property"
    wait_until(lambda: int(host.output(f"{show} NRestarts")) >= 2, 60)
    assert host.output(f"{show} StartLimitIntervalUSec") == "0"  # so that any number of attempts may follow
    host.database.start()
    wait_until(lambda: host.output(f"{show} ActiveState") == "active", 60)
    assert is_ready()
    assert "TEAM_NAME=By hand" in host.output(f"cat /proc/{main_process(host)}/environ").split("\0")


def test_the_nightly_backup(host: Instance) -> None:
    host.output("systemctl enable --now quilt-registry-backup.timer")
    assert "quilt-registry-backup.service" in host.output("systemctl list-timers --no-pager")
    host.output("systemctl start quilt-registry-backup.service")
    backups = host.output("stat --format '%U %a %n' /var/lib/quilt-registry/backups/*").split("\n")
    assert len(backups) == 2
    assert all(line.startswith("quilt-registry 600 ") for line in backups)


def test_no_log_holds_a_secret(host: Instance) -> None:
    kept = host.output(
        """journalctl --no-pager --output json --all
           cat /var/log/cfn-init*.log /etc/quilt-registry/host.env
           find /tmp /var/tmp -type f -exec cat {} +"""
    )
    assert kept.count("quilt-registry") > 100
    seen = kept + host.console.read_text()
    assert not [secret for secret in [*secrets_of(host), "made-by-hand", PASSWORD] if secret in seen]


# ------------------------------------------------------------------------------------------------ a host without AWS

BARE = f"""systemctl disable --now {UNITS}
rm -rf /etc/systemd/system/quilt-registry* /etc/quilt-registry /opt/quilt-registry /var/lib/quilt-registry
rm -rf /usr/local/bin/quilt-registry /home/ec2-user /opt/aws /root/.aws
systemctl daemon-reload
userdel quilt-registry && userdel ec2-user && useradd --create-home --shell /bin/bash rosa
echo 'rosa ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/rosa"""


def test_the_guide_makes_a_registry_of_any_linux_host(host: Instance) -> None:
    """Runs the guide's commands as printed, with names filled in. There is no bucket."""
    section = (ROOT / "deploy/README.md").read_text().partition("## A Linux host\n")[2].partition("\n## ")[0]
    build, install, settings, start, *_ = re.findall(r"^```\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert build.startswith("make release ARGS=--here")  # needs a package index
    host.output(BARE)
    host.database.sql("DROP DATABASE registry WITH (FORCE)")
    host.database.sql("CREATE DATABASE registry OWNER registry")
    checkout = host.root / "home/rosa/quilt"
    shutil.copytree(ROOT / "deploy", checkout / "deploy")
    (checkout / "dist").mkdir()
    for suffix in (".tar", ".tar.sha256"):
        shutil.copy(host.releases[FIRST].with_suffix(suffix), checkout / f"dist/quilt-registry-{FIRST}-here{suffix}")
    host.output("cd quilt\n" + install.replace("0.1.0", FIRST).replace("OPERATOR", "rosa"), user="rosa")
    mail = {"SMTP_HOST": host.stack.environment["SMTP_HOST"], "SMTP_USERNAME": host.mail.user.decode()}
    mail["SMTP_PASSWORD"] = host.mail.password.decode()
    given = {**mail, "QUILT_HOME": "/var/lib/quilt-registry", "REGISTRY_URL": URL}
    kept = re.sub(r"^(PACKAGE_|S3_|AWS_|REGISTRY_URL|SMTP_).*\n", "", settings, flags=re.MULTILINE)
    kept = kept.replace("PASSWORD", quote(PASSWORDS["DBPassword"], safe=""))
    kept += "".join(f'{name}="{escaped(value)}"\n' for name, value in given.items())
    host.run("umask 077; cat >env/registry", user="rosa", input=kept, check=True)
    results = f"ada\nada@example.com\n{PASSWORD}\n{PASSWORD}\n"
    started = host.run(f"cd quilt\n{start}", user="rosa", input=results)
    assert started.returncode == 0, started.stdout + started.stderr
    assert "failed" not in started.stdout
    assert "quilt-registry-backup.service" in host.output("systemctl list-timers --no-pager")
    ada = registry_of(host).sign_in("ada")
    ada.install("ada", "trees", ada.push("trees", {"rows": b"1,2,3"}))


def escaped(value: str) -> str:
    """Return a value escaped as the guide says."""
    return re.sub(r'([\\"$`])', r"\\\1", value)


def registry_of(host: Instance) -> Registry:
    """Return the registry as users reach it."""
    registry = Registry(host.home)
    registry.url = URL
    return registry
