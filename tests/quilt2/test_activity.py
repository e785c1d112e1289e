"""Recent packages, weekly counts, and audit events for tags and versions (protocol §12)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name
from tests.trees import Json

WEEK = 7 * 24 * 3600


def error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the message of an error response."""
    assert response.json().keys() == {"message"}
    return response.status_code, response.json()["message"]


# ------------------------------------------------------------------------------------------------ recent packages


def recent(person: Person, query: str = "?count=100") -> list[str]:
    response = person.get(f"/api/recent_packages/{query}")
    assert response.status_code == 200, response.text
    rows = response.json()["packages"]
    assert all(row.keys() == {"owner", "name", "updated_at"} for row in rows)
    times = [datetime.fromisoformat(row["updated_at"]) for row in rows]
    assert times == sorted(times, reverse=True)
    assert all(row["updated_at"].endswith("+00:00") for row in rows)
    return [f"{row['owner']}/{row['name']}" for row in rows]


def test_team_packages_are_recent_the_newest_push_first(registry: Registry, anna: Person, carl: Person) -> None:
    first, second, private = (new_name() for _ in range(3))
    for name in (first, second):
        anna.push(name, {"a": b"1"}, is_team=True)
    anna.push(private, {"a": b"1"})
    assert recent(carl)[:2] == [f"anna/{second}", f"anna/{first}"]
    anna.push(first, {"a": b"1"})
    for person in (carl, anna):
        found = recent(person)
        assert found[:2] == [f"anna/{first}", f"anna/{second}"]
        assert f"anna/{private}" not in found


def test_a_push_of_a_part_makes_a_package_recent(anna: Person) -> None:
    first, second = new_name(), new_name()
    for name in (first, second):
        anna.push(name, {"a": b"1"}, is_team=True)
    anna.push_part(first, "b", trees.file(b"2"), [b"2"]).raise_for_status()
    assert recent(anna)[:2] == [f"anna/{first}", f"anna/{second}"]


def test_a_push_that_was_only_tried_makes_nothing_recent(anna: Person) -> None:
    first, second = new_name(), new_name()
    for name in (first, second):
        anna.push(name, {"a": b"1"}, is_team=True)
    assert anna.send_push("anna", first, trees.tree({"b": b"2"}), dry_run=True).status_code == 200
    assert recent(anna)[:2] == [f"anna/{second}", f"anna/{first}"]


def test_public_packages_are_recent_for_everybody(open_registry: Registry) -> None:
    olga, public, private = open_registry.make_person(new_name("olga")), new_name(), new_name()
    olga.push(public, {"a": b"1"}, is_public=True)
    olga.push(private, {"a": b"1"})
    open_registry.sql("INSERT INTO access SELECT id, 'team' FROM package WHERE name = $1", private)
    for person in (olga, open_registry.nobody()):
        found = recent(person)
        assert f"{olga.name}/{public}" in found
        assert f"{olga.name}/{private}" not in found


def test_a_public_entry_left_over_from_open_mode_makes_nothing_recent(registry: Registry, anna: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    registry.sql("INSERT INTO access SELECT id, 'public' FROM package WHERE name = $1", name)
    assert f"anna/{name}" not in recent(anna)


@pytest.fixture(scope="module")
def many_packages(registry: Registry) -> Iterator[Registry]:
    """The registry with more team packages than one response lists."""
    registry.sql(
        """
        WITH made AS (
            INSERT INTO package (owner_id, owner, name)
            SELECT a.id, a.name, 'many' || n FROM account a, generate_series(1, 120) n WHERE a.name = 'anna'
            RETURNING id
        )
        INSERT INTO access SELECT id, 'team' FROM made
        """
    )
    yield registry
    registry.sql("DELETE FROM package WHERE name LIKE 'many%'")


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 10),
        ("?count=3", 3),
        ("?count=003", 3),
        ("?count=0", 0),
        ("?count=100", 100),
        ("?count=101", 100),
        ("?count=999999999999999999", 100),
        ("?count=", 10),
        ("?count=%2B5", 10),
        ("?count=1.5", 10),
        ("?count=many", 10),
        ("?count=%00", 10),
        ("?count=\u0665", 10),
        ("?Count=3", 10),
    ],
)
def test_how_many_are_shown(anna: Person, many_packages: Registry, query: str, count: int) -> None:
    assert len(recent(anna, query)) == count


@pytest.mark.parametrize("count", ["-1", str(2**63), str(2**64), "9" * 5000])
def test_a_number_that_cannot_be_a_count(anna: Person, count: str) -> None:
    response = anna.get("/api/recent_packages/", params={"count": count})
    assert response.status_code == 400
    assert response.json()["message"].startswith("count must be a whole number")


# ------------------------------------------------------------------------------------------------ counts by week


@pytest.fixture
def name(anna: Person) -> str:
    name = new_name()
    anna.push(name, {"a": b"1"})
    return name


def series(person: Person, name: str, event: str, owner: str = "anna") -> Json:
    response = person.get(f"/api/package_timeseries/{owner}/{name}/{event}")
    assert response.status_code == 200, response.text
    found: Json = response.json()
    assert found.keys() == {"startDate", "endDate", "frequency", "timeSeries", "total"}
    assert len(found["timeSeries"]) == 52
    return found


def test_weeks_end_with_the_coming_monday(anna: Person, name: str) -> None:
    found = series(anna, name, "push")
    end = datetime.fromtimestamp(found["endDate"], UTC)
    assert (end.weekday(), end.hour, end.minute, end.second) == (0, 0, 0, 0)
    assert timedelta(0) < end - datetime.now(UTC) <= timedelta(weeks=1)
    assert found["endDate"] - found["startDate"] == 52 * WEEK
    assert isinstance(found["startDate"], int)
    assert found["frequency"] == "week"


def test_what_happened_is_counted_by_kind(anna: Person, name: str) -> None:
    top_hash = anna.push(name, {"a": b"2"})
    for _ in range(3):
        anna.install("anna", name, top_hash)
    anna.get(f"/api/package_preview/anna/{name}/{top_hash}").raise_for_status()
    anna.http.head(f"/api/package/anna/{name}/{top_hash}").raise_for_status()
    for event, count in (("push", 2), ("install", 3), ("preview", 1), ("delete", 0)):
        found = series(anna, name, event)
        assert (found["total"], found["timeSeries"]) == (count, [0] * 51 + [count])


@pytest.mark.parametrize("event", ["push", "PUSH", "Push"])
def test_the_event_is_in_any_case(anna: Person, name: str, event: str) -> None:
    assert series(anna, name, event)["total"] == 1


@pytest.mark.parametrize("event", ["", "pushes", "tag_set", "COMMENT", "x" * 5000, "%20push", "pu%53h%0a"])
def test_an_event_that_is_not_counted(anna: Person, carl: Person, name: str, event: str) -> None:
    if event:
        for person in (anna, carl):
            response = person.get(f"/api/package_timeseries/anna/{name}/{event}")
            assert error(response) == (400, "Event type incorrectly specified.")
    else:
        assert anna.get(f"/api/package_timeseries/anna/{name}/").status_code == 404


def test_events_are_in_the_week_they_happened_in(registry: Registry, anna: Person, name: str) -> None:
    """Cover both sides of midnight between Sunday and Monday, both ends of the year, and earlier events."""
    end = datetime.fromtimestamp(series(anna, name, "push")["endDate"], UTC)
    moment = timedelta(microseconds=1)
    times = {
        51: [end - timedelta(weeks=1), end - moment],
        50: [end - timedelta(weeks=1) - moment],
        30: [end - timedelta(weeks=22, days=-3, hours=5)],
        0: [end - timedelta(weeks=52)],
        None: [end - timedelta(weeks=52) - moment, end - timedelta(days=3000)],
    }
    for each in (time for some in times.values() for time in some):
        registry.sql(
            """INSERT INTO event (kind, owner, package, package_id, created_at)
               SELECT 'INSTALL', owner, name, id, $2 FROM package WHERE name = $1""",
            name, each,
        )  # fmt: skip
    found = series(anna, name, "install")
    assert {week: count for week, count in enumerate(found["timeSeries"]) if count} == {0: 1, 30: 1, 50: 1, 51: 2}
    assert found["total"] == 7


def test_a_package_made_again_counts_from_nothing(anna: Person, name: str) -> None:
    anna.delete(f"/api/package/anna/{name}/").raise_for_status()
    anna.push(name, {"a": b"1"})
    assert series(anna, name, "push")["total"] == 1
    assert series(anna, name, "delete")["total"] == 0


def test_counts_are_for_those_who_may_read(anna: Person, ben: Person, carl: Person, ada: Person, name: str) -> None:
    anna.grant(name, "ben")
    assert series(ben, name, "push")["total"] == 1
    for person in (carl, ada):
        for package in (name, "nothing_here"):
            response = person.get(f"/api/package_timeseries/anna/{package}/push")
            assert error(response) == (404, "Package does not exist.")


def test_counts_of_public_packages_are_for_everybody(open_registry: Registry) -> None:
    olga, name = open_registry.make_person(new_name("olga")), new_name()
    olga.push(name, {"a": b"1"}, is_public=True)
    assert series(open_registry.nobody(), name, "push", olga.name)["total"] == 1


# ------------------------------------------------------------------------------------------------ tags and versions


def test_changes_of_tags_and_versions_are_in_the_audit(registry: Registry, anna: Person, carl: Person) -> None:
    name = new_name()
    first = anna.push(name, {"a": b"1"}, tag="", is_team=True)
    second = anna.push(name, {"a": b"2"}, tag="")
    tag = f"/api/tag/anna/{name}/stable"
    anna.put(tag, json={"hash": first}).raise_for_status()
    carl.put(tag, json={"hash": second}).raise_for_status()
    anna.delete(tag).raise_for_status()
    anna.put(f"/api/version/anna/{name}/1.0RC1", json={"hash": first}).raise_for_status()
    assert registry.events("anna", name, ("TAG_SET", "TAG_DELETE", "VERSION_SET")) == [
        {"kind": "TAG_SET", "account": "anna", "hash": first, "extra": {"tag": "stable"}},
        {"kind": "TAG_SET", "account": "carl", "hash": second, "extra": {"tag": "stable"}},
        {"kind": "TAG_DELETE", "account": "anna", "hash": second, "extra": {"tag": "stable"}},
        {"kind": "VERSION_SET", "account": "anna", "hash": first, "extra": {"version": "1.0rc1"}},
    ]


def test_tags_and_versions_that_were_refused_or_only_read_are_not(
    registry: Registry, anna: Person, carl: Person, name: str
) -> None:
    top_hash = anna.push(name, {"a": b"1"}, tag="")
    anna.put(f"/api/version/anna/{name}/1.0", json={"hash": top_hash}).raise_for_status()
    kinds = ("TAG_SET", "TAG_DELETE", "VERSION_SET")
    before = registry.events("anna", name, kinds)
    for person in (anna, carl):
        person.put(f"/api/version/anna/{name}/1.0", json={"hash": top_hash})
        person.put(f"/api/tag/anna/{name}/x", json={"hash": "0" * 64})
        person.delete(f"/api/tag/anna/{name}/nothing")
        person.get(f"/api/tag/anna/{name}/latest")
        person.get(f"/api/version/anna/{name}/1.0")
        person.http.head(f"/api/tag/anna/{name}/latest")
    assert registry.events("anna", name, kinds) == before
