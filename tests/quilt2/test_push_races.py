"""Objects, pages and instances that change between any two statements of a push."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from quilt_registry.storage import directory
from quilt_registry.storage.directory import Directory
from tests import trees
from tests.interruptions import MAX_STATEMENTS, Interruption, interrupted
from tests.registry import LocalRegistry, Person

OLD, NEW = b"known to the registry", b"uploaded for this push"
BEFORE = trees.tree({"old": OLD})
BOTH = trees.tree({"old": OLD, "new": NEW})


@pytest.fixture(scope="module")
def registry(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    running = LocalRegistry(tmp_path_factory.mktemp("home"), new_database()).start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def anna(registry: LocalRegistry) -> Person:
    anna = registry.make_person("anna")
    anna.upload("anna", "p", BOTH, [OLD, NEW])
    return anna


def reset(anna: Person) -> None:
    """Delete everything, and push a package that knows only the old object."""
    for table in ("package_object", "package_page", "object", "package"):
        anna.registry.sql(f"DELETE FROM {table}")
    anna.send_push("anna", "p", BEFORE, sizes=trees.sizes([OLD])).raise_for_status()


def interrupt(
    anna: Person, change: str, push: Callable[[], httpx.Response], before: Callable[[], object] = lambda: None
) -> Iterator[tuple[httpx.Response, Interruption]]:
    for number in range(1, MAX_STATEMENTS):
        reset(anna)
        with interrupted(anna.registry, number, change, before) as interruption:
            answer = push()
        if interruption.seen < number:
            return
        yield answer, interruption
    pytest.fail("The push has too many statements.")


def push_both(anna: Person, name: str) -> httpx.Response:
    return anna.send_push("anna", name, BOTH, sizes=trees.sizes([OLD, NEW]))


# As `scrub` does it, which removes the bytes first.
DAMAGE = f"""
    UPDATE object SET state = 2 WHERE digest = decode('{trees.sha(OLD)}', 'hex');
    DELETE FROM package_page g USING package_object po JOIN object o ON o.id = po.object_id
    WHERE o.state = 2 AND g.package_id = po.package_id
"""
# Pages that vouch for a damaged object. Each package here has one page.
VOUCHING = """
    SELECT FROM package_page g JOIN package_object po ON po.package_id = g.package_id
    JOIN object o ON o.id = po.object_id WHERE o.state = 2
"""


@pytest.mark.parametrize(
    "name", [pytest.param("p", id="same package"), pytest.param("q", id="other package", marks=pytest.mark.drill)]
)
def test_an_object_found_damaged_during_a_push_stays_damaged(anna: Person, name: str) -> None:
    """The push relied on the object: it must not become present again, and no page may vouch for it."""
    file = anna.registry.objects / "objs" / "anna" / trees.sha(OLD)
    seen = set()
    for answer, damage in interrupt(anna, DAMAGE, lambda: push_both(anna, name), before=file.unlink):
        file.write_bytes(OLD)
        seen.add((answer.status_code, damage.done))
        if answer.status_code != 200:
            assert answer.status_code == 400
            assert "were not uploaded" in answer.json()["message"]
        if damage.done:
            (row,) = anna.registry.sql("SELECT state FROM object WHERE digest = $1", bytes.fromhex(trees.sha(OLD)))
            assert row["state"] == 2
            assert anna.registry.sql(VOUCHING) == []
    assert (400, True) in seen


@pytest.mark.drill
def test_known_pages_that_are_forgotten_during_a_push_are_stored_again(anna: Person) -> None:
    """The pushed tree is the stored one, so that the push sends no page."""
    forget = "DELETE FROM package_page"
    done = 0
    for answer, interruption in interrupt(
        anna, forget, lambda: anna.send_push("anna", "p", BEFORE, sizes=trees.sizes([OLD]))
    ):
        assert answer.status_code == 200
        done += interruption.done
        # Forgotten before the transaction looked, or after it: then the push came first.
        pages = len(anna.registry.sql("SELECT FROM package_page"))
        assert pages == 1 or anna.registry.sql("SELECT pushes FROM package")[0]["pushes"] == 2
    assert done > 3


@pytest.mark.drill
def test_new_objects_that_another_push_adds_first_belong_to_both_packages(anna: Person) -> None:
    add = f"""
        INSERT INTO object (owner_id, digest, size, state)
        SELECT id, decode('{trees.sha(NEW)}', 'hex'), {len(NEW)}, 1 FROM account
    """
    for answer, _ in interrupt(anna, add, lambda: push_both(anna, "q")):
        assert answer.status_code == 200
        rows = anna.registry.sql(
            """
            SELECT o.digest FROM package_object po JOIN object o ON o.id = po.object_id
            JOIN package p ON p.id = po.package_id WHERE p.name = 'q'
            """
        )
        assert {row["digest"].hex() for row in rows} == {trees.sha(OLD), trees.sha(NEW)}


@pytest.mark.drill
def test_an_instance_that_gets_other_metadata_during_a_push_of_it_is_compared_again(anna: Person) -> None:
    """Another push of the same top hash replaces the pages that this one has compared itself with."""
    node = trees.root({"old": trees.file(OLD, metadata={"q_path": "other.csv"})})
    assert trees.top_hash(node) == trees.top_hash(trees.root({"old": trees.file(OLD)}))
    third = trees.root({"old": trees.file(OLD, metadata={"q_path": "third.csv"})})
    reset(anna)
    anna.send_push("anna", "p", third, sizes=trees.sizes([OLD])).raise_for_status()
    replace = """
        UPDATE instance SET pages = (SELECT name FROM page WHERE name <> pages ORDER BY name LIMIT 1);
        INSERT INTO package_page SELECT i.package_id, i.pages FROM instance i ON CONFLICT DO NOTHING
    """
    for answer, _ in interrupt(anna, replace, lambda: anna.send_push("anna", "p", node, sizes=trees.sizes([OLD]))):
        assert answer.status_code == 200
        assert len(anna.registry.sql("SELECT FROM instance")) == 1


# ------------------------------------------------------------------------------------------------ staged uploads


@pytest.fixture
def carl(local_registry: Callable[..., LocalRegistry]) -> Person:
    """A member who may push to packages of Anna's, and has uploaded objects for that."""
    registry = local_registry()
    anna, carl = registry.make_person("anna"), registry.make_person("carl")
    for name in ("p", "q"):
        anna.push(name, {"old": OLD}, is_team=True)
    carl.upload("anna", "p", BOTH, [OLD, NEW])
    return carl


def before_first_call(monkeypatch: pytest.MonkeyPatch, method: str, change: Callable[[], object]) -> None:
    """Let something happen before the first call of a method of the directory."""
    original, changes = getattr(Directory, method), [change]

    def watched(*arguments: Any) -> Any:
        if changes:
            changes.pop()()
        return original(*arguments)

    monkeypatch.setattr(Directory, method, watched)


def push_staged(carl: Person, name: str) -> httpx.Response:
    return carl.send_push("anna", name, BOTH, sizes=trees.sizes([OLD, NEW]))


@pytest.mark.parametrize("step", ["sizes", "promote"])
def test_two_pushes_of_the_same_staged_uploads_both_succeed(
    carl: Person, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The one that is faster promotes the uploads and removes them, before the other has looked or promoted."""
    answers: list[httpx.Response] = []
    before_first_call(monkeypatch, step, lambda: answers.append(push_staged(carl, "q")))
    answers.append(push_staged(carl, "p"))
    assert [answer.status_code for answer in answers] == [200, 200], [answer.text for answer in answers]
    for name, answer in zip("qp", answers, strict=True):
        assert len(carl.install("anna", name, answer.json()["package_hash"])["urls"]) == 2


def test_staged_uploads_that_are_lost_are_missing(carl: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    staged = carl.registry.objects / "staging" / "anna" / "carl" / trees.sha(NEW)
    before_first_call(monkeypatch, "promote", staged.unlink)
    refused = push_staged(carl, "p")
    assert (refused.status_code, refused.json()["message"]) == (
        400, f"These objects were not uploaded: {trees.sha(NEW)}. Push again."
    )  # fmt: skip


def test_others_are_served_while_staged_uploads_are_promoted(carl: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    promotes, go_on, link = threading.Event(), threading.Event(), directory.os.link

    def slow_link(*arguments: Any) -> None:
        promotes.set()
        assert go_on.wait(60)
        link(*arguments)

    monkeypatch.setattr(directory.os, "link", slow_link)
    with ThreadPoolExecutor(1) as thread:
        push = thread.submit(push_staged, carl, "p")
        try:
            assert promotes.wait(60)
            assert carl.registry.answers()
        finally:
            go_on.set()
        assert push.result().status_code == 200
