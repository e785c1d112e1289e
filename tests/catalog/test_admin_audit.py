"""The page of the audit trail, and its export."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from quilt_registry.audit import CLIENTS, KINDS
from quilt_registry.catalog.admin import events
from tests.browsers import Browser, browser, sign_in
from tests.registry import Person, Registry, new_name

AUDIT = "/profile/admin/audit"


@pytest.fixture(scope="module")
def adas_browser(registry: Registry, ada: Person) -> Iterator[Browser]:
    with browser(registry) as client:
        assert sign_in(client, ada.name).status_code == 303
        yield client


def rows_of(page: httpx.Response) -> list[str]:
    """The events on a page as text."""
    found = re.findall(r"<tr>\s*<td class=\"time\">(.*?)</tr>", page.text, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", "", each).split()) for each in found]


def find(browser: Browser, /, **query: str | list[str]) -> httpx.Response:
    return browser.get(AUDIT, params=query)


def exported(browser: Browser, /, **query: str | list[str]) -> list[dict[str, str]]:
    response = browser.get(f"{AUDIT}/export", params=query)
    assert response.status_code == 200
    assert response.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(response.content.decode("utf-8-sig"), newline="")))


def add_event(registry: Registry, kind: str, account: str, at: datetime, **columns: object) -> None:
    columns = {"kind": kind, "account": account, "created_at": at, **columns}
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    registry.sql(f"INSERT INTO event ({', '.join(columns)}) VALUES ({places})", *columns.values())


def test_only_admins_read_the_trail(annas_browser: Browser, visitor: Browser) -> None:
    for path in (AUDIT, f"{AUDIT}/export"):
        assert annas_browser.get(path).status_code == 403
        assert visitor.get(path).headers["location"].startswith("/signin")


def test_every_kind_has_words() -> None:
    assert events.WORDS.keys() == set(KINDS)
    assert events.CLIENTS.keys() == set(CLIENTS)


@pytest.mark.usefixtures("ben")
def test_an_event_tells_who_did_what_to_what(registry: Registry, adas_browser: Browser) -> None:
    eve, name = registry.make_person(new_name("eve")), new_name()
    top_hash = eve.push(name, {"a": b"1"})
    eve.grant(name, "ben")
    rows = rows_of(find(adas_browser, user=eve.name, kind=["PUSH", "ACCESS_GRANT", "TAG_SET", "SIGN_IN"]))
    share, tag, push, signed_in = (row[len("2026-11-28 14:00:00 ") :] for row in rows)
    assert share == f"{eve.name} Share {eve.name}/{name} ben other"
    assert tag == f"{eve.name} Set tag {eve.name}/{name} {top_hash[:8]} tag latest other"
    assert push == f"{eve.name} Push {eve.name}/{name} {top_hash[:8]} other"
    assert re.fullmatch(rf"{eve.name} Sign in with password · from [\d.:a-f]+ other", signed_in)
    page = find(adas_browser, user=eve.name)
    assert f'href="/package/{eve.name}/{name}"' in page.text
    assert ">Push <" in page.text, "events are counted by kind"
    eve.delete(f"/api/package/{eve.name}/{name}/").raise_for_status()
    assert f'href="/package/{eve.name}/{name}"' not in find(adas_browser, user=eve.name).text


@pytest.mark.usefixtures("ben")
def test_the_trail_is_filtered(registry: Registry, adas_browser: Browser) -> None:
    eve, name = registry.make_person(new_name("eve")), new_name()
    eve.push(name, {"a": b"1"})
    eve.grant(name, "ben")

    def kinds(**query: str | list[str]) -> list[str]:
        return [each["event"] for each in exported(adas_browser, **query)]

    assert kinds(package=f"{eve.name}/{name}") == kinds(package=name) == ["ACCESS_GRANT", "TAG_SET", "PUSH"]
    assert kinds(user=eve.name, kind="PUSH") == ["PUSH"]
    assert kinds(user=eve.name, subject="ben") == ["ACCESS_GRANT"]
    assert kinds(user=eve.name, kind=["PUSH", "NOTHING"]) == ["PUSH"]
    page = find(adas_browser, user="nobody_at_all", package="a\0b")
    assert "No event matches." in page.text
    assert f'href="{AUDIT}"' in page.text


@pytest.mark.usefixtures("ben")
def test_events_are_told_apart_by_client(registry: Registry, adas_browser: Browser) -> None:
    eve, name = registry.make_person(new_name("eve")), new_name()
    eve.push(name, {"a": b"1"})
    eve.http.headers["User-Agent"] = "quilt-cli/2.9.15 (Linux 6.1) CPython/3.7.16"
    eve.put(f"/api/access/{eve.name}/{name}/ben").raise_for_status()
    with browser(registry) as client:
        sign_in(client, eve.name)

    def words(client: str) -> set[str]:
        return {each["event"] for each in exported(adas_browser, user=eve.name, client=client)}

    assert words("cli") == {"ACCESS_GRANT"}
    assert words("web") == {"SIGN_IN"}
    assert "PUSH" in words("other")
    assert rows_of(find(adas_browser, user=eve.name, client="web"))[0].endswith("web")


def test_days_are_whole_and_both_included(registry: Registry, adas_browser: Browser) -> None:
    name = new_name("day")
    times = [(2, 23, 59), (3, 0, 0), (4, 23, 59), (5, 0, 0)]
    for day, hour, minute in times:
        add_event(registry, "SIGN_OUT", name, datetime(2024, 3, day, hour, minute, 30, tzinfo=UTC))
    rows = rows_of(find(adas_browser, user=name, since="2024-03-03", until="2024-03-04"))
    assert [row[:19] for row in rows] == ["2024-03-04 23:59:30", "2024-03-03 00:00:30"]


@pytest.mark.parametrize("path", [AUDIT, f"{AUDIT}/export"])
@pytest.mark.parametrize(
    ("query", "field", "message"),
    [
        ({"since": "yesterday"}, "since", "Enter a date such as 2026-01-31."),
        ({"until": "2026-02-30"}, "until", "Enter a date such as 2026-01-31."),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "until", "This is before the first day."),
    ],
)
def test_a_bad_date_is_an_error_at_its_field(
    adas_browser: Browser, path: str, query: dict[str, str], field: str, message: str
) -> None:
    response = adas_browser.get(path, params=query)
    assert response.status_code == 422
    assert f'<a href="#{field}">{message}' in response.text
    assert f'id="{field}-problem">{message}' in response.text
    assert f'value="{query[field]}"' in response.text


def test_a_long_trail_has_pages(registry: Registry, adas_browser: Browser) -> None:
    name = new_name("long")
    for minute in range(3):
        for second in range(50):
            add_event(registry, "SIGN_OUT", name, datetime(2024, 3, 1, 0, minute, second, tzinfo=UTC))
    first = find(adas_browser, user=name)
    assert "150" in first.text
    link = re.search(r'rel="next" href="([^"]+)"', first.text)
    assert link
    second = adas_browser.get(link[1].replace("&amp;", "&"))
    assert (len(rows_of(first)), len(rows_of(second))) == (100, 50)
    assert rows_of(second)[-1].startswith("2024-03-01 00:00:00")
    assert 'rel="next"' not in second.text
    assert "Newest events" in second.text
    for cursor in ("x", "999999999999", "-1", "9" * 30):
        assert rows_of(find(adas_browser, user=name, cursor=cursor)) == rows_of(first)


# ------------------------------------------------------------------------------------------------ export


def test_the_export_has_the_same_events_and_is_an_event(registry: Registry, adas_browser: Browser) -> None:
    eve, name = registry.make_person(new_name("eve")), new_name()
    top_hash = eve.push(name, {"a": b"1"})
    (push,) = exported(adas_browser, user=eve.name, kind="PUSH")
    assert push["package"] == f"{eve.name}/{name}"
    assert push["hash"] == top_hash
    assert datetime.fromisoformat(push["time"]).tzinfo == UTC
    latest = exported(adas_browser, user="ada", kind="AUDIT_EXPORT")
    assert f"user={eve.name}&kind=PUSH" in latest[1]["details"]
    assert latest[0]["client"] == "web"


def test_the_export_is_named_for_the_team_and_the_days(registry: Registry, adas_browser: Browser) -> None:
    response = adas_browser.get(f"{AUDIT}/export", params={"since": "2024-03-01", "until": "2024-03-02"})
    assert 'filename="audit-local-2024-03-01-2024-03-02.csv"' in response.headers["content-disposition"]
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    before = len(registry.sql("SELECT FROM event WHERE kind = 'AUDIT_EXPORT'"))
    assert adas_browser.head(f"{AUDIT}/export").content == b""
    assert len(registry.sql("SELECT FROM event WHERE kind = 'AUDIT_EXPORT'")) == before


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@a", "\t1"])
def test_no_cell_of_the_export_is_a_formula(registry: Registry, adas_browser: Browser, text: str) -> None:
    add_event(registry, "SIGN_IN_FAILED", "mallory", datetime.now(UTC), subject=text + new_name())
    latest = exported(adas_browser, user="mallory")[0]
    assert latest["subject"].startswith("'" + text)


def test_long_exports_come_whole(registry: Registry, adas_browser: Browser) -> None:
    name = new_name("bulk")
    registry.sql(
        """INSERT INTO event (created_at, kind, account)
           SELECT now() - n * interval '1 s', 'INSTALL', $1 FROM generate_series(1, 2500) n""",
        name,
    )
    page = find(adas_browser, user=name)
    assert "2\u2009500" in page.text
    times = [each["time"] for each in exported(adas_browser, user=name)]
    assert len(times) == 2500
    assert times == sorted(times, reverse=True)


def test_the_number_of_many_events_is_an_estimate(registry: Registry, adas_browser: Browser) -> None:
    name = new_name("busy")
    registry.sql(
        """INSERT INTO event (created_at, kind, account)
           SELECT now() - n * interval '1 s', 'PREVIEW', $1 FROM generate_series(1, 10100) n""",
        name,
    )
    registry.sql("ANALYZE event")
    page = find(adas_browser, user=name).text
    assert re.search("about 1[0-2]\u2009\\d00\u00a0events", page)
    assert "10\u2009000</span>" not in page, "the kind has more"
