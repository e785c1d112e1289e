"""Two registries behind the documented nginx, on one database and one bucket: either may die while people work."""

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

from tests.deploy.authority import Authority
from tests.deploy.nginx import Nginx, site
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Registry, free_port
from tests.s3server import NotToBeHadError, S3Server
from tests.waiting import wait_until

pytestmark = [pytest.mark.drill, pytest.mark.s3, pytest.mark.slow]

HOST = "quilt-registry.example.com"
PEOPLE = ("abe", "bea", "cam", "dot", "eli")
# How nginx says that a registry broke off what it had been asked, not that it could not be reached.
BROKEN_OFF = re.compile(
    r"\[error\] .* (?:prematurely closed connection|recv\(\) failed|send\(\) failed|writev\(\) failed)"
    r'.* request: "(\w+ \S+) HTTP/1.1", upstream: "http://127.0.0.1:(\d+)/'
)


class Request(Struct):
    """One that failed: when it ended, "PUT /path", and how."""

    at: float
    what: str
    how: str


class Day(Struct):
    """What people did, and what they met."""

    pushed: list[tuple[str, str, str]] = field(default_factory=list)  # owner, package, top hash: as acknowledged
    shared: list[tuple[str, str, str]] = field(default_factory=list)
    installed: list[tuple[str, str, str]] = field(default_factory=list)
    signed_in: list[str] = field(default_factory=list)
    invited: list[str] = field(default_factory=list)
    failed: list[Request] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    killed_at: float = 0.0


class Farm:
    """Two registries, and nginx."""

    def __init__(self, home: Path, database_url: str, s3: S3Server, mailbox: Mailbox):
        tls, authority = free_port(), Authority(home / "authority")
        self.url, self.authority = f"https://localhost:{tls}", authority.certificate
        given = {**s3.settings, "REGISTRY_URL": self.url, "SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port)}
        self.one, self.other = (Registry(home / name, database_url, **given) for name in ("one", "other"))
        text = site(free_port(), tls, authority.vouch("localhost"), self.one.port, self.other.port)
        self.nginx = Nginx(home / "nginx", text.replace(HOST, "localhost"))

    def start(self) -> Farm:
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
        """The registry as people reach it."""
        outside = copy.copy(self.one)
        outside.url = self.url
        return outside

    def broken_off(self, registry: Registry) -> Counter[str]:
        """The requests that were under way on a registry when it broke off, by nginx's word."""
        found = BROKEN_OFF.findall(self.nginx.errors())
        return Counter(what for what, port in found if int(port) == registry.port)


class Worker(threading.Thread):
    """Somebody who works until the day is over."""

    def __init__(self, farm: Farm, name: str, day: Day, over: threading.Event):
        super().__init__(name=name)
        self.farm, self.day, self.over = farm, day, over
        self.person = farm.entrance.sign_in(name)
        self.random, self.number = random.Random(name), 0
        self._watch(self.person.http)

    def run(self) -> None:
        while not self.over.is_set():
            failed = len(self.day.failed)
            try:
                self.work()
            except (httpx.HTTPError, AssertionError):
                if len(self.day.failed) == failed:
                    self.day.surprises.append(traceback.format_exc())

    def work(self) -> None:
        """Push and share, install what somebody else did, look around, sign in and out."""
        self.number += 1
        person, day, name = self.person, self.day, f"p{self.number}"
        files = {f"f{number}": self.random.randbytes(20_000) for number in range(4)}
        pushed = person.name, name, person.push(name, files)
        day.pushed.append(pushed)
        person.grant(name, "team")
        day.shared.append(pushed)
        found = self.random.choice(day.shared)
        person.install(*found)
        day.installed.append(found)
        for path in (f"/api/package/{person.name}/", "/api/search/?q=p1", "/api/recent_packages/", "/api/profile"):
            person.get(path).raise_for_status()
        given = {"username": person.name, "password": PASSWORD}
        token = person.post("/api/login", json=given).raise_for_status().json()["token"]
        day.signed_in.append(person.name)
        person.get("/api/profile", headers={"Authorization": f"Bearer {token}"}).raise_for_status()
        self.over.wait(0.05)

    def _watch(self, client: httpx.Client) -> None:
        """Note what fails."""
        send = client.send

        def watched(request: httpx.Request, **options: Any) -> httpx.Response:
            what = f"{request.method} {request.url.raw_path.decode()}"
            try:
                answer = send(request, **options)
            except httpx.HTTPError as error:
                self.day.failed.append(Request(time.monotonic(), what, repr(error)))
                raise
            if answer.status_code >= 500:
                self.day.failed.append(Request(time.monotonic(), what, f"{answer.status_code} {answer.text[:200]}"))
            return answer

        client.send = watched  # type: ignore[method-assign]


class Admin(Worker):
    """Makes accounts all day: each gets a letter."""

    def work(self) -> None:
        self.number += 1
        name = f"new{self.number}"
        given = {"username": name, "email": f"{name}@example.com"}
        self.person.post("/api/users/create", json=given).raise_for_status()
        self.day.invited.append(name)
        self.over.wait(0.1)


@pytest.fixture(scope="module")
def farm(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, s3: S3Server, mailbox: Mailbox
) -> Iterator[Farm]:
    made = Farm(tmp_path_factory.mktemp("farm"), new_database(), s3, mailbox)
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
def day(farm: Farm) -> Day:
    """People work. One registry is killed and comes back; then the other is stopped and comes back."""
    made, over = Day(), threading.Event()
    for name in PEOPLE:
        farm.one.make_person(name)
    farm.one.make_person("root", is_admin=True)
    workers = [*(Worker(farm, name, made, over) for name in PEOPLE), Admin(farm, "root", made, over)]
    for worker in workers:
        worker.start()
    try:
        time.sleep(2)
        made.killed_at = time.monotonic()
        farm.one.kill()
        time.sleep(1)
        farm.one.start()
        _until_it_works(farm.one)
        assert farm.other.stop() == 0
        farm.other.start()
        _until_it_works(farm.other)
    finally:
        over.set()
        for worker in workers:
            worker.join()
    return made


def _until_it_works(registry: Registry) -> None:
    """Until nginx gives it its share again: as its log tells, some requests."""
    before = registry.log.read_text().count('"request"')
    wait_until(lambda: registry.log.read_text().count('"request"') > before + 20)


def test_only_what_was_under_way_on_the_killed_one_failed(farm: Farm, day: Day) -> None:
    under_way = farm.broken_off(farm.one)
    failed = Counter(each.what for each in day.failed)
    assert failed <= under_way, day.failed
    assert failed.total() <= len(PEOPLE) + 1
    assert all(day.killed_at < each.at < day.killed_at + 3 for each in day.failed), day.failed
    assert day.surprises == []
    assert min(len(day.pushed), len(day.installed), len(day.signed_in), len(day.invited)) > 20


def test_what_was_acknowledged_is_there_on_both(farm: Farm, day: Day) -> None:
    """Every object is downloaded, and held against its digest."""
    for registry in (farm.one, farm.other):
        people = {name: registry.sign_in(name) for name in PEOPLE}
        for owner, name, top_hash in day.pushed:
            people[owner].install(owner, name, top_hash)


def test_the_audit_has_it_all(farm: Farm, day: Day) -> None:
    rows = farm.one.sql("SELECT kind, account, owner, package, encode(top_hash, 'hex') AS hash, subject FROM event")
    assert {(row["owner"], row["package"], row["hash"]) for row in rows if row["kind"] == "PUSH"} >= {*day.pushed}
    installs = Counter((row["owner"], row["package"], row["hash"]) for row in rows if row["kind"] == "INSTALL")
    assert installs >= Counter(day.installed)
    assert Counter(row["account"] for row in rows if row["kind"] == "SIGN_IN") >= Counter(day.signed_in)
    created = Counter(row["subject"] for row in rows if row["kind"] == "ACCOUNT_CREATE")
    assert all(created[name] == 1 for name in day.invited)


def test_each_letter_is_sent_once(farm: Farm, day: Day, mailbox: Mailbox) -> None:
    """But for one that somebody was sending when he died: its time with him must pass, and it may come twice."""
    farm.one.sql("UPDATE letter SET next_try = now() WHERE next_try < now() + interval '10 minutes'")
    wait_until(lambda: not farm.one.sql("SELECT FROM letter"))
    letters = {name: mailbox.to(f"{name}@example.com") for name in day.invited}
    assert all(len({letter.message["Message-ID"] for letter in each}) == 1 for each in letters.values())
    assert sum(map(len, letters.values())) <= len(letters) + 2


def test_guesses_are_counted_over_both(farm: Farm) -> None:
    farm.one.make_person("gil")

    def guess(registry: Registry) -> int:
        return httpx.post(registry.url + "/api/login", json={"username": "gil", "password": "wrong"}).status_code

    assert [guess(registry) for _ in range(5) for registry in (farm.one, farm.other)] == [401] * 10
    assert [guess(farm.one), guess(farm.other)] == [429, 429]


def test_a_sign_in_is_good_on_both_and_so_is_its_end(farm: Farm) -> None:
    farm.one.make_person("hal")
    given = {"username": "hal", "password": PASSWORD}
    cookie = httpx.post(farm.one.url + "/signin", data=given).headers["set-cookie"].partition(";")[0]

    def start_page(registry: Registry) -> httpx.Response:
        return httpx.get(registry.url, headers={"Cookie": cookie})

    assert "hal" in start_page(farm.other).text
    assert httpx.post(farm.other.url + "/signout", headers={"Cookie": cookie}).status_code == 303
    assert [start_page(each).status_code for each in (farm.one, farm.other)] == [302, 302]
