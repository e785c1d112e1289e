"""The pages of files: folders, single files, the search in paths, downloads."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable

import httpx
import pytest
from PIL import Image

from tests.browsers import browser, sign_in
from tests.registry import Person, Registry, new_name
from tests.trees import file, group, root, sha, table, top_hash

HTMX = {"HX-Request": "true"}


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(out, "PNG")
    return out.getvalue()


CSV = b"a,b\n1,2\n"
PYTHON = b"def f():\n    return '<script>alert(1)</script>'\n"
PNG = picture()
META = json.dumps({"unit": "cm", "columns": ["a", "<i>"]}).encode()
README = b"# Inside\n\nSee [it](train.csv) and ![a plot](../plot.png).\n"
OBJECTS = [CSV, PYTHON, PNG, META, b"one", b"two", README, b"\0\1\2", b""]
TREE = root(
    {
        "raw": group({
            "train": file(CSV, metadata={"q_path": "data/train.csv", "q_ext": "csv"}, metadata_hash=sha(META)),
            "script": file(PYTHON, metadata={"q_path": "f.py"}),
            "README": file(README),
            "deep": group({"a10": file(b"one"), "a9": file(b"two")}),
        }),
        "plot": file(PNG, metadata={"q_path": "plots/plot.png"}),
        "parts": table(b"one", b"two", metadata={"q_target": "pandas"}),
        "blob": file(b"\0\1\2"),
        "nothing": file(b""),
        "<b>x %2F?#": file(b"one"),
        "empty": group({}),
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def package(anna: Person) -> str:
    name = new_name()
    anna.push_tree(name, TREE, OBJECTS)
    return f"/package/anna/{name}"


def kinds_of_events(registry: Registry, package: str) -> list[tuple[str, object]]:
    name = package.rpartition("/")[2]
    events = registry.events("anna", name)
    return [(event["kind"], event["extra"]) for event in events if event["kind"] in ("PREVIEW", "INSTALL")]


def plain(page: httpx.Response) -> str:
    """The words of a page."""
    return " ".join(re.sub(r"<[^>]*>", " ", page.text.partition("<main")[2]).split())


# ------------------------------------------------------------------------------------------------ folders


def test_a_folder_lists_folders_first_with_sizes_and_kinds(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"{package}/files")
    assert page.status_code == 200
    assert 'data-page="files"' in page.text
    links = re.findall(rf'href="{package}/files/([^"?/]+)"', page.text)
    assert links == ["empty", "raw", "%3Cb%3Ex%20%252F%3F%23", "blob", "nothing", "parts", "plot"]
    assert "&lt;b&gt;x %2F?#" in page.text
    assert "raw folder 5 " in plain(page)


def test_folders_open_by_their_path(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"{package}/files/raw")
    assert f'href="{package}/files/raw/train"' in page.text
    assert "train.csv" in page.text  # its source
    assert "Inside" in page.text  # the README
    assert f'href="{package}/files"' in page.text
    deep = annas_browser.get(f"{package}/files/raw/deep").text
    assert deep.index(">a9<") < deep.index(">a10<")


def test_lists_are_sorted_as_asked(annas_browser: httpx.Client, package: str) -> None:
    by_size = annas_browser.get(f"{package}/files", params={"sort": "size"}).text
    assert by_size.index(">plot<") < by_size.index(">nothing<")
    assert annas_browser.get(f"{package}/files", params={"sort": "what", "cursor": "x"}).status_code == 200


def test_an_empty_folder_says_so(annas_browser: httpx.Client, package: str) -> None:
    assert "This folder is empty." in annas_browser.get(f"{package}/files/empty").text


def test_a_folder_opens_in_place(annas_browser: httpx.Client, package: str) -> None:
    part = annas_browser.get(f"{package}/files/raw", headers=HTMX)
    assert "HX-Request" in part.headers["vary"]
    assert "<html" not in part.text
    assert f'href="{package}/files/raw/train"' in part.text
    assert 'aria-expanded="false"' in part.text


@pytest.mark.parametrize("path", ["none", "raw/none", "raw/train/none", "raw%2Ftrain", "raw//train"])
def test_an_unknown_path_leads_to_what_exists(annas_browser: httpx.Client, package: str, path: str) -> None:
    page = annas_browser.get(f"{package}/files/{path}")
    assert page.status_code == 404
    assert 'data-page="error"' in page.text
    parent = {"raw/none": "/raw", "raw/train/none": "/raw/train", "raw//train": "/raw"}.get(path, "")
    assert f'href="{package}/files{parent}"' in page.text


def test_the_shown_version_stays_selected(anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    first = anna.push(name, {"old": {"a": b"1"}})
    anna.push(name, {"new": b"2"})
    page = annas_browser.get(f"/package/anna/{name}/files?hash={first}")
    assert f"/package/anna/{name}/files/old?hash={first}" in page.text
    assert annas_browser.get(f"/package/anna/{name}/files/old").status_code == 404


def test_others_see_no_files(carls_browser: httpx.Client, visitor: httpx.Client, package: str) -> None:
    for path in ("files", "files/raw/train", "files/none", "download/plot"):
        page = carls_browser.get(f"{package}/{path}")
        assert page.status_code == 404
        assert "train.csv" not in page.text
        assert visitor.get(f"{package}/{path}").headers["location"].startswith("/signin?next=")


# ------------------------------------------------------------------------------------------------ large folders


@pytest.fixture(scope="module")
def large(anna: Person) -> str:
    name = new_name()
    tiles = {f"tile_{number}": file(b"one") for number in range(5200)}
    anna.push_tree(name, root({"tiles": group(tiles), "few": group(dict(list(tiles.items())[:450]))}), [b"one"])
    return f"/package/anna/{name}"


def names_in(page: httpx.Response) -> list[str]:
    return re.findall(r">(tile_\d+)<", page.text)


def test_a_large_folder_has_parts(annas_browser: httpx.Client, large: str) -> None:
    page = annas_browser.get(f"{large}/files/few")
    seen = names_in(page)
    assert len(seen) == 200
    assert "Show next 200 of 450" in page.text
    more = annas_browser.get(f"{large}/files/few", params={"cursor": "200"}, headers=HTMX)
    assert "<html" not in more.text
    seen += names_in(more)
    last = annas_browser.get(f"{large}/files/few?cursor=400")
    assert "Show next" not in last.text
    assert seen + names_in(last) == [f"tile_{number}" for number in range(450)]


def test_a_huge_folder_keeps_the_order_of_the_manifest(annas_browser: httpx.Client, large: str) -> None:
    page = annas_browser.get(f"{large}/files/tiles?sort=size")
    assert "Show next 200 of 5\u2009200" in page.text
    assert "sort=" not in page.text
    seen = names_in(page)
    while found := re.search(r'hx-get="([^"]+)"', page.text):
        page = annas_browser.get(found[1], headers=HTMX)
        seen += names_in(page)
    assert seen == sorted(f"tile_{number}" for number in range(5200))


def test_files_are_found_by_a_part_of_their_path(annas_browser: httpx.Client, large: str) -> None:
    page = annas_browser.get(f"{large}/files", params={"find": "TILE_5199"})
    assert "1\u00a0match<" in page.text
    assert "<mark>tile_5199</mark>" in page.text
    assert f"{large}/files/tiles/tile_5199" in page.text
    many = annas_browser.get(f"{large}/files", params={"find": "few/"}).text
    assert many.count("<mark>") == 100
    assert "450\u00a0matches" in many
    nothing = annas_browser.get(f"{large}/files?find=<none>").text
    assert "No path in this version contains \u2018&lt;none&gt;\u2019" in nothing


# ------------------------------------------------------------------------------------------------ files


def test_a_file_has_a_page_with_its_facts(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"{package}/files/raw/train")
    assert 'data-page="file"' in page.text
    assert "<h1>train</h1>" in page.text
    for fact in (
        "csv",
        "8 B",
        "data/train.csv",
        sha(CSV),
        "unit",
        "cm",
        "[&#34;a&#34;, &#34;&lt;i&gt;&#34;]",
        ">1,2\n",
    ):
        assert fact in page.text, fact
    assert f'href="{package}/download/raw/train"' in page.text
    assert page.text.count("<h1") == 1


def test_code_has_numbered_lines(annas_browser: httpx.Client, package: str) -> None:
    text = annas_browser.get(f"{package}/files/raw/script").text
    assert '<a id="L2" href="#L2">2</a>' in text
    assert '<span class="k">def</span>' in text
    assert "&lt;script&gt;alert" in text
    assert "<script>alert" not in text


def test_markdown_is_rendered_with_links_to_files(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"{package}/files/raw/README").text
    assert f'href="{package}/files/raw/train"' in page
    assert f'<img src="{package}/files/plot?view=image"' in page
    assert "# Inside" not in page
    source = annas_browser.get(f"{package}/files/raw/README?view=source").text
    assert "# Inside" in re.sub("<[^>]*>", "", source)
    assert f'href="{package}/files/raw/README">Rendered' in source


def test_commands_are_for_the_part_and_the_version(annas_browser: httpx.Client, package: str) -> None:
    name = package.rpartition("/")[2]
    page = annas_browser.get(f"{package}/files/raw/train?hash={top_hash(TREE)}").text
    assert f"quilt install local:anna/{name}/raw/train -x {top_hash(TREE)}" in page
    assert f"{name}.raw.train()" in page
    assert f'data-text="quilt install local:anna/{name}/raw"' in annas_browser.get(f"{package}/files/raw").text
    odd = annas_browser.get(f"{package}/files/%3Cb%3Ex%20%252F%3F%23").text
    assert f"{name}[&#39;&lt;b&gt;x %2F?#&#39;]()" in odd


def test_raw_text_is_plain(annas_browser: httpx.Client, package: str) -> None:
    raw = annas_browser.get(f"{package}/files/raw/script?view=raw")
    assert raw.content == PYTHON
    assert raw.headers["content-type"] == "text/plain; charset=utf-8"
    assert raw.headers["x-content-type-options"] == "nosniff"
    assert annas_browser.get(f"{package}/files/blob?view=raw").headers["content-type"].startswith("text/html")


def test_pictures_are_drawn_anew(annas_browser: httpx.Client, package: str) -> None:
    page = annas_browser.get(f"{package}/files/plot")
    assert f'src="{package}/files/plot?view=image"' in page.text
    assert "40 \u00d7 30" in page.text
    shown = annas_browser.get(f"{package}/files/plot?view=image")
    assert shown.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(shown.content)).size == (40, 30)
    assert annas_browser.get(f"{package}/files/raw/train?view=image").status_code == 400


def test_other_files_are_offered_for_download(annas_browser: httpx.Client, package: str) -> None:
    blob = annas_browser.get(f"{package}/files/blob").text
    assert "No preview for this kind yet." in blob
    assert "00 01 02" in blob
    assert "This file is empty." in annas_browser.get(f"{package}/files/nothing").text


def test_a_table_of_parts_lists_them(annas_browser: httpx.Client, package: str) -> None:
    text = annas_browser.get(f"{package}/files/parts").text
    assert sha(b"one") in text
    assert f'href="{package}/download/parts?part=2"' in text


# ------------------------------------------------------------------------------------------------ downloads


def test_a_download_has_the_name_of_the_source(annas_browser: httpx.Client, package: str) -> None:
    answer = annas_browser.get(f"{package}/download/raw/train")
    assert answer.status_code == 200
    assert answer.content == CSV
    assert answer.headers["content-disposition"] == "attachment; filename=\"train.csv\"; filename*=UTF-8''train.csv"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "content-encoding" not in answer.headers


def test_a_download_can_be_resumed(annas_browser: httpx.Client, package: str) -> None:
    rest = annas_browser.get(f"{package}/download/raw/train", headers={"Range": "bytes=4-"})
    assert rest.status_code == 206
    assert rest.content == CSV[4:]


def test_parts_are_downloaded_one_by_one(annas_browser: httpx.Client, package: str) -> None:
    assert annas_browser.get(f"{package}/download/parts").headers["location"] == f"{package}/files/parts"
    second = annas_browser.get(f"{package}/download/parts?part=2")
    assert second.content == b"two"
    assert 'filename="parts-2.parquet"' in second.headers["content-disposition"]
    assert annas_browser.get(f"{package}/download/raw").headers["location"] == f"{package}/files/raw"


def test_views_and_downloads_are_recorded(registry: Registry, anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {"g": {"a": b"1"}})
    package = f"/package/anna/{name}"
    for path in ("files", "files/g", "files?find=a"):
        annas_browser.get(f"{package}/{path}")
    annas_browser.get(f"{package}/files/g/a", headers={"Sec-Purpose": "prefetch"})
    annas_browser.get(f"{package}/files/g/a", headers=HTMX)
    assert annas_browser.head(f"{package}/files/g/a").status_code == 200
    assert annas_browser.head(f"{package}/download/g/a").headers["content-length"] == "1"
    assert annas_browser.get(f"{package}/download/g/a", headers={"Sec-Purpose": "prefetch"}).status_code == 204
    assert kinds_of_events(registry, package) == []
    annas_browser.get(f"{package}/files/g/a")
    annas_browser.get(f"{package}/download/g/a")
    assert sorted(kinds_of_events(registry, package)) == [
        ("INSTALL", {"subpath": "g/a", "via": "catalog"}), ("PREVIEW", {"subpath": "g/a"}),
    ]  # fmt: skip


def test_a_lost_object_is_named(registry: Registry, anna: Person, annas_browser: httpx.Client) -> None:
    name = new_name()
    anna.push(name, {"a": b"to be lost"})
    (registry.home / "objects" / "objs" / "anna" / sha(b"to be lost")).unlink()
    page = annas_browser.get(f"/package/anna/{name}/files/a")
    assert page.status_code == 200
    assert "The contents of a are missing from the object store." in page.text
    assert annas_browser.get(f"/package/anna/{name}/download/a").status_code == 503
    anna.push(name, {"a": b"to be lost"})


def test_previews_are_limited(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    registry.make_person("anna").push("many", {f"f{number}": b"%d" % number for number in range(31)})
    with browser(registry) as client:
        sign_in(client, "anna")
        pages = [client.get(f"/package/anna/many/files/f{number}") for number in [*range(31), 0]]
    assert ["Too many previews" in page.text for page in pages] == [False] * 30 + [True, False]
    assert {page.status_code for page in pages} == {200}
