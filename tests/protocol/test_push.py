"""Pushing whole packages (protocol §9)."""

from __future__ import annotations

from tests import trees
from tests.registry import Person, Registry, new_name


def test_a_push_can_be_installed_again(registry: Registry, anna: Person) -> None:
    name = new_name()
    files = {"README": b"# Hello", "empty": b"", "data": {"a": b"1,2\n", "deep": {"b": b"\0\1" * 5000}}}
    top_hash = anna.push(name, files)
    package = anna.install("anna", name, top_hash)
    assert package["contents"] == {**trees.tree(files)}
    assert package["created_by"] == package["updated_by"] == "anna"
    kinds = [event["kind"] for event in registry.events("anna", name)]
    assert kinds == ["PUSH", "INSTALL"]
