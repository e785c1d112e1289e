"""The audit trail: what admins read in it, and that nobody changes it (protocol §17)."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from tests import trees
from tests.registry import Person, Registry, new_name
from tests.trees import Json

OLD_FIELDS = {"created", "user", "type", "package_owner", "package_name", "package_hash", "extra"}
FIELDS = {"id", "created", "kind", "user", "subject", "owner", "package", "hash", "extra"}


@pytest.fixture
def eve(registry: Registry) -> Person:
    """Somebody of whom the audit knows nothing but that they signed in."""
    return registry.make_person(new_name("eve"))


@pytest.fixture
def name() -> str:
    return new_name()


def old(ada: Person, what: str) -> list[Json]:
    answer = ada.get(f"/api/audit/{what}/")
    assert answer.status_code == 200, answer.text
    events: list[Json] = answer.json()["events"]
    assert all(event.keys() == OLD_FIELDS for event in events)
    return events


def page(ada: Person, **query: Any) -> Json:
    answer = ada.get("/api/v1/audit", params=query)
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    assert found.keys() == {"events", "next"}
    assert all(event.keys() == FIELDS for event in found["events"])
    return found


def found(ada: Person, **query: Any) -> list[Json]:
    events: list[Json] = page(ada, **query)["events"]
    return events


def kinds(events: list[Json]) -> list[str]:
    return [event["kind"] for event in events]


# ------------------------------------------------------------------------------------------------ as in the original


def test_what_somebody_did_in_order_of_time(eve: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.install(eve.name, name, top_hash, subpath="a")
    eve.get(f"/api/package_preview/{eve.name}/{name}/{top_hash}").raise_for_status()
    eve.delete(f"/api/package/{eve.name}/{name}/").raise_for_status()
    events = old(ada, eve.name)
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


def test_what_was_done_to_a_package_by_whomever(eve: Person, ben: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.grant(name, "ben")
    ben.install(eve.name, name, top_hash)
    eve.delete(f"/api/package/{eve.name}/{name}/").raise_for_status()
    eve.push(name, {"a": b"1"})
    assert [(event["user"], event["type"]) for event in old(ada, f"{eve.name}/{name}")] == [
        (eve.name, "PUSH"), ("ben", "INSTALL"), (eve.name, "DELETE"), (eve.name, "PUSH"),
    ]  # fmt: skip
    assert [event["package_name"] for event in old(ada, "ben") if event["package_owner"] == eve.name] == [name]


def test_people_who_are_not_signed_in_have_no_name(open_registry: Registry) -> None:
    olga = open_registry.make_person(new_name("olga"), is_admin=True)
    name = new_name()
    top_hash = olga.push(name, {"a": b"1"}, is_public=True)
    open_registry.nobody().install(olga.name, name, top_hash)
    assert [event["user"] for event in old(olga, f"{olga.name}/{name}")] == [olga.name, None]


def test_old_lists_have_the_kinds_that_old_clients_know(eve: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.put(f"/api/version/{eve.name}/{name}/1.0", json={"hash": top_hash}).raise_for_status()
    eve.post(f"/api/comments/{eve.name}/{name}/", json={"contents": "x"}).raise_for_status()
    eve.grant(name, "ben")
    for what in (eve.name, f"{eve.name}/{name}"):
        assert [event["type"] for event in old(ada, what)] == ["PUSH"]


@pytest.mark.parametrize("what", ["nobody_at_all", "nobody_at_all/nothing", "anna/nothing", "Anna", "%27x", "a%20b/c"])
def test_the_audit_of_what_is_not_there_is_empty(ada: Person, what: str) -> None:
    assert ada.get(f"/api/audit/{what}/").json() == {"events": []}
    assert ada.get(f"/api/audit/{what}").json() == {"events": []}


def test_an_old_list_ends_with_the_newest_ten_thousand(registry: Registry, eve: Person, ada: Person) -> None:
    """There is no second page: whoever did more than that must not take the registry down."""
    registry.sql(
        """INSERT INTO event (kind, account, extra, created_at)
           SELECT CASE WHEN n % 2 = 0 THEN 'INSTALL' ELSE 'PREVIEW' END, $1, jsonb_build_object('n', n),
                  now() - (10100 - n) * interval '1 second'
           FROM generate_series(1, 10100) n""",
        eve.name,
    )
    assert [event["extra"]["n"] for event in old(ada, eve.name)] == list(range(101, 10101))


# ------------------------------------------------------------------------------------------------ all kinds


def test_everything_that_happened_the_newest_first(eve: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"}, tag="v")
    eve.grant(name, "ben")
    events = found(ada, user=eve.name)
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


def test_events_are_found_by_whom_they_were_done_to(eve: Person, ada: Person, name: str, registry: Registry) -> None:
    fay = registry.make_person(new_name("fay"))
    eve.push(name, {"a": b"1"})
    eve.grant(name, fay.name)
    ada.post("/api/users/disable", json={"username": fay.name}).raise_for_status()
    assert [(each["kind"], each["user"]) for each in found(ada, subject=fay.name)] == [
        ("ACCOUNT_DISABLE", "ada"),
        ("ACCESS_GRANT", eve.name),
    ]
    assert kinds(found(ada, subject=fay.name, user="ada")) == ["ACCOUNT_DISABLE"]
    assert kinds(found(ada, subject=fay.name, package=f"{eve.name}/{name}")) == ["ACCESS_GRANT"]


def test_events_are_found_by_package_and_kind(eve: Person, ben: Person, ada: Person, name: str) -> None:
    top_hash = eve.push(name, {"a": b"1"})
    eve.grant(name, "ben")
    ben.install(eve.name, name, top_hash)
    package = f"{eve.name}/{name}"
    assert kinds(found(ada, package=package)) == ["INSTALL", "ACCESS_GRANT", "TAG_SET", "PUSH"]
    assert kinds(found(ada, package=package, kind="PUSH")) == ["PUSH"]
    assert kinds(found(ada, package=package, kind=["TAG_SET", "INSTALL", "TAG_SET"])) == ["INSTALL", "TAG_SET"]
    assert kinds(found(ada, package=package, user="ben")) == ["INSTALL"]
    assert found(ada, package=package, user="ben", kind="PUSH") == []
    eve.delete(f"/api/package/{package}/").raise_for_status()
    assert kinds(found(ada, package=package))[0] == "DELETE"


def test_failed_sign_ins_are_found(registry: Registry, eve: Person, ada: Person) -> None:
    httpx.post(registry.url + "/api/login", json={"username": eve.name, "password": "a guess"})
    (event,) = found(ada, subject=eve.name, kind="SIGN_IN_FAILED")
    assert event["user"] is None
    assert event["extra"] == {"address": "127.0.0.1"}


@pytest.fixture(scope="module")
def timed(registry: Registry) -> tuple[str, list[datetime]]:
    """A user with an event on each of five days, and the times."""
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
    events = found(ada, user=timed[0], **query)
    assert [datetime.fromisoformat(each["created"]).day for each in events] == days


def test_pages_hold_everything_once(registry: Registry, ada: Person) -> None:
    """Also events of one moment, and a time that goes against the ids."""
    user, now = new_name("tom"), datetime.now(UTC)
    for shift in (3, 1, 2, 2, 2, 0, 0):
        registry.sql(
            "INSERT INTO event (kind, account, created_at) VALUES ($1, $2, $3)",
            "SIGN_IN" if shift % 2 else "SIGN_OUT", user, now - timedelta(seconds=shift),
        )  # fmt: skip
    everything = found(ada, user=user)
    assert [each["created"] for each in everything] == sorted((e["created"] for e in everything), reverse=True)
    assert len(everything) == 7
    for limit in (1, 2, 3, 6, 7):
        events, answer = [], page(ada, user=user, limit=limit)
        while True:
            assert len(answer["events"]) <= limit
            events += answer["events"]
            if answer["next"] is None:
                break
            answer = page(ada, user=user, limit=limit, before=answer["next"])
        assert events == everything


def test_a_page_has_a_hundred_events(registry: Registry, ada: Person) -> None:
    user = new_name("tom")
    registry.sql("INSERT INTO event (kind, account) SELECT 'SIGN_IN', $1 FROM generate_series(1, 1100)", user)
    assert len(found(ada, user=user)) == 100
    assert len(found(ada, user=user, limit=1000)) == 1000


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("limit=0", "limit must be a whole number from 1 to 1000."),
        ("limit=1001", "limit must be a whole number from 1 to 1000."),
        ("limit=-1", "limit must be a whole number from 1 to 1000."),
        ("limit=ten", "limit must be a whole number from 1 to 1000."),
        (f"limit={'9' * 5000}", "limit must be a whole number from 1 to 1000."),
        ("before=x", f"before must be a whole number from 0 to {2**63 - 1}."),
        (f"before={2**63}", f"before must be a whole number from 0 to {2**63 - 1}."),
        ("before=0", "before must be the value of `next` in an earlier answer."),
        (f"before={2**63 - 1}", "before must be the value of `next` in an earlier answer."),
        ("since=yesterday", "since must be a time like 2026-01-31T12:00:00Z."),
        ("since=", "since must be a time like 2026-01-31T12:00:00Z."),
        ("until=2026-13-01", "until must be a time like 2026-01-31T12:00:00Z."),
        ("until=1795419013", "until must be a time like 2026-01-31T12:00:00Z."),
        ("since=0001-01-01T00:00:00%2B14:00", "since must be a time like 2026-01-31T12:00:00Z."),
        ("until=9999-12-31T23:00:00-14:00", "until must be a time like 2026-01-31T12:00:00Z."),
        ("since=%00", "since must be a time like 2026-01-31T12:00:00Z."),
        ("package=anna", "package must be OWNER/NAME."),
        ("package=", "package must be OWNER/NAME."),
        ("user=a%00b", "user holds a NUL character."),
        ("subject=%00", "subject holds a NUL character."),
        ("package=%00/x", "package holds a NUL character."),
    ],
    ids=lambda value: value[:30],
)
def test_what_cannot_be_asked(ada: Person, query: str, message: str) -> None:
    answer = ada.get(f"/api/v1/audit?{query}")
    assert (answer.status_code, answer.json()) == (400, {"message": message, "code": "invalid"})


@pytest.mark.parametrize("kind", ["push", "NOTHING", "", "PUSH,INSTALL", "%00", "x" * 5000])
def test_a_kind_that_there_is_not(ada: Person, kind: str) -> None:
    answer = ada.get(f"/api/v1/audit?kind=PUSH&kind={kind}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    message = answer.json()["message"]
    assert message.startswith(f"There are no events of the kind {kind.replace('%00', chr(0))!r:.39}")
    assert "VERSION_SET" in message
    assert len(message) < 1000


@pytest.mark.parametrize("text", ["nobody", "", "Ada", "%", "' OR true --", "\U0001f600", "x" * 5000, "\u202e"])
def test_somebody_who_is_not_there_did_nothing(ada: Person, text: str) -> None:
    assert page(ada, user=text) == page(ada, subject=text) == {"events": [], "next": None}
    assert page(ada, package=f"{text}/{text}") == {"events": [], "next": None}


@pytest.mark.parametrize("text", ["%ff", "%ed%a0%80"])
def test_bytes_that_are_no_text(ada: Person, text: str) -> None:
    for name in ("user", "subject"):
        assert ada.get(f"/api/v1/audit?{name}={text}").json() == {"events": [], "next": None}


def test_reading_the_audit_leaves_no_trace(ada: Person, anna: Person, name: str) -> None:
    top_hash = anna.push(name, {"a": b"1"})
    before = found(ada, limit=1)
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
    assert found(ada, limit=1) == before


# ------------------------------------------------------------------------------------------------ codes of refusals


def test_refusals_of_new_calls_have_a_code(anna: Person, ada: Person, nobody: Person) -> None:
    machine = anna.post("/api/v1/tokens", json={"name": new_name("token"), "read_only": True}).json()["token"]
    reader = Person(anna.registry, "anna", machine)
    body = {"name": new_name("token")}
    anna.post("/api/v1/tokens", json=body).raise_for_status()
    answers = {
        "sign_in_needed": nobody.get("/api/v1/audit"),
        "forbidden": reader.post("/api/v1/tokens", json=body),
        "invalid": anna.post("/api/v1/tokens", json={}),
        "conflict": anna.post("/api/v1/tokens", json=body),
        "not_found": anna.get("/api/v1/nothing"),
        "method_not_allowed": ada.delete("/api/v1/audit"),
        "too_large": anna.post("/api/v1/tokens", json={"name": "x" * 1_000_000}),
    }
    for code, answer in answers.items():
        assert answer.json().keys() == {"message", "code"}
        assert answer.json()["code"] == code


def test_refusals_of_other_calls_have_none(anna: Person, nobody: Person) -> None:
    for answer in (nobody.get("/api/me"), anna.get("/api/nothing"), anna.get("/api/tag/anna/nothing/x")):
        assert answer.json().keys() == {"message"}


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
    assert kinds(found(ada, package=quote(f"{eve.name}/{name}", safe="/"))) == ["DELETE", "TAG_SET", "PUSH"]
