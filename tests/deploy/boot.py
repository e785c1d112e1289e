"""A throw-away Debian under a real systemd, surrounded by what an instance of the stack finds on AWS.

systemd-nspawn boots it in a network namespace with only a loopback interface. There also run: an emulator of AWS that
holds the stack, under the host names of AWS; a PostgreSQL that accepts TLS only; and a mail server.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from moto import mock_aws
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Response

from tests.deploy import release
from tests.deploy.authority import Authority
from tests.deploy.cloud import BUCKET, REGION, Cloud
from tests.deploy.debian import packed_root, require, skip_or_fail, unpack
from tests.deploy.templates import PASSWORDS, resolve, tool
from tests.mailbox import Mailbox
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
PACKAGES = (
    *("systemd", "dbus", "python3", "python3-venv", "ca-certificates", "curl", "iproute2", "procps"),
    *("sudo", "postgresql-client"),  # Amazon's images contain sudo; the boot adds pg_dump with dnf
)
VERSIONS = ("0.1.0+boot1", "0.1.0+boot2", "0.1.0+broken")
RELEASES = "example-com-releases"  # a bucket
HERE = "127.0.0.1"


def _run(*command: object, timeout: float = 600) -> str:
    """Run a program of this machine, or skip the test if it is missing."""
    words = list(map(str, command))
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout)
    if done.returncode:
        skip_or_fail(f"{' '.join(words[:4])} ended with {done.returncode}: {done.stdout[-800:]}")
    return done.stdout


# ------------------------------------------------------------------------------------------------ the releases


def _python_version(root: Path) -> str:
    """Return the version of the root's Python, which may differ from that of the tests."""
    return _run("chroot", root, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()


def add_aws_command(root: Path) -> None:
    """Add the AWS command line, which Amazon's images contain."""
    options = ["--quiet", "--no-compile", f"--python-version={_python_version(root)}", "--only-binary=:all:"]
    _run(tool("pip"), "install", *options, "--target", root / "opt/awscli", "awscli")
    command = root / "usr/local/bin/aws"
    command.write_text('#!/bin/sh\nPYTHONPATH=/opt/awscli exec python3 -m awscli "$@"\n')
    command.chmod(0o755)


def build_releases(root: Path, to: Path) -> dict[str, Path]:
    """Build a release of the checkout in each of these versions, for the root's Python. The last one does not run."""
    target = f"--target={_python_version(root)}-{platform.machine()}"
    *working, broken = VERSIONS
    wheels = None
    built = {}
    for version in working:
        built[version] = release.build_version(version, to, target, wheels=wheels)
        wheels = wheels or release.unpack(built[version], to / "first") / "wheels"
    built[broken] = release.build_version(broken, to, target, wheels=wheels, __init__="import what_is_not_there\n")
    return built


# ------------------------------------------------------------------------------------------------ the machine


class Machine:
    """A root directory that systemd-nspawn boots in this thread's network namespace."""

    def __init__(self, root: Path) -> None:
        self.root, self.console = root, root.parent / "console"
        self.process: subprocess.Popen[bytes] | None = None
        self.init = ""

    def start(self) -> None:
        """Boot, and wait until systemd has no jobs left."""
        command = ["systemd-nspawn", "--register=no", "--keep-unit", f"--directory={self.root}", "--boot"]
        with open(self.console, "ab") as console:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command, "systemd.unit=multi-user.target"],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console,
            )  # fmt: skip
        wait_until(self._is_there, 30, self.console.read_text)
        wait_until(self._is_up, 60, self.console.read_text)

    def _is_there(self) -> bool:
        """Return whether init runs: a child of systemd-nspawn that has PID 1 in its own namespace."""
        assert self.process is not None
        assert self.process.poll() is None, self.console.read_text()
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.init = next((child for child in children if _is_init(child)), "")
        return self.init != ""

    def _is_up(self) -> bool:
        return self.run("systemctl is-system-running").stdout.strip() in ("running", "degraded")

    def run(
        self, script: str, user: str = "root", input: str = "", check: bool = False, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a script inside, as root or as another user, with PYTHON set as hosts other than Amazon's need it."""
        settings = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "HOME": "/root", "PYTHON": "python3"}
        words = ["bash", "-c", script] if user == "root" else ["runuser", "--login", user, "--command", script]
        done = subprocess.run(
            ["nsenter", "--target", self.init, "--all", "--", *words],
            env=settings | environment, input=input, capture_output=True, text=True, timeout=250,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done

    def output(self, script: str, user: str = "root") -> str:
        """Return the output of a script, which must succeed."""
        return self.run(script, user, check=True).stdout.strip()

    def reboot(self) -> None:
        """Reboot as `systemctl reboot` does. systemd-nspawn leaves the second half to its caller."""
        assert self.process is not None
        self.run("systemctl reboot")
        self.process.wait(120)
        self.start()

    def stop(self) -> None:
        """Kill init, which ends all processes inside. Killing systemd-nspawn would not."""
        if self.process and self.process.poll() is None:
            os.kill(int(self.init or self.process.pid), signal.SIGKILL)
            self.process.wait(30)


def _is_init(pid: str) -> bool:
    with contextlib.suppress(OSError):
        numbers = re.findall(r"^NSpid:\s*(.*)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)[0].split()
        return len(numbers) > 1 and numbers[-1] == "1"
    return False


@contextlib.contextmanager
def private_mounts(at: Path) -> Iterator[None]:
    """Give this thread, and all that it starts meanwhile, a private mount namespace with a tmpfs at this path.

    The mounts disappear with the last process that sees them, even if the tests are killed.
    """
    with _unshare("mnt", 0x20000):  # CLONE_NEWNS
        _run("mount", "--make-rprivate", "/")
        _run("mount", "-t", "cgroup2", "none", "/sys/fs/cgroup")
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "none", at)
        yield


@contextlib.contextmanager
def private_network() -> Iterator[None]:
    """Give this thread, and all that it starts meanwhile, a network namespace with only a loopback interface."""
    with _unshare("net", 0x40000000):  # CLONE_NEWNET
        _run("ip", "link", "set", "lo", "up")
        yield


@contextlib.contextmanager
def _unshare(kind: str, flag: int) -> Iterator[None]:
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY)
    try:
        if libc.unshare(flag):
            skip_or_fail(f"namespaces are not permitted here: {os.strerror(ctypes.get_errno())}")
        yield
    finally:
        libc.unshare(0x200)  # CLONE_FS: threads started meanwhile share the same directories
        assert libc.setns(before, flag) == 0
        os.close(before)


# ------------------------------------------------------------------------------------------------ surroundings


def _tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class Aws:
    """The emulator under the host names of AWS, and the URL of the certificates of its databases.

    It remembers the key that signed the latest request to the bucket.
    """

    bundle = "truststore.pki.rds.amazonaws.com"
    s3 = tuple(f"{bucket}.s3.{REGION}.amazonaws.com" for bucket in (BUCKET, RELEASES))
    hosts = (*s3, f"secretsmanager.{REGION}.amazonaws.com", bundle)

    def __init__(self, certificate: Path, database_authority: bytes) -> None:
        self.database_authority, self.signed_with = database_authority, ""
        self.emulator = DomainDispatcherApplication(create_backend_app)
        self.server = make_server(
            HERE, 443, self._answer, threaded=True, request_handler=MotoRequestHandler, ssl_context=_tls(certificate)
        )
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["HTTP_HOST"] != self.bundle:
            if environ["HTTP_HOST"].startswith(BUCKET):
                signature = environ.get("HTTP_AUTHORIZATION", "")
                self.signed_with = "".join(re.findall(r"Credential=(\w+)/", signature)) or self.signed_with
                environ.pop("CONTENT_TYPE", None)  # otherwise the emulator takes an upload for a form
            return self.emulator(environ, start_response)
        known = environ["PATH_INFO"] == "/global/global-bundle.pem"
        return Response(self.database_authority, 200 if known else 404)(environ, start_response)

    def stop(self) -> None:
        self.server.shutdown()


class Postgres:
    """The stack's database: accepts TLS connections only, with the password only."""

    def __init__(self, home: Path, certificate: Path, password: str) -> None:
        programs = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
        if not programs:
            skip_or_fail("there is no PostgreSQL of Debian")
        self.programs, self.data, self.certificate = Path(programs[-1]), home / "postgres", certificate
        self.data.mkdir()
        for path in (self.data, self.certificate):
            shutil.chown(path, "postgres", "postgres")
        self.process: subprocess.Popen[bytes] | None = None
        _run(
            *self._as_owner("initdb"),
            "--no-sync",
            "--auth-local=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            self.data,
        )
        (self.data / "pg_hba.conf").write_text(f"local all postgres trust\nhostssl all all {HERE}/32 scram-sha-256\n")
        self.start()
        self.sql("CREATE ROLE registry LOGIN")
        self.sql("CREATE DATABASE registry OWNER registry")
        self.set_password(password)

    def start(self) -> None:
        settings = {
            "listen_addresses": HERE, "unix_socket_directories": self.data, "fsync": "off", "ssl": "on",
            "ssl_cert_file": self.certificate, "ssl_key_file": self.certificate,
        }  # fmt: skip
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with open(self.data / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*self._as_owner("postgres"), "-D", self.data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.data,
            )  # fmt: skip
        ready = [*self._as_owner("pg_isready"), "--quiet", "--host", str(self.data)]
        wait_until(lambda: subprocess.run(ready).returncode == 0, 30, (self.data / "log").read_text)

    def stop(self) -> None:
        if self.process:
            self.process.send_signal(signal.SIGINT)  # does not wait for clients
            self.process.wait(30)

    def sql(self, statement: str) -> str:
        return _run(*self._as_owner("psql"), "--host", self.data, "-v", "ON_ERROR_STOP=1", "-tAc", statement).strip()

    def set_password(self, password: str) -> None:
        self.sql(f"ALTER ROLE registry PASSWORD '{password}'")

    def _as_owner(self, program: str) -> list[str]:
        owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=KILL"]
        return [*owner, str(self.programs / program)]


class MailServer(Mailbox):
    """Accepts emails from the stack's user only, over encrypted connections only."""

    def __init__(self, certificate: Path, user: str, password: str) -> None:
        super().__init__(
            587, tls_context=_tls(certificate), require_starttls=True, auth_required=True, authenticator=self
        )
        self.user, self.password = user.encode(), password.encode()

    def __call__(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        assert isinstance(data, LoginPassword)
        return AuthResult(success=(data.login, data.password) == (self.user, self.password), handled=False)


# ------------------------------------------------------------------------------------------------ the instance

CFN_INIT = '''#!/usr/bin/python3
"""A stand-in for cfn-init: does what this stack needs, and fails on anything else."""
import json, os, pathlib, shutil, subprocess, sys

init = json.loads(pathlib.Path("/opt/aws/init.json").read_text())
assert sys.argv[1:4] == ["-v", "--configsets", "default"], sys.argv
for name in init["configSets"]["default"]:
    files, commands = init[name].pop("files", {}), init[name].pop("commands", {})
    assert not init[name], init[name]
    for path, file in files.items():
        assert set(file) == {"content", "mode", "owner", "group"}, file
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pathlib.Path(path).write_text(file["content"])
        os.chmod(path, int(file["mode"], 8))
        shutil.chown(path, file["owner"], file["group"])
    for key in sorted(commands):
        assert set(commands[key]) == {"command"}, commands[key]
        with open("/var/log/cfn-init-cmd.log", "a") as log:
            status = subprocess.call(commands[key]["command"], shell=True, stdout=log, stderr=log)
            print(f"Command {key} ended with {status}.", file=log)
        if status:
            sys.exit(status)
'''

# The second version of the command line, which Amazon's images contain, always uses the endpoint of the Region.
AWS_CONFIG = """[default]
ca_bundle = /etc/ssl/certs/ca-certificates.crt
s3 =
    us_east_1_regional_endpoint = regional
"""

CFN_SIGNAL = """#!/bin/sh
echo "$2" >/opt/aws/signal
"""


class Instance(Machine):
    """An instance of the stack on Amazon's image, with all services that it needs."""

    def __init__(self, **parameters: str) -> None:
        self.home, self.parameters = Path(tempfile.mkdtemp(prefix="instance-")), parameters
        super().__init__(self.home / "root")
        self.ends = contextlib.ExitStack()
        self.ends.callback(self.home.rmdir)

    def launch(self) -> None:
        """Create the root and the stack, start the surrounding services, and boot."""
        require("systemd-nspawn", "nsenter", "unshare", "setpriv", "ip", "chroot")
        packed = packed_root(PACKAGES)
        self.ends.enter_context(private_mounts(self.home))
        unpack(packed, self.root)
        add_aws_command(self.root)
        self.releases = build_releases(self.root, self.home / "releases")
        self.ends.enter_context(private_network())
        self.ends.enter_context(mock_aws())
        cloud = Cloud()
        cloud.s3.create_bucket(Bucket=RELEASES)
        for built in self.releases.values():
            cloud.s3.upload_file(str(built), RELEASES, built.name)
        url, digest = self.release(VERSIONS[0])
        self.stack = cloud.create(ReleaseUrl=url, ReleaseSha256=digest, **self.parameters)
        self._start_services()
        self._prepare_root()
        self.ends.callback(super().stop)
        try:
            self.start()
        except AssertionError as error:
            skip_or_fail(f"systemd does not boot here: {str(error)[-800:]}")
        self.run("update-ca-certificates && useradd --create-home --shell /bin/bash ec2-user", check=True)

    def release(self, version: str) -> tuple[str, str]:
        """Return URL and SHA-256 of a release."""
        built = self.releases[version]
        return f"s3://{RELEASES}/{built.name}", hashlib.sha256(built.read_bytes()).hexdigest()

    def _start_services(self) -> None:
        given, database = self.stack.environment, self.stack.out["DatabaseEndpoint"]
        of_web = Authority(self.home / "web", "a public authority")
        of_databases = Authority(self.home / "databases", "Amazon's authority for databases")
        trusted = self.root / "usr/local/share/ca-certificates/test.crt"
        trusted.write_bytes(of_web.certificate.read_bytes())
        mail_host = given["SMTP_HOST"]
        certificate = of_web.issue(mail_host, *Aws.hosts)
        self.aws = Aws(certificate, of_databases.certificate.read_bytes())
        self.ends.callback(self.aws.stop)
        self.mail = MailServer(certificate, given["SMTP_USERNAME"], given["SMTP_PASSWORD"])
        self.ends.callback(self.mail.stop)
        self.mail.start()
        certificate = of_databases.issue(database)
        self.database = Postgres(self.home, certificate, PASSWORDS["DBPassword"])
        self.ends.callback(self.database.stop)
        name = socket.gethostname()  # sudo looks it up
        (self.root / "etc/hosts").write_text(f"{HERE} localhost {name} {mail_host} {database} {' '.join(Aws.hosts)}\n")

    def _prepare_root(self) -> None:
        """Add what Amazon's image and the instance's role provide."""
        files = {
            "etc/sudoers.d/ec2-user": "ec2-user ALL=(ALL) NOPASSWD: ALL\n",
            "root/.aws/credentials": "[default]\naws_access_key_id = role\naws_secret_access_key = role\n",
            "root/.aws/config": AWS_CONFIG,
            "opt/aws/bin/cfn-init": CFN_INIT,
            "opt/aws/bin/cfn-signal": CFN_SIGNAL,
            "opt/aws/init.json": json.dumps(self._from_template("Metadata", "AWS::CloudFormation::Init")),
            "opt/aws/user-data": self._from_template("Properties", "UserData")["Fn::Base64"],
        }
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755 if "bin" in name else 0o600)

    def _from_template(self, *keys: str) -> Any:
        """Return a part of the instance's template as CloudFormation resolves it."""
        node = resolve(self.stack.template, self.stack.given)["Resources"]["RegistryInstance"]
        for key in keys:
            node = node[key]
        return self._substituted(node)

    def _substituted(self, node: Any) -> Any:
        if isinstance(node, dict):
            if "Fn::Sub" in node:
                return re.sub(r"\$\{([\w:]+)\}", lambda found: self._value(found[1]), node["Fn::Sub"])
            return {key: self._substituted(value) for key, value in node.items()}
        return node

    def _value(self, name: str) -> str:
        known = {"AWS::Region": REGION, "AWS::StackName": self.stack.name}
        defaults = {key: str(p["Default"]) for key, p in self.stack.template["Parameters"].items() if "Default" in p}
        return (known | defaults | self.stack.given).get(name) or self.stack.physical(name)

    def boot(self, within: str = "", **environment: str) -> tuple[int, str]:
        """Run the first boot as cloud-init does. Return the signalled status and the log of its commands."""
        (self.root / "opt/aws/signal").unlink(missing_ok=True)
        log = self.root / "var/log/cfn-init-cmd.log"
        log.unlink(missing_ok=True)
        self.run(f"{within} bash /opt/aws/user-data", **environment)
        return int((self.root / "opt/aws/signal").read_text()), log.read_text()

    def stop(self) -> None:
        self.ends.close()
