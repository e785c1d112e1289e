"""The package page and the home page."""

from __future__ import annotations

from hashlib import sha256

import httpx
import pytest

from tests.browsers import browser, without_tokens
from tests.registry import Person, Registry, new_name


def events(registry: Registry, name: str, kind: str) -> list[str]:
    return [event["account"] for event in registry.events("anna", name) if event["kind"] == kind]


@pytest.fixture(scope="module")
def package(anna: Person) -> str:
    name = new_name()
    readme = b"# T\xc3\xa4bles\n<script>alert('x')</script> <img src=x onerror=alert(1)> & more"
    anna.push(name, {"README": readme, "data": {"<b>bold": b"1,2\n"}})
    return name


def test_a_reader_sees_the_package(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"/package/anna/{package}")
    assert page.status_code == 200
    assert f"quilt install local:anna/{package}" in page.text
    assert "private" in page.text
    assert f'<a href="/package/anna/{package}/files/data">data</a>' in page.text


def test_a_readme_is_rendered_without_scripts(annas_browser: httpx.Client, package: str) -> None:
    text = annas_browser.get(f"/package/anna/{package}").text
    assert '<h2 id="readme-täbles">Täbles</h2>' in text
    assert "alert('x')" not in text
    assert "<img src=x" not in text


def test_a_hidden_package_looks_like_a_missing_one(carls_browser: httpx.Client, package: str) -> None:
    hidden = carls_browser.get(f"/package/anna/{package}")
    missing = carls_browser.get("/package/anna/missing")
    assert hidden.status_code == missing.status_code == 404
    assert without_tokens(hidden.text).replace(package, "missing") == without_tokens(missing.text)
    assert hidden.headers["content-type"].startswith("text/html")


def test_the_package_page_sends_anonymous_visitors_to_sign_in(visitor: httpx.Client, package: str) -> None:
    responses = [visitor.get(f"/package/anna/{name}") for name in (package, "missing")]
    assert [response.status_code for response in responses] == [302, 302]
    assert responses[0].headers["location"] == f"/signin?next=/package/anna/{package}"


def test_looking_at_a_package_is_recorded_once(
    registry: Registry, anna: Person, annas_browser: httpx.Client, carls_browser: httpx.Client
) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    annas_browser.get(f"/package/anna/{name}")
    assert annas_browser.head(f"/package/anna/{name}").status_code == 200
    carls_browser.get(f"/package/anna/{name}")
    assert events(registry, name, "PREVIEW") == ["anna"]


def test_home_lists_readable_packages(annas_browser: httpx.Client, carls_browser: httpx.Client, package: str) -> None:
    path = f"/package/anna/{package}"
    assert path in annas_browser.get("/").text
    assert path not in carls_browser.get("/").text


def test_a_package_without_latest_has_a_page(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"}, tag="")
    page = annas_browser.get(f"/package/anna/{name}")
    assert page.status_code == 200
    assert "no <code>latest</code> tag" in page.text
    assert f"quilt install local:anna/{name} -x " in page.text


def test_an_empty_package_has_a_page(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {})
    assert "No README in this version." in annas_browser.get(f"/package/anna/{name}").text


def test_links_of_a_readme_lead_to_files_of_the_shown_version(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    readme = b"[data](my-data/train.csv) ![plot](plot.png) [gone](gone.csv) [up](../x) ![far](https://x.example/y.png)"
    top_hash = anna.push(name, {"README": readme, "my_data": {"train": b"1"}, "plot": b"2"})
    anna.push(name, {"README": b"new"})
    page = annas_browser.get(f"/package/anna/{name}?hash={top_hash}").text
    assert f'<a href="/package/anna/{name}/files/my_data/train?hash={top_hash}"' in page
    assert f'<img src="/package/anna/{name}/files/plot?hash={top_hash}&amp;view=image" alt="plot"' in page
    assert "gone.csv" not in page
    assert "image: far (x.example)" in page
    assert f"quilt install local:anna/{name} -x {top_hash}" in page


@pytest.mark.parametrize(("kind", "option"), [("version", "-v 1.0"), ("tag", "-t prod")])
def test_commands_install_the_shown_version(anna: Person, annas_browser: httpx.Client, kind: str, option: str) -> None:
    name = new_name()
    top_hash = anna.push(name, {"a": b"1"}, tag="prod")
    anna.put(f"/api/version/anna/{name}/1.0", json={"hash": top_hash})
    anna.push(name, {"a": b"2"})
    latest = annas_browser.get(f"/package/anna/{name}").text
    assert f'data-text="quilt install local:anna/{name}"' in latest
    assert f'data-text="quilt install local:anna/{name}"' in annas_browser.get(f"/package/anna/{name}?tag=latest").text
    assert f"from quilt.team.local.anna import {name}" in latest
    shown = annas_browser.get(f"/package/anna/{name}", params={kind: option[3:]}).text
    assert f'data-text="quilt install local:anna/{name} {option}"' in shown
    assert f'{name}:{kind}:{option[3:]}"' in shown
    assert top_hash in shown


def test_a_package_without_readme_tells_its_owner_how_to_add_one(
    anna: Person, annas_browser: httpx.Client, bens_browser: httpx.Client
) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    assert f"quilt push local:anna/{name}" in annas_browser.get(f"/package/anna/{name}").text
    page = bens_browser.get(f"/package/anna/{name}").text
    assert "No README in this version." in page
    assert "quilt push" not in page


def test_a_page_says_whether_contents_are_verified(
    registry: Registry, anna: Person, annas_browser: httpx.Client
) -> None:
    name = new_name()
    data = name.encode()
    top_hash = anna.push(name, {"a": data})
    anna.install("anna", name, top_hash)
    page = annas_browser.get(f"/package/anna/{name}").text
    assert "Verified" in page
    assert "installed by 1\N{NO-BREAK SPACE}user" in page
    for state, sentence in ((0, "Not all contents verified yet"), (2, "Some contents are damaged")):
        registry.sql("UPDATE object SET state = $1 WHERE digest = $2", state, sha256(data).digest())
        assert sentence in annas_browser.get(f"/package/anna/{name}").text


def test_a_long_readme_is_shown_from_the_start(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {"README": b"# Start\n\n" + b"word " * 150_000 + b"\n\nThe end"})
    page = annas_browser.get(f"/package/anna/{name}").text
    assert '<h2 id="readme-start">' in page
    assert "The end" not in page
    assert "This README is longer than what is shown here." in page


def test_in_open_mode_anybody_sees_public_packages(open_registry: Registry) -> None:
    owner = open_registry.make_person("anna_pages")
    owner.push("open_data", {"a": b"1"}, is_public=True)
    owner.push("own_data", {"a": b"1"})
    with browser(open_registry) as page:
        assert "open_data" in page.get("/").text
        assert "own_data" not in page.get("/").text
        assert "public" in page.get("/package/anna_pages/open_data").text
        assert page.get("/package/anna_pages/own_data").status_code == 404
