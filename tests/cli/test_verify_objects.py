"""`quilt-registry verify-objects`: reports objects that were lost or changed behind the registry's back."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest

from quilt_registry.storage.objects import final_key
from tests import trees
from tests.registry import Registry
from tests.s3server import S3Server

Make = Callable[..., Registry]


def verify(registry: Registry, *options: str) -> tuple[int, dict[str, Any]]:
    done = registry.command("verify-objects", "--json", *options)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def object_path(registry: Registry, owner: str, data: bytes) -> Path:
    return registry.objects / final_key(owner, trees.sha(data))


@pytest.fixture
def registry(local_registry: Make) -> Registry:
    """Anna has two packages that share an object. Ben has one with the same bytes."""
    made = local_registry()
    anna, ben = made.make_person("anna"), made.make_person("ben")
    anna.push("trees", {"x": b"shared", "y": b"oak"})
    anna.push("birds", {"x": b"shared", "y": b"owl", "e": b""})
    ben.push("trees", {"x": b"shared"})
    return made


def test_a_complete_store_is_reported_as_such(registry: Registry) -> None:
    status, found = verify(registry, "--deep")
    assert status == 0
    assert (found["named"], found["listed"], found["hashed"]) == (5, 5, 5)
    assert found["missing"]["count"] == found["damaged"]["count"] == found["unexpected"]["count"] == 0
    shown = registry.command("verify-objects")
    assert (shown.returncode, "Packages reference 5 objects. The store has 5." in shown.stdout) == (0, True)


def test_exactly_the_object_that_was_removed_is_missing(registry: Registry) -> None:
    object_path(registry, "anna", b"shared").unlink()
    status, found = verify(registry)
    assert status == 5
    assert found["missing"] == {
        "count": 1,
        "packages": {"anna/birds": 1, "anna/trees": 1},
        "examples": [
            {
                "object": final_key("anna", trees.sha(b"shared")),
                "problem": "is not in the store",
                "packages": ["anna/birds", "anna/trees"],
            }
        ],
    }
    assert found["damaged"]["count"] == 0
    shown = registry.command("verify-objects")
    assert shown.returncode == 5
    assert f"{trees.sha(b'shared')} is not in the store (anna/birds, anna/trees)" in shown.stdout


def test_changed_bytes_are_found_by_reading_them_and_another_size_without(registry: Registry) -> None:
    object_path(registry, "anna", b"oak").write_bytes(b"elm")
    assert verify(registry)[0] == 0
    status, found = verify(registry, "--deep")
    assert (status, found["damaged"]["count"], found["missing"]["count"]) == (5, 1, 0)
    assert found["damaged"]["examples"][0]["object"] == final_key("anna", trees.sha(b"oak"))
    object_path(registry, "anna", b"owl").write_bytes(b"o")
    status, found = verify(registry)
    assert (status, found["damaged"]["packages"]) == (5, {"anna/birds": 1, "anna/trees": 1})
    problems = [each["problem"] for each in found["damaged"]["examples"]]
    assert "has 1 bytes instead of 3" in problems


def test_deep_sets_damaged_objects_aside_and_says_what_to_do(registry: Registry) -> None:
    path = object_path(registry, "anna", b"shared")
    path.write_bytes(b"shard!")
    done = registry.command("verify-objects", "--deep")
    quarantine = registry.objects / "quarantine"
    assert (done.returncode, path.exists()) == (5, False)
    assert (quarantine / "anna" / path.name).read_bytes() == b"shard!"
    assert f"Set aside: 1 damaged objects, now in {quarantine}." in done.stdout
    assert "push it again from a computer that has it" in done.stdout
    status, found = verify(registry, "--deep")
    assert (status, found["set_aside"], found["damaged"]["packages"]) == (5, 0, {"anna/birds": 1, "anna/trees": 1})
    assert found["damaged"]["examples"][0]["problem"] == "was found damaged; push it again to repair it"

    registry.sign_in("anna").push("birds", {"x": b"shared", "y": b"owl", "e": b""})
    assert verify(registry, "--deep")[0] == 0, "one push repairs both packages"


def test_deep_takes_back_objects_that_were_copied_from_a_backup(registry: Registry) -> None:
    path = object_path(registry, "anna", b"oak")
    anna = registry.sign_in("anna")
    path.write_bytes(b"")
    assert verify(registry, "--deep")[1]["set_aside"] == 1
    path.write_bytes(b"oak")
    status, found = verify(registry, "--deep")
    assert (status, found["restored"], found["damaged"]["count"]) == (0, 1, 0)
    anna.install("anna", "trees", trees.top_hash(trees.tree({"x": b"shared", "y": b"oak"})))


def test_known_damage_is_reported_until_the_object_is_pushed_again(registry: Registry) -> None:
    registry.sql("UPDATE object SET state = 2 WHERE digest = $1", bytes.fromhex(trees.sha(b"owl")))
    object_path(registry, "anna", b"owl").unlink()
    status, found = verify(registry)
    assert (status, found["missing"]["count"], found["damaged"]["packages"]) == (5, 0, {"anna/birds": 1})


def test_unreferenced_objects_are_reported_once_no_push_can_reference_them(registry: Registry) -> None:
    anna = registry.sign_in("anna")
    assert anna.delete("/api/package/anna/birds/").status_code == 200
    stray = registry.objects / "objs" / "gone" / "leftover"
    stray.parent.mkdir()
    stray.write_bytes(b"stray")
    assert verify(registry)[1]["unexpected"]["count"] == 0, "recent objects were reported"
    old = time.time() - 2 * 86_400
    for path in (object_path(registry, "anna", b"owl"), object_path(registry, "anna", b"shared"), stray):
        os.utime(path, (old, old))
    status, found = verify(registry)
    assert (status, found["named"]) == (0, 3), "unreferenced objects count as damage"
    assert found["unexpected"] == {
        "count": 2,
        "bytes": 8,
        "examples": [final_key("anna", trees.sha(b"owl")), "objs/gone/leftover"],
    }


def test_one_owner_or_a_sample_can_be_looked_at(registry: Registry) -> None:
    object_path(registry, "ben", b"shared").unlink()
    assert verify(registry, "--owner", "anna")[0] == 0
    assert verify(registry, "--owner", "ben")[1]["missing"]["packages"] == {"ben/trees": 1}
    status, found = verify(registry, "--sample", "2")
    assert (found["named"], found["listed"], found["unexpected"]) == (2, None, None)
    status, found = verify(registry, "--sample", "100", "--deep")
    assert (status, found["named"], found["hashed"], found["missing"]["count"]) == (5, 5, 4, 1)
    refused = registry.command("verify-objects", "--owner", "zoe")
    assert (refused.returncode, refused.stderr) == (1, "quilt-registry: There is no user zoe.\n")


def test_of_many_only_ten_are_shown(registry: Registry) -> None:
    registry.sign_in("anna").push("many", {f"f{i}": b"many %d" % i for i in range(30)})
    for i in range(30):
        object_path(registry, "anna", b"many %d" % i).unlink()
    status, found = verify(registry)
    assert (status, found["missing"]["count"], len(found["missing"]["examples"])) == (5, 30, 10)
    assert found["missing"]["packages"] == {"anna/many": 30}


@pytest.mark.drill
@pytest.mark.s3
def test_a_bucket_is_verified_page_by_page(s3: S3Server, local_registry: Make) -> None:
    registry = local_registry(**s3.settings)
    owner = f"vera{secrets.token_hex(3)}"
    vera = registry.make_person(owner)
    files = {f"f{i}": b"%s %d" % (owner.encode(), i) for i in range(2500)}
    vera.push("large", files)
    assert verify(registry, "--owner", owner)[0] == 0
    lost, changed = files["f7"], files["f8"]
    obstore.delete(s3.bucket, final_key(owner, trees.sha(lost)))
    obstore.put(s3.bucket, final_key(owner, trees.sha(changed)), bytes(len(changed)))
    status, found = verify(registry, "--owner", owner)
    assert (status, found["named"], found["listed"]) == (5, 2500, 2499)
    assert found["missing"]["examples"][0]["object"] == final_key(owner, trees.sha(lost))
    assert (found["missing"]["count"], found["damaged"]["count"]) == (1, 0)
    status, found = verify(registry, "--owner", owner, "--deep")
    assert [each["object"] for each in found["damaged"]["examples"]] == [final_key(owner, trees.sha(changed))]
