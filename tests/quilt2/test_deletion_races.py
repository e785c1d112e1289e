"""A package that is deleted between any two statements of a request: the request is whole, or 404."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests import trees
from tests.browsers import browser, sign_in
from tests.interruptions import MAX_STATEMENTS, interrupted
from tests.registry import LocalRegistry, Registry
from tests.trees import Json

FILES = {"README": b"Bicycles of Utrecht", "g": {"a": b"a"}}
NODE, DATA = trees.tree(FILES), trees.contents(FILES)
HASH = trees.top_hash(NODE)
OTHER = trees.tree({"b": b"b"})

_DELETE = "DELETE FROM package_object; DELETE FROM package_page; DELETE FROM package"


class Package:
    """Makes Anna's package p, with all that can belong to one, again and again."""

    def __init__(self, registry: Registry):
        self.registry, self.anna, self.ben = registry, registry.make_person("anna"), registry.make_person("ben")
        self.pages = browser(registry)
        sign_in(self.pages, "anna")

        self.anna.upload("anna", "p", NODE, DATA)

    def make(self) -> None:
        self.registry.sql("DELETE FROM package_object")
        self.registry.sql("DELETE FROM package_page")
        self.registry.sql("DELETE FROM package")
        self.anna.send_push("anna", "p", NODE, sizes=trees.sizes(DATA)).raise_for_status()
        self.anna.put("/api/tag/anna/p/latest", json={"hash": HASH}).raise_for_status()
        self.registry.sql(_ADD_THE_REST, COMMENT)


COMMENT = "0123456789abcdef"
_ADD_THE_REST = """
    WITH i AS (SELECT id, package_id FROM instance),
    t AS (INSERT INTO tag SELECT package_id, 't', id FROM i),
    v AS (INSERT INTO version SELECT package_id, '1.0', '1.0', id, 'anna' FROM i),
    a AS (INSERT INTO access SELECT package_id, 'ben' FROM i),
    n AS (INSERT INTO invitation (package_id, email, invited_by) SELECT package_id, 'new@example.com', 'anna' FROM i)
    INSERT INTO comment (key, package_id, author, contents) SELECT $1, package_id, 'anna', 'Hello' FROM i
"""


@pytest.fixture(scope="module")
def package(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Package]:
    registry = LocalRegistry(tmp_path_factory.mktemp("home"), new_database(), RATE_LIMITS="off").start()
    yield Package(registry)
    registry.stop()


def interrupt(package: Package, request: Callable[[], httpx.Response]) -> Iterator[tuple[httpx.Response, bool]]:
    """Yield the response to a request, with the deletion before each of its statements, and whether it was in time."""
    for number in range(1, MAX_STATEMENTS):
        package.make()
        with interrupted(package.registry, number, _DELETE) as deletion:
            answer = request()
        yield answer, deletion.done
        if deletion.seen < number:
            return
    pytest.fail("The request has too many statements.")


READS = {
    "install": f"/api/package/anna/p/{HASH}",
    "install of a subpath": f"/api/package/anna/p/{HASH}?subpath=g",
    "preview": f"/api/package_preview/anna/p/{HASH}",
    "instances": "/api/package/anna/p/",
    "tags": "/api/tag/anna/p/",
    "tag": "/api/tag/anna/p/t",
    "versions": "/api/version/anna/p/",
    "version": "/api/version/anna/p/1.0",
    "log": "/api/log/anna/p/",
    "access": "/api/access/anna/p/",
    "access of a user": "/api/access/anna/p/ben",
    "invitations": "/api/invite/anna/p/",
    "comments": "/api/comments/anna/p/",
    "page of comments": "/api/comments/anna/p/?limit=10",
    "events": "/api/package_timeseries/anna/p/push",
}
VOLATILE = {"created_at", "updated_at", "created", "id", "invitation_id", "invited_at", "urls", "readme_url", "total",
            "timeSeries", "log_count"}  # fmt: skip


def essence(answer: httpx.Response) -> Any:
    """Return what is the same in each answer about the package."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(each) for key, each in value.items() if key not in VOLATILE}
        return [strip(each) for each in value] if isinstance(value, list) else value

    return strip(answer.json())


def cases(named: dict[str, Any], *, quick: str) -> list[Any]:
    """Return all values with their names. All but one are drills, because each sends dozens of requests."""
    marks = {name: () if name == quick else pytest.mark.drill for name in named}
    return [pytest.param(value, id=name, marks=marks[name]) for name, value in named.items()]


@pytest.mark.parametrize("path", cases(READS, quick="install"))
def test_a_read_is_whole_or_404(package: Package, path: str) -> None:
    package.make()
    whole = essence(package.anna.get(path).raise_for_status())
    found = set()
    for answer, _ in interrupt(package, lambda: package.anna.get(path)):
        found.add(answer.status_code)
        if answer.status_code == 200:
            assert essence(answer) == whole
        else:
            assert answer.status_code == 404, answer.text
            assert answer.json().keys() == {"message"}
    assert found == {200, 404}


@pytest.mark.drill
@pytest.mark.parametrize("path", ["/package/anna/p", "/package/anna/p/comments"])
def test_a_page_is_whole_or_404(package: Package, path: str) -> None:
    expected = {"/package/anna/p": "Bicycles of Utrecht", "/package/anna/p/comments": "Hello"}[path]
    statuses = set()
    for answer, _ in interrupt(package, lambda: package.pages.get(path)):
        statuses.add(answer.status_code)
        assert (expected in answer.text) == (answer.status_code == 200)
    assert statuses == {200, 404}


@pytest.mark.drill
def test_search_finds_the_package_whole_or_not_at_all(package: Package) -> None:
    hits = set()
    for answer, _ in interrupt(package, lambda: package.anna.get("/api/search/?q=bicycle")):
        assert answer.status_code == 200
        found: Json = answer.json()["packages"]
        assert [each["readme_preview"] for each in found] == ["Bicycles of Utrecht"] * len(found)
        hits.add(len(found))
    assert hits == {0, 1}


def send(method: str, path: str, **more: Any) -> Callable[[Package], httpx.Response]:
    return lambda package: package.anna.http.request(method, path, **more)


WRITES: dict[str, Callable[[Package], httpx.Response]] = {
    "tag": send("PUT", "/api/tag/anna/p/t2", json={"hash": HASH}),
    "latest": send("PUT", "/api/tag/anna/p/latest", json={"hash": HASH}),
    "delete a tag": send("DELETE", "/api/tag/anna/p/t"),
    "delete latest": send("DELETE", "/api/tag/anna/p/latest"),
    "version": send("PUT", "/api/version/anna/p/2.0", json={"hash": HASH}),
    "grant": send("PUT", "/api/access/anna/p/team"),
    "revoke": send("DELETE", "/api/access/anna/p/ben"),
    "invite": send("PUT", "/api/access/anna/p/other@example.com"),
    "withdraw": send("DELETE", "/api/access/anna/p/new@example.com"),
    "comment": send("POST", "/api/comments/anna/p/", json={"contents": "Hello again"}),
    "delete a comment": send("DELETE", f"/api/comments/anna/p/{COMMENT}"),
    "delete": send("DELETE", "/api/package/anna/p/"),
}


@pytest.mark.parametrize("write", cases(WRITES, quick="latest"))
def test_a_write_is_done_or_404(package: Package, write: Callable[[Package], httpx.Response]) -> None:
    statuses = set()
    for answer, deleted in interrupt(package, lambda: write(package)):
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 404), answer.text
        if not deleted:
            assert answer.status_code == 200
    assert statuses == {200, 404}
    assert_sound(package)


PUSHES = {"whole": False, "part": True}


@pytest.mark.parametrize("part", cases(PUSHES, quick="whole"))
def test_a_push_stores_all_of_itself(package: Package, part: bool) -> None:
    """A package that was deleted during a push is created again, and misses nothing that the push did not send."""
    anna = package.anna
    node = trees.file(b"b") if part else trees.tree({**FILES, "b": b"b"})
    data = [b"b"] if part else [*DATA, b"b"]
    path = "g/b" if part else ""
    anna.upload("anna", "p", OTHER, [b"b"])
    for answer, deleted in interrupt(
        package, lambda: anna.send_push("anna", "p", node, sizes=trees.sizes(data), path=path)
    ):
        assert answer.status_code == 200, answer.text
        if package.registry.sql("SELECT FROM package WHERE name = 'p'"):
            top_hash = answer.json()["package_hash"]
            children = anna.install("anna", "p", top_hash)["contents"]["children"]
            assert "b" in (children["g"]["children"] if part else children)
        else:
            assert deleted
        assert_sound(package)


@pytest.mark.drill
@pytest.mark.parametrize("part", PUSHES.values(), ids=PUSHES)
def test_a_dry_run_is_whole(package: Package, part: bool) -> None:
    node, path = (trees.file(b"b"), "g/b") if part else (OTHER, "")
    for answer, _ in interrupt(package, lambda: package.anna.send_push("anna", "p", node, dry_run=True, path=path)):
        assert answer.status_code == 200, answer.text
        assert answer.json()["upload_urls"].keys() == {trees.sha(b"b")}


UNSOUND = """
    SELECT 'page' FROM package_page g WHERE NOT EXISTS (SELECT FROM package p WHERE p.id = g.package_id)
    UNION ALL SELECT 'object' FROM package_object o WHERE NOT EXISTS (SELECT FROM package p WHERE p.id = o.package_id)
    UNION ALL SELECT 'instance' FROM instance i, generate_series(1, length(i.pages) / 32) n WHERE NOT EXISTS
        (SELECT FROM package_page g WHERE g.package_id = i.package_id AND g.page = substr(i.pages, n * 32 - 31, 32))
    UNION ALL SELECT 'search' FROM package_search s WHERE NOT EXISTS
        (SELECT FROM tag t WHERE t.package_id = s.package_id AND t.name = 'latest')
"""


def assert_sound(package: Package) -> None:
    assert package.registry.sql(UNSOUND) == []
