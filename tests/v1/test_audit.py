"""The audit trail: queries by admins, and protection against changes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name
from tests.trees import Json

FIELDS = {"id", "created", "kind", "user", "subject", "owner", "package", "hash", "extra"}


@pytest.fixture
def name() -> str:
    return new_name()


def get_page(ada: Person, **query: Any) -> Json:
    """Return a page of audit events. Assert that all fields are present."""
    response = ada.get("/api/v1/audit", params=query)
    assert response.status_code == 200, response.text
    body: Json = response.json()
    assert body.keys() == {"events", "next"}
    assert all(event.keys() == FIELDS for event in body["events"])
    return body


def list_events(ada: Person, **query: Any) -> list[Json]:
    events: list[Json] = get_page(ada, **query)["events"]
    return events


def kinds(events: list[Json]) -> list[str]:
    return [event["kind"] for event in events]


def test_everything_that_happened_the_newest_first(eve: Person, ben: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"}, tag="v")
    eve.grant(name, "ben")
    events = list_events(ada, user=eve.name)
    assert kinds(events) == ["ACCESS_GRANT", "TAG_SET", "PUSH", "SIGN_IN"]
    for event in events:
        assert abs((datetime.now(UTC) - datetime.fromisoformat(event.pop("created"))).total_seconds()) < 60
    ids = [event.pop("id") for event in events]
    assert ids == sorted(ids, reverse=True)
    about = {"user": eve.name, "subject": None, "owner": eve.name, "package": name, "hash": top_hash, "extra": None}
    assert events[:3] == [
        {**about, "kind": "ACCESS_GRANT", "subject": "ben", "hash": None},
        {**about, "kind": "TAG_SET", "extra": {"tag": "v"}},
        {**about, "kind": "PUSH", "extra": {"public": False}},
    ]


def test_events_are_found_by_subject(eve: Person, ada: Person, name: str, registry: Registry) -> None:
    fay = registry.make_person(new_name("fay"))
    eve.push(name, {"a": b"1"})
    eve.grant(name, fay.name)
    ada.post("/api/users/disable", json={"username": fay.name}).raise_for_status()
    assert [(each["kind"], each["user"]) for each in list_events(ada, subject=fay.name)] == [
        ("ACCOUNT_DISABLE", "ada"),
        ("ACCESS_GRANT", eve.name),
    ]
    assert kinds(list_events(ada, subject=fay.name, user="ada")) == ["ACCOUNT_DISABLE"]
    assert kinds(list_events(ada, subject=fay.name, package=f"{eve.name}/{name}")) == ["ACCESS_GRANT"]


def test_events_are_found_by_package_and_kind(eve: Person, ben: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.grant(name, "ben")
    ben.install(eve.name, name, top_hash)
    package = f"{eve.name}/{name}"
    assert kinds(list_events(ada, package=package)) == ["INSTALL", "ACCESS_GRANT", "TAG_SET", "PUSH"]
    assert kinds(list_events(ada, package=package, kind="PUSH")) == ["PUSH"]
    assert kinds(list_events(ada, package=package, kind=["TAG_SET", "INSTALL", "TAG_SET"])) == ["INSTALL", "TAG_SET"]
    assert kinds(list_events(ada, package=package, user="ben")) == ["INSTALL"]
    assert list_events(ada, package=package, user="ben", kind="PUSH") == []
    eve.delete(f"/api/package/{package}/").raise_for_status()
    assert kinds(list_events(ada, package=package))[0] == "DELETE"


def test_failed_sign_ins_are_found(registry: Registry, eve: Person, ada: Person) -> None:
    httpx.post(registry.url + "/api/login", json={"username": eve.name, "password": "a guess"})
    (event,) = list_events(ada, subject=eve.name, kind="SIGN_IN_FAILED")
    assert event["user"] is None
    assert event["extra"] == {"address": "127.0.0.1"}


@pytest.fixture(scope="module")
def timed(registry: Registry) -> tuple[str, list[datetime]]:
    """A user with one event on each of five days, and the times of these events."""
    user = new_name("tim")
    times = [datetime(2020, 1, day, 12, tzinfo=UTC) for day in range(1, 6)]
    for each in times:
        registry.sql("INSERT INTO event (kind, account, created_at) VALUES ('SIGN_IN', $1, $2)", user, each)
    return user, times


@pytest.mark.parametrize(
    ("query", "days"),
    [
        ({"since": "2020-01-03T12:00:00Z"}, [5, 4, 3]),
        ({"since": "2020-01-03T12:00:00.000001Z"}, [5, 4]),
        ({"until": "2020-01-03T12:00:00Z"}, [2, 1]),
        ({"since": "2020-01-02", "until": "2020-01-04"}, [3, 2]),
        ({"since": "2020-01-03T14:00:00+02:00"}, [5, 4, 3]),
        ({"since": "2020-01-03 14:00:00 02:00"}, [5, 4, 3]),
        ({"since": "20200105"}, [5]),
        ({"since": "2020-01-06"}, []),
        ({"since": "2020-01-04", "until": "2020-01-02"}, []),
        ({"since": "0001-01-01", "until": "9999-12-31T23:59:59Z"}, [5, 4, 3, 2, 1]),
    ],
)
def test_events_are_found_by_time(
    ada: Person, timed: tuple[str, list[datetime]], query: dict[str, str], days: list[int]
) -> None:
    events = list_events(ada, user=timed[0], **query)
    assert [datetime.fromisoformat(each["created"]).day for each in events] == days


def test_pages_hold_everything_once(registry: Registry, ada: Person) -> None:
    """Cover events with equal times, and times that run against the ids."""
    user, now = new_name("tom"), datetime.now(UTC)
    for shift in (3, 1, 2, 2, 2, 0, 0):
        registry.sql(
            "INSERT INTO event (kind, account, created_at) VALUES ($1, $2, $3)",
            "SIGN_IN" if shift % 2 else "SIGN_OUT", user, now - timedelta(seconds=shift),
        )  # fmt: skip
    everything = list_events(ada, user=user)
    assert [each["created"] for each in everything] == sorted((e["created"] for e in everything), reverse=True)
    assert len(everything) == 7
    for limit in (1, 2, 3, 6, 7):
        events, response = [], get_page(ada, user=user, limit=limit)
        while True:
            assert len(response["events"]) <= limit
            events += response["events"]
            if response["next"] is None:
                break
            response = get_page(ada, user=user, limit=limit, before=response["next"])
        assert events == everything


def test_a_page_has_a_hundred_events(registry: Registry, ada: Person) -> None:
    user = new_name("tom")
    registry.sql("INSERT INTO event (kind, account) SELECT 'SIGN_IN', $1 FROM generate_series(1, 1100)", user)
    assert len(list_events(ada, user=user)) == 100
    assert len(list_events(ada, user=user, limit=1000)) == 1000


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "limit: Expected `int` >= 1."),
        ("limit=1001", "limit: Expected `int` <= 1000."),
        ("limit=-1", "limit: Expected `int` >= 1."),
        ("limit=ten", "limit: Expected `int`, got `str`."),
        (f"limit={'9' * 5000}", "limit: Integer value out of range."),
        ("before=x", "before: Expected `int | null`, got `str`."),
        (f"before={2**63}", f"before: Expected `int` <= {2**63 - 1}."),
        ("before=0", "before must be the value of `next` in an earlier response."),
        (f"before={2**63 - 1}", "before must be the value of `next` in an earlier response."),
        ("since=yesterday", "since must be a time like 2026-01-31T12:00:00Z."),
        ("since=", "since must be a time like 2026-01-31T12:00:00Z."),
        ("until=2026-13-01", "until must be a time like 2026-01-31T12:00:00Z."),
        ("until=1795419013", "until must be a time like 2026-01-31T12:00:00Z."),
        ("since=0001-01-01T00:00:00%2B14:00", "since must be a time like 2026-01-31T12:00:00Z."),
        ("until=9999-12-31T23:00:00-14:00", "until must be a time like 2026-01-31T12:00:00Z."),
        ("since=%00", "since must be a time like 2026-01-31T12:00:00Z."),
        ("package=anna", "package must be OWNER/NAME."),
        ("package=", "package must be OWNER/NAME."),
        ("user=a%00b", "user contains a NUL character."),
        ("subject=%00", "subject contains a NUL character."),
        ("package=%00/x", "package contains a NUL character."),
    ],
    ids=lambda value: value[:30],
)
def test_an_invalid_query_is_refused(ada: Person, query: str, message: str) -> None:
    response = ada.get(f"/api/v1/audit?{query}")
    assert (response.status_code, response.json()) == (400, {"message": message, "code": "invalid"})


@pytest.mark.parametrize("kind", ["push", "NOTHING", "", "PUSH,INSTALL", "%00", "x" * 5000])
def test_an_unknown_kind_is_refused(ada: Person, kind: str) -> None:
    response = ada.get(f"/api/v1/audit?kind=PUSH&kind={kind}")
    assert (response.status_code, response.json()["code"]) == (400, "invalid")
    message, shown = response.json()["message"], kind.replace("%00", r"\x00")
    assert message.startswith(f"kind: Invalid enum value '{shown}"[:300])
    assert len(message) <= 300


@pytest.mark.parametrize("text", ["nobody", "", "Ada", "%", "' OR true --", "\U0001f600", "x" * 5000, "\u202e"])
def test_an_unknown_user_has_no_events(ada: Person, text: str) -> None:
    assert get_page(ada, user=text) == get_page(ada, subject=text) == {"events": [], "next": None}
    assert get_page(ada, package=f"{text}/{text}") == {"events": [], "next": None}


@pytest.mark.parametrize("text", ["%ff", "%ed%a0%80"])
def test_invalid_utf8_is_refused(ada: Person, text: str) -> None:
    for name in ("user", "subject"):
        assert ada.get(f"/api/v1/audit?{name}={text}").status_code == 400


def test_reading_the_audit_leaves_no_trace(ada: Person, anna: Person, name: str) -> None:
    top_hash = anna.push(name, {"a": b"1"})
    before = list_events(ada, limit=1)
    for path in ("/api/audit/anna/", "/api/v1/audit", "/api/users/list_detailed", "/api/admin/package_summary"):
        ada.get(path).raise_for_status()
        ada.http.head(path).raise_for_status()
    for path in (
        f"/api/package/anna/{name}/{top_hash}",
        f"/api/package_preview/anna/{name}/{top_hash}",
        f"/api/package_timeseries/anna/{name}/push",
        f"/api/comments/anna/{name}/",
        "/api/recent_packages/",
    ):
        anna.http.head(path).raise_for_status()
    assert list_events(ada, limit=1) == before


# ------------------------------------------------------------------------------------------------ append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET account = 'somebody_else' WHERE account = $1",
        "DELETE FROM event WHERE account = $1",
        "WITH gone AS (DELETE FROM event WHERE account = $1 RETURNING id) SELECT * FROM gone",
        "INSERT INTO event (id, kind) OVERRIDING SYSTEM VALUE SELECT id, $1 FROM event LIMIT 1"
        " ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
    ],
)
def test_rows_of_the_audit_are_not_changed(registry: Registry, eve: Person, statement: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match="only ever added"):
        registry.sql(statement, eve.name)
    assert registry.sql("SELECT count(*) AS n FROM event WHERE account = $1", eve.name)[0]["n"] == 1


def test_the_audit_is_not_emptied(registry: Registry) -> None:
    for statement in ("TRUNCATE event", "DELETE FROM event", "UPDATE event SET kind = 'PUSH'"):
        with pytest.raises(asyncpg.RaiseError, match="only ever added"):
            registry.sql(statement)


def test_the_audit_outlives_packages(eve: Person, ada: Person, name: str) -> None:
    eve.push_tree(name, trees.tree({"a": b"1"}), [b"1"])
    eve.delete(f"/api/package/{eve.name}/{name}/").raise_for_status()
    assert kinds(list_events(ada, package=quote(f"{eve.name}/{name}", safe="/"))) == ["DELETE", "TAG_SET", "PUSH"]
