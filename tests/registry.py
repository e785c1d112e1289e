"""A real registry in a process of its own, and people who talk to it over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import asyncpg
import httpx
import uvicorn
from argon2 import PasswordHasher
from click.testing import CliRunner

from quilt_registry import app, settings
from quilt_registry.audit import PACKAGE_KINDS
from quilt_registry.cli import cli, http_protocol
from quilt_registry.offload import Offload
from quilt_registry.web.proxies import trusted_proxies
from tests import held, trees
from tests.trees import Files, Json
from tests.waiting import wait_until

PASSWORD = "correct horse"
_DIGEST = PasswordHasher(time_cost=1, memory_cost=8192).hash(PASSWORD)
_numbers = itertools.count(1)


def new_name(prefix: str = "p") -> str:
    """A package name that no other test uses."""
    return f"{prefix}{next(_numbers)}"


def _bound(port: int) -> socket.socket | None:
    """A socket that holds a port; None if somebody else has it."""
    holder = socket.socket()
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        return None
    return holder


# Below those that the system gives to connections, and others for each process that tests: it holds the first of them.
_holder = next(filter(None, map(_bound, range(10_000, 32_000, 2_000))))
_first = _holder.getsockname()[1]
_ports = itertools.cycle(random.sample(range(_first + 1, _first + 2_000), 1_999))


def free_port() -> int:
    return next(filter(_is_free, _ports))


def _is_free(port: int) -> bool:
    if holder := _bound(port):
        holder.close()
    return holder is not None


def run_sql(url: str, query: str, *values: Any) -> list[Any]:
    """Look into, or change, a database directly."""

    async def run() -> list[Any]:
        connection = await asyncpg.connect(url)
        try:
            return list(await connection.fetch(query, *values))
        finally:
            await connection.close()

    return asyncio.run(run())


class Registry:
    """`quilt-registry serve` on a free port. Without `database_url` it is embedded in `home`."""

    def __init__(self, home: Path, database_url: str | None = None, workers: int = 1, **environment: str):
        self.home, self.database_url, self.workers = home, database_url, workers
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "QUILT_", "S3_"))},
            "QUILT_HOME": str(home),
            "REGISTRY_URL": self.url,
            "QUILT_SECRET_KEY": "a secret for tests",
            **({"DATABASE_URL": database_url} if database_url else {}),
            **environment,
        }
        self.options: list[str] = []  # more of `serve`
        self.process: subprocess.Popen[bytes] | None = None
        self.people: list[Person] = []
        self.log = home / "serve.log"

    @property
    def objects(self) -> Path:
        return self.home / "objects"

    def command(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run another command of `quilt-registry` with the same settings."""
        return subprocess.run(
            [sys.executable, "-m", "quilt_registry", *arguments],
            env=self.environment, input=input, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def start(self) -> Registry:
        self.home.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            command = [sys.executable, "-m", "quilt_registry", "serve", "--port", str(self.port)]
            self.process = subprocess.Popen(
                [*command, "--workers", str(self.workers), *self.options],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        wait_until(lambda: self.has_ended() or self.answers(), 60, self.log.read_text)
        assert not self.has_ended(), f"The registry did not start:\n{self.log.read_text()[-3000:]}"
        return self

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def answers(self) -> bool:
        try:
            return httpx.get(self.url + "/healthcheck", timeout=5).text == "ok"
        except httpx.HTTPError:
            return False

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(with_signal)
        return self.process.wait(90)

    def hang_up(self) -> None:
        """Close the connections that idle clients keep alive, for which `stop` waits a second."""
        for person in self.people:
            for client in (person.http, person.transfers):
                client._transport.close()

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    def sql(self, query: str, *values: Any) -> list[Any]:
        assert self.database_url is not None
        return run_sql(self.database_url, query, *values)

    @contextlib.contextmanager
    def left_open(self, statement: str) -> Iterator[None]:
        """Somebody did this in a transaction and leaves it open."""
        with asyncio.Runner() as runner:
            connection = runner.run(asyncpg.connect(self.database_url))
            try:
                runner.run(connection.execute("BEGIN"))
                runner.run(connection.execute(statement))
                yield
            finally:
                runner.run(connection.close())

    def make_person(self, name: str, **columns: Any) -> Person:
        """An account, and somebody signed in to it."""
        columns = {"name": name, "email": f"{name}@example.com", "password": _DIGEST, **columns}
        places = ", ".join(f"${i}" for i in range(1, len(columns) + 1))
        self.sql(f"INSERT INTO account ({', '.join(columns)}) VALUES ({places})", *columns.values())
        return self.sign_in(name) if columns.get("is_active", True) else Person(self, name, None)

    def sign_in(self, name: str) -> Person:
        answer = httpx.post(self.url + "/api/login", json={"username": name, "password": PASSWORD}, timeout=30)
        return Person(self, name, answer.raise_for_status().json()["token"])

    def nobody(self) -> Person:
        """Somebody who is not signed in."""
        return Person(self, "", None)

    def events(self, owner: str, name: str, kinds: tuple[str, ...] = PACKAGE_KINDS) -> list[Json]:
        """What happened to a package, the oldest first."""
        rows = self.sql(
            """SELECT kind, account, encode(top_hash, 'hex') AS hash, extra FROM event
               WHERE owner = $1 AND package = $2 AND kind = ANY($3::text[]) ORDER BY id""",
            owner, name, kinds,
        )  # fmt: skip
        return [{**dict(row), "extra": row["extra"] and json.loads(row["extra"])} for row in rows]


class LocalRegistry(Registry):
    """The same service in a thread of this process, over real sockets: it starts in a tenth of the time.

    For tests of what settings do to requests. Its log and its processes are those of the tests.
    """

    def __init__(self, home: Path, database_url: str | None = None, *, host: str = "127.0.0.1", **environment: str):
        super().__init__(home, database_url, **environment)
        self.host = host

    def start(self) -> LocalRegistry:
        with mock.patch.dict(os.environ, self.environment, clear=True):
            service = held.watched(app.build(settings.load()))
        config = uvicorn.Config(
            service, loop="uvloop", http=http_protocol.Protocol, log_config=None, access_log=False, server_header=False,
            forwarded_allow_ips=trusted_proxies(self.environment.get("FORWARDED_ALLOW_IPS", "127.0.0.1")),
        )  # fmt: skip
        self.server = uvicorn.Server(config)
        family, both = (socket.AF_INET6, True) if ":" in self.host else (socket.AF_INET, False)
        listener = socket.create_server((self.host, self.port), family=family, backlog=100, dualstack_ipv6=both)
        self.thread = threading.Thread(target=self.server.run, args=([listener],), daemon=True)
        # A helper process starts when the first large request needs one.
        with mock.patch.object(Offload, "warm_up", mock.AsyncMock()):
            self.thread.start()
            wait_until(lambda: self.server.started or not self.thread.is_alive(), 30)
        assert self.server.started, "The registry did not start."
        return self

    def command(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, without a second of importing, unless it changes the process."""
        if arguments[0] in ("serve", "backup", "restore"):
            return super().command(*arguments, input=input)
        with mock.patch.dict(os.environ, self.environment, clear=True):
            done = CliRunner().invoke(cli, arguments, input=input, prog_name="quilt-registry")
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        self.hang_up()
        self.server.should_exit = True
        self.thread.join(30)
        return int(self.thread.is_alive())


class Person:
    """Somebody with a token, and what they do with packages."""

    def __init__(self, registry: Registry, name: str, token: str | None):
        self.registry, self.name, self.token = registry, name, token
        registry.people.append(self)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=registry.url, headers=headers, timeout=120)
        # Objects travel without the token.
        self.transfers = httpx.Client(timeout=120)
        self.get, self.put, self.post, self.delete = self.http.get, self.http.put, self.http.post, self.http.delete

    def send_push(
        self, owner: str, name: str, node: Json, dry_run: bool = False, top_hash: str | None = None,
        sizes: dict[str, int] | None = None, path: str = "", **more: Any,
    ) -> httpx.Response:  # fmt: skip
        """One request of a push as the released client sends it: gzipped JSON."""
        body = {"contents": node, "description": "", "sizes": sizes or {}, "dry_run": dry_run, **more}
        data = gzip.compress(json.dumps(body).encode())
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        if path:
            return self.post(f"/api/package_update/{owner}/{name}/{path}", content=data, headers=headers)
        target = f"/api/package/{owner}/{name}/{top_hash or trees.top_hash(node)}"
        return self.put(target, content=data, headers=headers)

    def upload(self, owner: str, name: str, node: Json, data: list[bytes], path: str = "", **more: Any) -> Json:
        """Dry run, then HEAD and PUT as the released client does; returns the upload URLs."""
        answer = self.send_push(owner, name, node, dry_run=True, path=path, **more)
        assert answer.status_code == 200, answer.text
        urls: Json = answer.json()["upload_urls"]
        for each in data:
            url = urls[trees.sha(each)]
            if self.transfers.head(url["head"]).status_code >= 400:
                assert self.transfers.put(url["put"], content=each).status_code < 400
        return urls

    def push_tree(
        self, name: str, node: Json, data: list[bytes], owner: str | None = None, tag: str = "latest", **more: Any
    ) -> str:
        """A whole push: dry run, uploads, real push, tag. Returns the top hash."""
        owner = owner or self.name
        self.upload(owner, name, node, data, **more)
        answer = self.send_push(owner, name, node, sizes=trees.sizes(data), **more)
        assert answer.status_code == 200, answer.text
        top_hash: str = answer.json()["package_hash"]
        if tag:
            answer = self.put(f"/api/tag/{owner}/{name}/{tag}", json={"hash": top_hash})
            assert answer.status_code == 200, answer.text
        return top_hash

    def push(self, name: str, files: Files, owner: str | None = None, **more: Any) -> str:
        """Push nested dicts of bytes."""
        return self.push_tree(name, trees.tree(files), trees.contents(files), owner, **more)

    def push_part(
        self, name: str, path: str, node: Json, data: list[bytes], owner: str | None = None
    ) -> httpx.Response:
        """A push of a part, uploads included; the answer of the real one."""
        self.upload(owner or self.name, name, node, data, path=path)
        return self.send_push(owner or self.name, name, node, sizes=trees.sizes(data), path=path)

    def install(self, owner: str, name: str, top_hash: str, **query: str) -> Json:
        """The answer to an install, every object in it downloaded and checked."""
        answer = self.get(f"/api/package/{owner}/{name}/{top_hash}", params=query)
        assert answer.status_code == 200, answer.text
        package: Json = answer.json()
        assert trees.top_hash(package["contents"]) == top_hash
        assert package["urls"].keys() == package["sizes"].keys()
        for object_name, url in package["urls"].items():
            data = download(url, package["sizes"][object_name], self.transfers)
            assert trees.sha(data) == object_name
        return package

    def grant(self, name: str, grantee: str) -> None:
        assert self.put(f"/api/access/{self.name}/{name}/{grantee}").status_code == 200


def download(url: str, size: int, client: httpx.Client | None = None) -> bytes:
    """As the released client does: a range from 0, or plainly for an empty object."""
    client = client or httpx.Client(timeout=120)
    if size == 0:
        answer = client.get(url)
        assert answer.status_code < 400
    else:
        answer = client.get(url, headers={"Range": "bytes=0-"})
        assert answer.status_code == 206, answer.text
        assert answer.headers["content-range"] == f"bytes 0-{size - 1}/{size}"
    return answer.content
