"""Damage in a directory store heals by pushing again, as the released client pushes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from quilt_registry.cli.object_copies import copy_objects
from quilt_registry.database import Database
from quilt_registry.maintenance import scrub
from quilt_registry.packages import uploads
from quilt_registry.settings import Settings
from quilt_registry.storage.directory import Directory
from quilt_registry.storage.objects import ObjectStore, final_key
from tests import trees
from tests.registry import Person, Registry
from tests.waiting import wait_until

OAK = b"an oak, in a few words"
DAMAGE = {"missing": None, "emptied": b"", "short": OAK[:-1], "long": OAK + b"!"}
WRONG = b"an elm, in a few words"


@pytest.fixture
def registry(local_registry: Callable[..., Registry]) -> Registry:
    return local_registry()


@pytest.fixture
def anna(registry: Registry) -> Person:
    return registry.make_person("anna")


def damage(registry: Registry, contents: bytes | None, data: bytes = OAK) -> Path:
    """Replace an object of Anna's in the store, and return its path."""
    path = registry.objects / final_key("anna", trees.sha(data))
    path.unlink()
    if contents is not None:
        path.write_bytes(contents)
    return path


@pytest.mark.parametrize("contents", DAMAGE.values(), ids=DAMAGE)
def test_what_has_another_size_is_uploaded_again(registry: Registry, anna: Person, contents: bytes | None) -> None:
    """HEAD says that it is not there, and the PUT that follows replaces it, for all packages that have it."""
    files = {"oak": OAK, "README": b"trees"}
    top_hash, other = anna.push("trees", files), anna.push("forest", {"trees": files})
    path = damage(registry, contents)
    node = trees.tree(files)
    urls = anna.send_push("anna", "trees", node, dry_run=True).json()["upload_urls"]
    assert httpx.head(urls[trees.sha(OAK)]["head"]).status_code == 404
    assert httpx.head(urls[trees.sha(b"trees")]["head"]).status_code == 200
    assert anna.push("trees", files) == top_hash
    assert path.read_bytes() == OAK
    anna.install("anna", "trees", top_hash)
    anna.install("anna", "forest", other)


@pytest.mark.parametrize("contents", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("known", [True, False], ids=["known", "new"])
def test_a_push_does_not_count_what_is_damaged(
    registry: Registry, anna: Person, known: bool, contents: bytes | None
) -> None:
    """Even if the client does not ask what to upload."""
    node = trees.tree({"oak": OAK})
    if known:
        anna.push("trees", {"oak": OAK, "elm": WRONG})
    else:
        anna.upload("anna", "forest", node, [OAK])
    damage(registry, contents)
    refused = anna.send_push("anna", "forest", node, sizes=trees.sizes([OAK]))
    assert refused.status_code == 400
    assert refused.json()["message"] == f"These objects were not uploaded: {trees.sha(OAK)}. Push again."
    top_hash = anna.push("forest", {"oak": OAK})
    anna.install("anna", "forest", top_hash)
    if known:
        anna.install("anna", "trees", trees.top_hash(trees.tree({"oak": OAK, "elm": WRONG})))


def test_wrong_sizes_in_a_push_are_no_damage(registry: Registry, anna: Person) -> None:
    node = trees.tree({"oak": OAK})
    anna.upload("anna", "trees", node, [OAK])
    refused = anna.send_push("anna", "trees", node, sizes={trees.sha(OAK): 1})
    assert (refused.status_code, "Build the package again." in refused.text) == (400, True)
    assert (registry.objects / final_key("anna", trees.sha(OAK))).read_bytes() == OAK


class Hashing:
    """The objects that the registry hashes; each takes until `go_on` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.keys: list[str] = []
        self.go_on = threading.Event()
        sha256 = Directory.sha256

        def watched(directory: Directory, key: str) -> str:
            self.keys.append(key)
            assert self.go_on.wait(60)
            return sha256(directory, key)

        monkeypatch.setattr(Directory, "sha256", watched)


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hashing]:
    watching = Hashing(monkeypatch)
    yield watching
    watching.go_on.set()


def test_a_push_with_wrong_sizes_hashes_the_few_objects_that_its_error_names(anna: Person, hashing: Hashing) -> None:
    hashing.go_on.set()
    contents = [b"%d" % i for i in range(25)]
    node = trees.tree({f"f{i}": data for i, data in enumerate(contents)})
    anna.upload("anna", "trees", node, contents)
    refused = anna.send_push("anna", "trees", node, sizes={trees.sha(data): 99 for data in contents})
    assert (refused.status_code, "and 15 more" in refused.text) == (400, True)
    assert [key[-64:] for key in hashing.keys] == sorted(trees.sha(data) for data in contents)[:10]
    assert all(key[-64:] in refused.text for key in hashing.keys)


def test_a_push_hashes_no_large_objects(
    anna: Person, hashing: Hashing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They are named in the log."""
    hashing.go_on.set()
    monkeypatch.setattr(uploads, "MAX_HASHED_BYTES", len(OAK))
    large, small = OAK + b"!", b"1"
    node = trees.tree({"large": large, "small": small})
    anna.upload("anna", "trees", node, [large, small])
    refused = anna.send_push("anna", "trees", node, sizes={trees.sha(large): 99, trees.sha(small): 99})
    assert (refused.status_code, "Build the package again." in refused.text) == (400, True)
    assert hashing.keys == [final_key("anna", trees.sha(small))]
    assert final_key("anna", trees.sha(large)) in caplog.text


def test_many_pushes_with_wrong_sizes_hash_one_object_at_a_time(
    registry: Registry, anna: Person, hashing: Hashing
) -> None:
    """Those of the same object share the result, and uploads and sign-ins have their threads meanwhile."""
    ben = registry.make_person("ben")
    oak, elm = trees.tree({"oak": OAK}), trees.tree({"elm": WRONG})
    anna.upload("anna", "trees", oak, [OAK])
    ben.upload("ben", "trees", elm, [WRONG])
    damage(registry, OAK[:-1])
    people = [registry.sign_in("anna") for _ in range(10)]
    with ThreadPoolExecutor(len(people) + 1) as threads:
        pushes = [threads.submit(each.send_push, "anna", "trees", oak, sizes=trees.sizes([OAK])) for each in people]
        wait_until(lambda: hashing.keys)
        pushes.append(threads.submit(ben.send_push, "ben", "trees", elm, sizes={trees.sha(WRONG): 1}))
        registry.sign_in("anna").upload("anna", "forest", trees.tree({"ash": b"an ash"}), [b"an ash"])
        assert hashing.keys == [final_key("anna", trees.sha(OAK))]
        hashing.go_on.set()
        answers = [push.result() for push in pushes]
    assert {answer.status_code for answer in answers} == {400}
    assert "Build the package again." in answers.pop().text
    assert {answer.json()["message"] for answer in answers} == {
        f"These objects were not uploaded: {trees.sha(OAK)}. Push again."
    }
    anna.install("anna", "trees", anna.push("trees", {"oak": OAK}))


def test_another_users_upload_replaces_a_damaged_object(registry: Registry, anna: Person) -> None:
    """A member who may not read the object uploads it to a staging key. The push gives it its place."""
    carl = registry.make_person("carl")
    anna.push("private", {"oak": OAK})
    anna.push("shared", {"elm": WRONG}, is_team=True)
    path = damage(registry, b"")
    top_hash = carl.push("shared", {"oak": OAK}, owner="anna")
    assert path.read_bytes() == OAK
    carl.install("anna", "shared", top_hash)
    assert not list((registry.objects / "uploads").iterdir())


# ------------------------------------------------------------------------------------------------ the scrub


def run_scrub(registry: Registry) -> None:
    settings = Settings(quilt_home=registry.home, quilt_secret_key="a secret for tests")  # type: ignore[arg-type]
    store = ObjectStore(settings)
    assert registry.database_url
    db = Database(registry.database_url, 2, slow_ms=10_000)

    async def run() -> None:
        await db.open()
        try:
            assert store.directory
            await scrub.scrub_directory(db, store, store.directory)
        finally:
            await db.close()

    asyncio.run(run())


def start_pass(registry: Registry) -> None:
    """Forget the pass that the registry made when it started, with no objects."""
    (registry.objects / "scrub").write_text("")


def test_wrong_bytes_are_found_set_aside_and_uploaded_again(registry: Registry, anna: Person) -> None:
    files = {"oak": OAK, "elm": WRONG + b"?"}
    top_hash, other = anna.push("trees", files), anna.push("forest", {"oak": OAK})
    path = damage(registry, WRONG)
    start_pass(registry)
    run_scrub(registry)
    assert not path.exists()
    assert (registry.objects / "quarantine" / "anna" / path.name).read_bytes() == WRONG
    for name, hash_ in (("trees", top_hash), ("forest", other)):
        answer = anna.get(f"/api/package/anna/{name}/{hash_}")
        assert (answer.status_code, trees.sha(OAK) in answer.json()["message"]) == (409, True)
    assert anna.push("trees", files) == top_hash
    anna.install("anna", "trees", top_hash)
    anna.install("anna", "forest", other)


def test_a_pass_continues_where_it_ended_and_then_rests(registry: Registry, anna: Person) -> None:
    anna.push("trees", {f"f{i}": b"%d" % i for i in range(5)})
    names = [row[0] for row in registry.sql("SELECT encode(digest, 'hex') FROM object ORDER BY id")]
    ids = [row[0] for row in registry.sql("SELECT id FROM object ORDER BY id")]
    paths = [registry.objects / final_key("anna", name) for name in names]
    for path in paths:
        path.write_bytes(b"?")
    (registry.objects / "scrub").write_text(str(ids[2]))
    run_scrub(registry)
    assert [path.exists() for path in paths] == [True, True, True, False, False]
    assert (registry.objects / "scrub").read_text() == "0"
    run_scrub(registry)
    assert paths[0].exists(), "the next pass began at once"


def test_only_one_process_scrubs(registry: Registry, anna: Person) -> None:
    anna.push("trees", {"oak": OAK})
    path = damage(registry, WRONG)
    start_pass(registry)
    with (registry.objects / "scrub").open("r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        run_scrub(registry)
    assert path.exists()


def test_a_missing_object_is_not_marked(registry: Registry, anna: Person) -> None:
    """The disk may be away. Clients are told to upload the object, whatever its row says."""
    anna.push("trees", {"oak": OAK})
    damage(registry, None)
    start_pass(registry)
    run_scrub(registry)
    assert registry.sql("SELECT count(*) FROM object WHERE state = 2")[0][0] == 0


def test_an_object_that_cannot_be_opened_is_logged_and_the_pass_continues(
    registry: Registry, anna: Person, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bytes may be good, so it is not marked."""
    anna.push("closed", {"elm": WRONG})
    closed = damage(registry, None, WRONG)
    closed.symlink_to(closed)  # root could open a file of any mode
    anna.push("trees", {"oak": OAK})
    path = damage(registry, WRONG)
    start_pass(registry)
    run_scrub(registry)
    assert not path.exists()
    assert (registry.objects / "scrub").read_text() == "0"
    assert f"The object {final_key('anna', closed.name)} cannot be read" in caplog.text
    assert [row[0].hex() for row in registry.sql("SELECT digest FROM object WHERE state = 2")] == [trees.sha(OAK)]


def test_errors_of_the_scrub_are_reported_as_what_they_are(
    registry: Registry, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(5, "of something else")

    anna.push("trees", {"oak": OAK})
    start_pass(registry)
    monkeypatch.setattr(scrub, "_next_batch", fail)
    with pytest.raises(OSError, match="of something else"):
        run_scrub(registry)


# ------------------------------------------------------------------------------------------------ copies


def test_a_damaged_object_does_not_replace_its_copy(tmp_path: Path) -> None:
    """A backup copies what differs in size. The copy may be the one that is intact."""
    key = final_key("anna", trees.sha(OAK))
    source, target = tmp_path / "source", tmp_path / "target"
    for root, contents in ((source, b""), (target, OAK)):
        (root / key).parent.mkdir(parents=True)
        (root / key).write_bytes(contents)
    assert copy_objects(source, target) == 0
    assert (target / key).read_bytes() == OAK
    assert copy_objects(target, source) == 1
    assert (source / key).read_bytes() == OAK


# ------------------------------------------------------------------------------------------------ commands of root

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
SERVICE = (12345, 23456)  # user and group


def give(root: Path, owner: tuple[int, int] = SERVICE) -> None:
    """Let a directory and all in it belong to a user."""
    for path in (root, *root.rglob("*")):
        os.chown(path, *owner)


def owners(root: Path) -> set[tuple[int, int]]:
    return {(path.stat().st_uid, path.stat().st_gid) for path in (root, *root.rglob("*"))}


@as_root
def test_what_root_sets_aside_belongs_to_the_registrys_user(registry: Registry, anna: Person) -> None:
    anna.push("trees", {"oak": OAK})
    damage(registry, WRONG)
    give(registry.objects)
    assert registry.command("verify-objects", "--deep").returncode == 5
    assert (registry.objects / "quarantine" / "anna" / trees.sha(OAK)).exists()
    assert owners(registry.objects) == {SERVICE}


@as_root
@pytest.mark.parametrize("of_root", [True, False], ids=["of root", "of the user"])
def test_what_root_copies_belongs_to_the_user_of_the_target(tmp_path: Path, of_root: bool) -> None:
    """A hard link would let the file belong to root, as in the source, so that it is copied."""
    key = final_key("anna", trees.sha(OAK))
    source, home = tmp_path / "source", tmp_path / "home"
    (source / key).parent.mkdir(parents=True)
    (source / key).write_bytes(OAK)
    give(source, (0, 0) if of_root else SERVICE)
    home.mkdir()
    give(home)
    assert copy_objects(source, home / "objects") == 1
    assert (home / "objects" / key).read_bytes() == OAK
    assert owners(home) == {SERVICE}
    assert owners(source) == {(0, 0) if of_root else SERVICE}
    assert (home / "objects" / key).stat().st_nlink == (1 if of_root else 2)


@as_root
def test_root_links_what_it_backs_up(tmp_path: Path) -> None:
    key = final_key("anna", trees.sha(OAK))
    source = tmp_path / "source"
    (source / key).parent.mkdir(parents=True)
    (source / key).write_bytes(OAK)
    give(source)
    assert copy_objects(source, tmp_path / "backup") == 1
    assert (source / key).stat().st_nlink == 2
