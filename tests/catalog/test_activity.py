"""The activity page: pushes, installs and views by week or month."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.registry import Person, Registry, new_name


@pytest.fixture(scope="module")
def name(registry: Registry, anna: Person) -> str:
    """A package with three pushes, two installs, one of which is four weeks old, and a view two years ago."""
    name = new_name()
    for data in (b"1", b"2", b"3"):
        top_hash = anna.push(name, {"a": data})
    anna.install("anna", name, top_hash)
    for kind, weeks in (("INSTALL", 4), ("PREVIEW", 104)):
        record(registry, name, kind, datetime.now(UTC) - timedelta(weeks=weeks))
    return name


def record(registry: Registry, name: str, kind: str, time: datetime) -> None:
    """Add an event of the past."""
    registry.sql(
        """INSERT INTO event (kind, account, owner, package, package_id, created_at)
           SELECT $1, 'anna', owner, name, id, $3 FROM package WHERE owner = 'anna' AND name = $2""",
        kind, name, time,
    )  # fmt: skip


def totals(page: str) -> list[str]:
    """The bolt labels of the three charts."""
    return [
        each.replace("\N{NO-BREAK SPACE}", " ") for each in re.findall('<span class="label">([^<]+)</span></div>', page)
    ]


def rows(page: str) -> list[list[str]]:
    """The rows of the table, the newest first."""
    table = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [re.findall("<t[hd][^>]*>([^<]+)", row) for row in table.split("</tr>")[:-1]]


def test_charts_and_table_show_the_same_numbers(annas_browser: httpx.Client, name: str) -> None:
    page = annas_browser.get(f"/package/anna/{name}/activity")
    assert page.status_code == 200
    assert totals(page.text) == ["3 pushes", "2 installs", "0 views"]
    assert page.text.count("<title>Week of") == 3 * 52
    weeks = rows(page.text)
    assert len(weeks) == 52
    assert [int(number) for number in weeks[0][1:]] == [3, 1, 0]
    assert [int(number) for number in weeks[4][1:]] == [0, 1, 0]


def test_weeks_begin_on_monday(annas_browser: httpx.Client, name: str) -> None:
    now = datetime.now(UTC)
    monday = now - timedelta(days=now.weekday())
    page = annas_browser.get(f"/package/anna/{name}/activity?weeks=12").text
    assert [row[0] for row in rows(page)] == [
        f"Week of {each:%-d %B %Y}" for each in (monday - timedelta(weeks=n) for n in range(12))
    ]


def test_all_activity_is_shown_by_month(annas_browser: httpx.Client, name: str) -> None:
    page = annas_browser.get(f"/package/anna/{name}/activity?weeks=all").text
    assert totals(page) == ["3 pushes", "2 installs", "1 view"]
    assert rows(page)[0][0] == f"{datetime.now(UTC):%B %Y}"
    assert rows(page)[-1][1:] == ["0", "0", "1"]


def test_an_old_package_without_activity(annas_browser: httpx.Client, unpushed: str) -> None:
    page = annas_browser.get(f"/package/anna/{unpushed}/activity").text
    assert "No activity in the last 52 weeks." in page
    assert page.count('class="rest"') == 3 * 52


def test_a_range_that_means_nothing_counts_as_absent(annas_browser: httpx.Client, name: str) -> None:
    for weeks in ("0", "-1", "x", "1000000"):
        assert len(rows(annas_browser.get(f"/package/anna/{name}/activity", params={"weeks": weeks}).text)) == 52


def test_looking_at_activity_is_no_activity(registry: Registry, annas_browser: httpx.Client, name: str) -> None:
    before = registry.events("anna", name)
    annas_browser.get(f"/package/anna/{name}/activity")
    assert registry.events("anna", name) == before


def test_strangers_do_not_find_the_page(carls_browser: httpx.Client, name: str) -> None:
    assert carls_browser.get(f"/package/anna/{name}/activity").status_code == 404
