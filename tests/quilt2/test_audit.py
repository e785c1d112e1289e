"""Audit routes of the released protocol (protocol §17)."""

from __future__ import annotations

import time

import pytest

from tests.registry import Person, Registry, new_name
from tests.trees import Json

FIELDS = {"created", "user", "type", "package_owner", "package_name", "package_hash", "extra"}


@pytest.fixture
def name() -> str:
    return new_name()


def list_events(ada: Person, what: str) -> list[Json]:
    """Return the audit events of a user or of OWNER/NAME. Assert that each has the fields of the released protocol."""
    response = ada.get(f"/api/audit/{what}/")
    assert response.status_code == 200, response.text
    events: list[Json] = response.json()["events"]
    assert all(event.keys() == FIELDS for event in events)
    return events


def kinds(events: list[Json]) -> list[str]:
    return [event["kind"] for event in events]


def test_events_of_a_user_are_listed_in_order_of_time(eve: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.install(eve.name, name, top_hash, subpath="a")
    eve.get(f"/api/package_preview/{eve.name}/{name}/{top_hash}").raise_for_status()
    eve.delete(f"/api/package/{eve.name}/{name}/").raise_for_status()
    events = list_events(ada, eve.name)
    times = [event.pop("created") for event in events]
    assert times == sorted(times)
    assert all(isinstance(each, float) and abs(each - time.time()) < 60 for each in times)
    about = {"user": eve.name, "package_owner": eve.name, "package_name": name}
    assert events == [
        {**about, "type": "PUSH", "package_hash": top_hash, "extra": {"public": False}},
        {**about, "type": "INSTALL", "package_hash": top_hash, "extra": {"subpath": "a"}},
        {**about, "type": "PREVIEW", "package_hash": top_hash, "extra": None},
        {**about, "type": "DELETE", "package_hash": None, "extra": None},
    ]


def test_events_of_a_package_are_listed_for_all_users(eve: Person, ben: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.grant(name, "ben")
    ben.install(eve.name, name, top_hash)
    eve.delete(f"/api/package/{eve.name}/{name}/").raise_for_status()
    eve.push(name, {"a": b"1"})
    assert [(event["user"], event["type"]) for event in list_events(ada, f"{eve.name}/{name}")] == [
        (eve.name, "PUSH"), ("ben", "INSTALL"), (eve.name, "DELETE"), (eve.name, "PUSH"),
    ]  # fmt: skip
    assert [event["package_name"] for event in list_events(ada, "ben") if event["package_owner"] == eve.name] == [name]


def test_anonymous_users_have_no_name(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"), is_admin=True)
    name = new_name()
    top_hash = olga.push(name, {"a": b"1"}, is_public=True)
    open_registry.nobody().install(olga.name, name, top_hash)
    assert [event["user"] for event in list_events(olga, f"{olga.name}/{name}")] == [olga.name, None]


def test_old_lists_have_the_kinds_that_old_clients_know(eve: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.put(f"/api/version/{eve.name}/{name}/1.0", json={"hash": top_hash}).raise_for_status()
    eve.post(f"/api/comments/{eve.name}/{name}/", json={"contents": "x"}).raise_for_status()
    eve.grant(name, "ben")
    for what in (eve.name, f"{eve.name}/{name}"):
        assert [event["type"] for event in list_events(ada, what)] == ["PUSH"]


@pytest.mark.parametrize("what", ["nobody_at_all", "nobody_at_all/nothing", "anna/nothing", "Anna", "%27x", "a%20b/c"])
def test_the_audit_of_an_unknown_user_or_package_is_empty(ada: Person, what: str) -> None:
    assert ada.get(f"/api/audit/{what}/").json() == {"events": []}
    assert ada.get(f"/api/audit/{what}").json() == {"events": []}


def test_an_old_list_ends_with_the_newest_ten_thousand(registry: Registry, eve: Person, ada: Person) -> None:
    """There is no second page, so a limit keeps very long lists from overloading the registry."""
    registry.sql(
        """INSERT INTO event (kind, account, extra, created_at)
           SELECT CASE WHEN n % 2 = 0 THEN 'INSTALL' ELSE 'PREVIEW' END, $1, jsonb_build_object('n', n),
                  now() - (10100 - n) * interval '1 second'
           FROM generate_series(1, 10100) n""",
        eve.name,
    )
    assert [event["extra"]["n"] for event in list_events(ada, eve.name)] == list(range(101, 10101))
