"""A real S3-compatible store on the loopback interface: one node of Ceph with its RADOS gateway, all in memory.

It comes from Debian's packages (`make test-deps`). It takes a few seconds to start, and leaves nothing behind when it
is stopped or when the tests are killed. TEST_S3_ENDPOINT, TEST_S3_ACCESS_KEY and TEST_S3_SECRET_KEY name another store
that runs already and is empty.
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
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import obstore
from obstore.store import S3Store

from quilt_registry.storage.signed_urls import S3Signer

PROGRAMS = ["ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin", "setpriv"]
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
START = 90  # seconds


class NotToBeHadError(Exception):
    """There can be no store on this machine; the message says why."""


def _check_programs() -> None:
    missing = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    if missing:
        raise NotToBeHadError(f"There is no {missing[0]}. `make test-deps` installs what the tests need.")


def _run(command: list[str], timeout: float = START, input: str = "", **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CEPH_", "PYTHON"))}
    try:
        done = subprocess.run(
            command, env={**inherited, "PATH": PATH, **environment}, input=input,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotToBeHadError(f"{command[0]} did not end within {timeout:.0f} seconds.") from None
    if done.returncode:
        raise NotToBeHadError(f"{' '.join(command[:4])} ended with {done.returncode}: {done.stdout[-800:]}")
    return done.stdout


def _free_ports(count: int) -> int:
    """The first of some ports in a row, below those that the system hands out."""
    for _ in range(200):
        first = random.randrange(20_000, 32_000 - count)
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise NotToBeHadError("There are no free ports.")


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


class S3Server:
    """A monitor, a disk that is memory, and the gateway that speaks S3; with one bucket."""

    def __init__(self, home: Path):
        self.home = home
        self.access_key, self.secret_key = secrets.token_hex(10).upper(), secrets.token_hex(20)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {"CEPH_CONF": str(home / "ceph.conf")}
        self.endpoint = ""

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a registry that keeps its objects here."""
        return {
            "PACKAGE_BUCKET_NAME": "packages",
            "S3_ENDPOINT": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    @property
    def bucket(self) -> S3Store:
        """The bucket, past the registry."""
        return S3Signer("packages", self.endpoint, "us-east-1", self.access_key, self.secret_key, 600).store()

    def add_key(self, access_key: str, secret_key: str) -> None:
        """Give the bucket's user one more key."""
        keys = f"--access-key={access_key} --secret-key={secret_key}"
        self._run(f"radosgw-admin -n client.rgw key create --uid=tests --key-type=s3 {keys}")

    def remove_key(self, access_key: str) -> None:
        self._run(f"radosgw-admin -n client.rgw key rm --uid=tests --key-type=s3 --access-key={access_key}")

    def start(self) -> None:
        """Start, and make the bucket. Raises NotToBeHadError."""
        if given := os.environ.get("TEST_S3_ENDPOINT"):
            self.endpoint = given
            self.access_key, self.secret_key = os.environ["TEST_S3_ACCESS_KEY"], os.environ["TEST_S3_SECRET_KEY"]
            self._make_bucket()
            return
        _check_programs()
        try:
            self._start(_free_ports(68))
            self._make_bucket()
        except BaseException:
            self.stop()
            raise

    def _start(self, port: int) -> None:
        home, fsid, osd = self.home, uuid.uuid4(), uuid.uuid4()
        self.endpoint = f"http://127.0.0.1:{port}"
        monitor = f"[v2:127.0.0.1:{port + 1},v1:127.0.0.1:{port + 2}]"
        for folder in ("mon", "osd", "rgw"):
            (home / folder).mkdir()
        text = CONFIGURATION.format(fsid=fsid, monitor=monitor, home=home, port=port, first=port + 3, last=port + 66)
        (home / "ceph.conf").write_text(text)
        key, ring, map = self._run("ceph-authtool --gen-print-key").strip(), home / "keyring", home / "monmap"
        self._run(f"ceph-authtool --create-keyring {ring} --gen-key -n mon. --cap mon", "allow *")
        self._run(f"ceph-authtool {ring} --gen-key -n client.admin --cap mon", "allow *", "--cap", "osd", "allow *")
        self._run(f"ceph-authtool {ring} --gen-key -n client.rgw --cap mon", "allow rw", "--cap", "osd", "allow rwx")
        self._run(f"ceph-authtool --create-keyring {home}/osd/keyring -n osd.0 --add-key {key}")
        self._run(f"monmaptool --create --fsid {fsid} --addv a", monitor, str(map))
        self._run(f"ceph-mon -i a --mkfs --monmap {map} --keyring {ring}")
        self._spawn("ceph-mon -f -i a")
        self._run(f"ceph --connect-timeout 30 osd new {osd} 0 -i -", input=json.dumps({"cephx_secret": key}))
        self._run(f"ceph-osd -i 0 --mkfs --osd-uuid {osd}")
        self._spawn("ceph-osd -f -i 0")
        self._spawn("radosgw -f -n client.rgw")
        self._wait(self._answers)
        keys = f"--access-key={self.access_key} --secret-key={self.secret_key}"
        self._run(f"radosgw-admin -n client.rgw user create --uid=tests --display-name=tests {keys}")

    def _make_bucket(self) -> None:
        made = httpx.put(obstore.sign(self.bucket, "PUT", "", timedelta(minutes=1)))
        if made.status_code not in (200, 409):  # in a store that is given, it may be there
            raise NotToBeHadError(f"The bucket cannot be made: {made.status_code} {made.text[:300]}")

    def _run(self, command: str, *more: str, input: str = "") -> str:
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
                raise NotToBeHadError(f"{' and '.join(ended) or 'The gateway'} did not start: {tail}")
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

    def _answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(self.endpoint, timeout=5).status_code < 500
        return False
