"""A real S3-compatible store on the loopback interface: one node of Ceph with its RADOS gateway, all in memory.

It comes from the distribution's packages, which are installed when they are missing and this runs as root. A few
seconds to start, nothing left when it is stopped or when the tests are killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
from msgspec import Struct

from quilt_registry.signing import S3Signer

PACKAGES = ["radosgw", "ceph-mon", "ceph-osd", "ceph-common"]
PROGRAMS = ["ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv"]
REGION = "us-east-1"
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
START = 90  # seconds


class NoS3(Exception):
    """There can be no store on this machine; the message says why."""


class S3(Struct):
    """A bucket: where it is and the keys to it."""

    endpoint: str
    bucket: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """The settings of a registry that keeps its objects here."""
        return {
            "PACKAGE_BUCKET_NAME": self.bucket,
            "S3_ENDPOINT": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def signer(self, lifetime: int = 3600) -> S3Signer:
        return S3Signer(self.bucket, self.endpoint, REGION, self.access_key, self.secret_key, lifetime)

    def new_bucket(self) -> S3:
        """An empty one beside this."""
        other = S3(self.endpoint, f"b{secrets.token_hex(6)}", self.access_key, self.secret_key)
        other.make()
        return other

    def make(self) -> None:
        url = obstore.sign(self.signer().store(), "PUT", "", timedelta(minutes=1))
        answer = httpx.put(url)
        if answer.status_code != 200:
            raise NoS3(f"The bucket cannot be made: {answer.status_code} {answer.text[:300]}")


@contextlib.contextmanager
def running(home: Path) -> Iterator[S3]:
    """A store with a bucket for the length of the block. Raises NoS3."""
    _install()
    cluster = _Cluster(home, _free_ports(68))
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def _install() -> None:
    missing = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoS3(f"There is no {missing[0]}. Install these Debian packages: {' '.join(PACKAGES)}.")
    install = ["apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES]
    with contextlib.suppress(NoS3):
        _run(install, 900, DEBIAN_FRONTEND="noninteractive")
        return
    _run(["apt-get", "update", "-qq"], 300)  # the lists of packages were missing or old
    _run(install, 900, DEBIAN_FRONTEND="noninteractive")


def _run(command: list[str], timeout: float = START, input: str | None = None, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CEPH_", "PYTHON"))}
    try:
        done = subprocess.run(
            command, env={**inherited, "PATH": PATH, **environment}, input=input or "",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NoS3(f"{command[0]} did not end within {timeout:.0f} seconds.") from None
    if done.returncode:
        raise NoS3(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stdout[-800:]}")
    return done.stdout


def _free_ports(count: int) -> int:
    """The first of some ports in a row, below those that the system hands out."""
    for _ in range(200):
        first = random.randrange(20_000, 32_000 - count)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise NoS3("There are no free ports.")


CONFIGURATION = """
[global]
fsid = {fsid}
mon initial members = a
mon host = {monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind port min = {first}
ms bind port max = {last}
auth allow insecure global id reclaim = false
keyring = {home}/keyring
run dir = {home}
crash dir = {home}
log file = {home}/$name.log
mon cluster log file = {home}/cluster.log
admin socket =
# one copy of everything
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
# each change of the cluster waits for these: the defaults make a start ten times as long
paxos propose interval = 0.02
paxos min wait = 0.01
# the monitor ends itself when the disk is nearly full
mon data avail warn = 2
mon data avail crit = 1
[mon.a]
mon data = {home}/mon
[osd]
osd data = {home}/osd
keyring = {home}/osd/keyring
osd objectstore = memstore
memstore device bytes = 4294967296
osd class load list = *
osd class default list = *
[client.rgw]
rgw data = {home}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
rgw enable apis = s3
# one shard, so that a page of a listing is full
rgw override bucket index max shards = 1
rgw dynamic resharding = false
"""


class _Cluster:
    """A monitor, a disk that is memory, and the gateway that speaks S3."""

    def __init__(self, home: Path, ports: int):
        self.home, self.port, self.ports = home, ports, ports + 1
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {"CEPH_CONF": str(home / "ceph.conf")}

    def start(self) -> S3:
        home, monitor = self.home, f"[v2:127.0.0.1:{self.ports},v1:127.0.0.1:{self.ports + 1}]"
        for folder in ("mon", "osd", "rgw"):
            (home / folder).mkdir(parents=True)
        fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
        (home / "ceph.conf").write_text(
            CONFIGURATION.format(
                fsid=fsid, monitor=monitor, home=home, port=self.port, first=self.ports + 2, last=self.ports + 65
            )
        )
        key, ring, first_map = self._run("ceph-authtool --gen-print-key").strip(), home / "keyring", home / "monmap"
        self._run(f"ceph-authtool --create-keyring {ring} --gen-key -n mon. --cap mon", "allow *")
        self._run(f"ceph-authtool {ring} --gen-key -n client.admin --cap mon", "allow *", "--cap", "osd", "allow *")
        self._run(f"ceph-authtool {ring} --gen-key -n client.rgw --cap mon", "allow rw", "--cap", "osd", "allow rwx")
        self._run(f"ceph-authtool --create-keyring {home}/osd/keyring -n osd.0 --add-key {key}")
        self._run(f"monmaptool --create --fsid {fsid} --addv a", monitor, str(first_map))
        self._run(f"ceph-mon -i a --mkfs --monmap {first_map} --keyring {ring}")
        self._spawn("ceph-mon -f -i a")
        self._run(f"ceph --connect-timeout 30 osd new {osd} 0 -i -", input=json.dumps({"cephx_secret": key}))
        self._run(f"ceph-osd -i 0 --mkfs --osd-uuid {osd}")
        self._spawn("ceph-osd -f -i 0")
        self._spawn("radosgw -f -n client.rgw")
        store = S3(f"http://127.0.0.1:{self.port}", "packages", secrets.token_hex(10).upper(), secrets.token_hex(20))
        self._wait(lambda: _answers(store.endpoint))
        self._run(
            "radosgw-admin -n client.rgw user create --uid=tests --display-name=tests "
            f"--access-key={store.access_key} --secret-key={store.secret_key}"
        )
        store.make()
        return store

    def _run(self, command: str, *more: str, input: str | None = None) -> str:
        return _run([*command.split(), *more], START, input, **self.environment)

    def _spawn(self, command: str) -> None:
        """Start a program that ends with this process, even if that is killed."""
        name = command.split()[0]
        with open(self.home / f"{name}.out", "wb") as out:
            self.processes[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command.split()],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.home, start_new_session=True,
                env={**os.environ, **self.environment, "PATH": PATH},
            )  # fmt: skip

    def _wait(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + START
        while not ready():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > end:
                tail = "".join((self.home / f"{name}.out").read_text()[-500:] for name in self.processes)
                raise NoS3(f"{' and '.join(ended) or 'The gateway'} did not start: {tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """The gateway first: without its disk it would not end by itself."""
        for process in reversed(self.processes.values()):
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(endpoint: str) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(endpoint, timeout=5).status_code < 500
    return False
