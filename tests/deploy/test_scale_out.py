"""Two registries behind the documented nginx, with one database and one bucket: either may die during work."""

from __future__ import annotations

import copy
import os
import random
import re
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import Struct, field

from tests.browsers import browser, cookie_of, sign_in
from tests.deploy.authority import Authority
from tests.deploy.nginx import Nginx, site
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Registry, free_port
from tests.s3server import NotToBeHadError, S3Server
from tests.waiting import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.s3, pytest.mark.slow]

HOST = "quilt-registry.example.com"
PEOPLE = ("abe", "bea", "cam", "dot", "eli")
# nginx's messages for a registry that broke off a request, as opposed to one that could not be reached.
BROKEN_OFF = re.compile(
    r"\[error\] .* (?:prematurely closed connection|recv\(\) failed|send\(\) failed|writev\(\) failed)"
    r'.* request: "(\w+ \S+) HTTP/1.1", upstream: "http://127.0.0.1:(\d+)/'
)


class Request(Struct):
    """A failed request: when it ended, "PUT /path", and how."""

    at: float
    what: str
    how: str


class WorkLog(Struct):
    """What users did, and the failures that they met."""

    pushed: list[tuple[str, str, str]] = field(default_factory=list)  # acknowledged: owner, package, top hash
    shared: list[tuple[str, str, str]] = field(default_factory=list)
    installed: list[tuple[str, str, str]] = field(default_factory=list)
    signed_in: list[str] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    failed: list[Request] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    killed_at: float = 0.0


class Cluster:
    """Two registries behind nginx."""

    def __init__(self, home: Path, database_url: str, s3: S3Server, mailbox: Mailbox):
        tls, authority = free_port(), Authority(home / "authority")
        self.url, self.authority = f"https://localhost:{tls}", authority.certificate
        given = {**s3.settings, "REGISTRY_URL": self.url, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port)}
        self.one, self.other = (Registry(home / name, database_url, **given) for name in ("one", "other"))
        text = site(free_port(), tls, authority.issue("localhost"), self.one.port, self.other.port)
        self.nginx = Nginx(home / "nginx", text.replace(HOST, "localhost"))

    def start(self) -> Cluster:
        self.nginx.start()
        for each in (self.one, self.other):
            each.start()
        return self

    def stop(self) -> None:
        for each in (self.one, self.other):
            assert each.stop() == 0
        self.nginx.stop()

    @property
    def entrance(self) -> Registry:
        """Return the registry as users reach it."""
        outside = copy.copy(self.one)
        outside.url = self.url
        return outside

    def broken_off(self, registry: Registry) -> Counter[str]:
        """Count the requests that a registry broke off, according to nginx's log."""
        found = BROKEN_OFF.findall(self.nginx.errors())
        return Counter(what for what, port in found if int(port) == registry.port)


class Worker(threading.Thread):
    """A user who works until the run is over."""

    def __init__(self, cluster: Cluster, name: str, work_log: WorkLog, over: threading.Event):
        super().__init__(name=name)
        self.cluster, self.work_log, self.over = cluster, work_log, over
        self.person = cluster.entrance.sign_in(name)
        self.random, self.number = random.Random(name), 0
        self._watch(self.person.http)

    def run(self) -> None:
        while not self.over.is_set():
            failed = len(self.work_log.failed)
            try:
                self.work()
            except (httpx.HTTPError, AssertionError):
                if len(self.work_log.failed) == failed:
                    self.work_log.surprises.append(traceback.format_exc())

    def work(self) -> None:
        """Push and share, install another user's package, read pages, sign in and out."""
        self.number += 1
        person, work_log, name = self.person, self.work_log, f"p{self.number}"
        files = {f"f{number}": self.random.randbytes(20_000) for number in range(4)}
        pushed = person.name, name, person.push(name, files)
        work_log.pushed.append(pushed)
        person.grant(name, "team")
        work_log.shared.append(pushed)
        found = self.random.choice(work_log.shared)
        person.install(*found)
        work_log.installed.append(found)
        for path in (f"/api/package/{person.name}/", "/api/search/?q=p1", "/api/recent_packages/", "/api/profile"):
            person.get(path).raise_for_status()
        given = {"username": person.name, "password": PASSWORD}
        token = person.post("/api/login", json=given).raise_for_status().json()["token"]
        work_log.signed_in.append(person.name)
        person.get("/api/profile", headers={"Authorization": f"Bearer {token}"}).raise_for_status()
        self.over.wait(0.05)

    def _watch(self, client: httpx.Client) -> None:
        """Record failed requests."""
        send = client.send

        def watched(request: httpx.Request, **options: Any) -> httpx.Response:
            what = f"{request.method} {request.url.raw_path.decode()}"
            try:
                answer = send(request, **options)
            except httpx.HTTPError as error:
                self.work_log.failed.append(Request(time.monotonic(), what, repr(error)))
                raise
            if answer.status_code >= 500:
                self.work_log.failed.append(
                    Request(time.monotonic(), what, f"{answer.status_code} {answer.text[:200]}")
                )
            return answer

        client.send = watched  # type: ignore[method-assign]


class Admin(Worker):
    """Creates accounts until `over` is set. Each of them gets an email."""

    def work(self) -> None:
        self.number += 1
        name = f"new{self.number}"
        given = {"username": name, "email": f"{name}@example.com"}
        self.person.post("/api/users/create", json=given).raise_for_status()
        self.work_log.invited.append(name)
        self.over.wait(0.1)


@pytest.fixture(scope="module")
def cluster(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, s3: S3Server, mailbox: Mailbox
) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"), new_database(), s3, mailbox)
    try:
        made.start()
    except NotToBeHadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(made.authority))
        yield made
    made.stop()


@pytest.fixture(scope="module")
def work_log(cluster: Cluster) -> WorkLog:
    """Let users work. One registry is killed and restarted, then the other is stopped and restarted."""
    made, over = WorkLog(), threading.Event()
    for name in PEOPLE:
        cluster.one.make_person(name)
    cluster.one.make_person("root", is_admin=True)
    workers = [*(Worker(cluster, name, made, over) for name in PEOPLE), Admin(cluster, "root", made, over)]
    for worker in workers:
        worker.start()
    try:
        time.sleep(2)
        made.killed_at = time.monotonic()
        cluster.one.kill()
        time.sleep(1)
        cluster.one.start()
        _until_it_works(cluster.one)
        assert cluster.other.stop() == 0
        cluster.other.start()
        _until_it_works(cluster.other)
    finally:
        over.set()
        for worker in workers:
            worker.join()
    return made


def _until_it_works(registry: Registry) -> None:
    """Wait until nginx sends it requests again, according to its log."""
    before = registry.log.read_text().count('"request"')
    wait_until(lambda: registry.log.read_text().count('"request"') > before + 20)


def test_only_what_was_under_way_on_the_killed_one_failed(cluster: Cluster, work_log: WorkLog) -> None:
    under_way = cluster.broken_off(cluster.one)
    failed = Counter(each.what for each in work_log.failed)
    assert failed <= under_way, work_log.failed
    assert failed.total() <= len(PEOPLE) + 1
    assert all(work_log.killed_at < each.at < work_log.killed_at + 3 for each in work_log.failed), work_log.failed
    assert work_log.surprises == []
    assert min(len(work_log.pushed), len(work_log.installed), len(work_log.signed_in), len(work_log.invited)) > 20


def test_what_was_acknowledged_is_there_on_both(cluster: Cluster, work_log: WorkLog) -> None:
    """Downloads every object and compares it with its digest."""
    for registry in (cluster.one, cluster.other):
        people = {name: registry.sign_in(name) for name in PEOPLE}
        for owner, name, top_hash in work_log.pushed:
            people[owner].install(owner, name, top_hash)


def test_the_audit_has_it_all(cluster: Cluster, work_log: WorkLog) -> None:
    rows = cluster.one.sql("SELECT kind, account, owner, package, encode(top_hash, 'hex') AS hash, subject FROM event")
    assert {(row["owner"], row["package"], row["hash"]) for row in rows if row["kind"] == "PUSH"} >= {*work_log.pushed}
    installs = Counter((row["owner"], row["package"], row["hash"]) for row in rows if row["kind"] == "INSTALL")
    assert installs >= Counter(work_log.installed)
    assert Counter(row["account"] for row in rows if row["kind"] == "SIGN_IN") >= Counter(work_log.signed_in)
    created = Counter(row["subject"] for row in rows if row["kind"] == "ACCOUNT_CREATE")
    assert all(created[name] == 1 for name in work_log.invited)


def test_each_email_is_sent_once(cluster: Cluster, work_log: WorkLog, mailbox: Mailbox) -> None:
    """An email that was being sent at the kill is an exception: its claim must expire, and it may be sent twice."""
    cluster.one.sql("UPDATE letter SET next_try = now() WHERE next_try < now() + interval '10 minutes'")
    wait_until(lambda: not cluster.one.sql("SELECT FROM letter"))
    emails = {name: mailbox.to(f"{name}@example.com") for name in work_log.invited}
    assert all(len({email.message["Message-ID"] for email in each}) == 1 for each in emails.values())
    assert sum(map(len, emails.values())) <= len(emails) + 2


def test_guesses_are_counted_over_both(cluster: Cluster) -> None:
    cluster.one.make_person("gil")

    def guess(registry: Registry) -> int:
        return httpx.post(registry.url + "/api/login", json={"username": "gil", "password": "wrong"}).status_code

    assert [guess(registry) for _ in range(5) for registry in (cluster.one, cluster.other)] == [401] * 10
    assert [guess(cluster.one), guess(cluster.other)] == [429, 429]


def test_a_sign_in_is_good_on_both_and_so_is_its_end(cluster: Cluster) -> None:
    cluster.one.make_person("hal")
    with browser(cluster.one) as client:
        cookie = cookie_of(sign_in(client, "hal"))

    def start_page(registry: Registry) -> httpx.Response:
        return httpx.get(registry.url, headers=cookie)

    assert "hal" in start_page(cluster.other).text
    with browser(cluster.other, cookie) as client:
        assert client.submit("/signout").status_code == 303
    assert [start_page(each).status_code for each in (cluster.one, cluster.other)] == [302, 302]
