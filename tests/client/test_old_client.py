"""The released client (quilt 2.9.15) at a terminal, against the registry."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from msgspec import Struct

from tests import trees
from tests.client import old_client
from tests.client.old_client import Terminal
from tests.registry import Person, Registry, new_name

pytestmark = [pytest.mark.drill, pytest.mark.old_client]


@pytest.fixture(scope="module", autouse=True)
def client() -> Path:
    return old_client.environment()


NewTerminal = Callable[..., Terminal]


@pytest.fixture(scope="module")
def new_terminal(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> NewTerminal:
    def make(team: str = "local") -> Terminal:
        return Terminal(tmp_path_factory.mktemp("people") / "home", registry, team)

    return make


@pytest.fixture(scope="module")
def annas(new_terminal: NewTerminal, anna: Person) -> Terminal:
    terminal = new_terminal()
    terminal.sign_in(anna)
    return terminal


@pytest.fixture(scope="module")
def bens(new_terminal: NewTerminal, ben: Person) -> Terminal:
    terminal = new_terminal()
    terminal.sign_in(ben)
    return terminal


@pytest.fixture
def another(annas: Terminal) -> Terminal:
    """A terminal of Anna's on a computer where nothing is installed yet."""
    return annas.another(new_name("home"))


class Example(Struct):
    """A package of Anna's with two pushes. The first has the tag `old` and the version 1.0."""

    name: str
    source: Path
    first: str
    second: str
    first_output: str
    second_output: str

    @property
    def path(self) -> str:
        return f"anna/{self.name}"

    @property
    def handle(self) -> str:
        return f"local:{self.path}"


FILES = {
    "README.md": "# Hello\n\nnaïve\n".encode(),
    "table.csv": b"a,b,c\n1,0.1,x\n2,0.30000000000000004,y\n",
    "empty.bin": b"",
    "sub/blob.bin": bytes(range(256)) * 5000,
    "sub/deeper/note.txt": b"A note.\n",
    "sub/deeper/again.txt": b"A note.\n",
}


def write(folder: Path, contents: dict[str, bytes]) -> Path:
    for name, data in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def build_and_push(terminal: Terminal, handle: str, source: Path, *flags: str) -> str:
    terminal("build", handle, str(source))
    return terminal("push", *flags, handle)


@pytest.fixture(scope="module")
def example(annas: Terminal) -> Example:
    source = write(annas.home / "source", FILES)
    part = source / "sub" / "part.parquet"
    annas.python(f"import pandas; pandas.DataFrame({{'a': range(50)}}).to_parquet({str(part)!r})")
    made = Example(new_name(), source, "", "", "", "")
    made.first_output = build_and_push(annas, made.handle, source)
    made.first = annas.installed(made.path)
    write(source, {"sub/deeper/note.txt": b"Another note.\n"})
    made.second_output = build_and_push(annas, made.handle, source)
    made.second = annas.installed(made.path)
    annas("tag", "add", made.handle, "old", made.first[:6])
    annas("version", "add", made.handle, "1.0", made.first, answer="y")
    return made


# ------------------------------------------------------------------------------------------------ signing in


@pytest.mark.parametrize("team", ["local", ""])
def test_users_configure_and_log_in_with_a_code(
    new_terminal: NewTerminal, registry: Registry, anna: Person, team: str
) -> None:
    terminal = new_terminal(team)
    terminal.sign_in(anna)
    assert terminal.settings("config")["team_registry_url" if team else "registry_url"] == registry.url
    kept = terminal.settings("auth")[registry.url]
    me = httpx.get(registry.url + "/api/me", headers={"Authorization": "Bearer " + kept["access_token"]})
    assert me.json()["current_user"] == "anna"
    assert terminal.opened.read_text() == registry.url + "/login"


def test_a_wrong_code_is_refused(another: Terminal) -> None:
    assert another.refused("login", "local", answer="no such code") == "Authentication error: 401"


def test_a_user_who_is_not_logged_in_is_asked_to(another: Terminal, example: Example) -> None:
    (another.data / "auth.json").unlink()
    sentence = "Authentication failed. Run `quilt login local` again."
    assert another.refused("install", example.handle) == sentence


def test_a_token_about_to_end_is_renewed(
    new_terminal: NewTerminal, registry: Registry, anna: Person, example: Example
) -> None:
    terminal = new_terminal()
    terminal.sign_in(anna)  # with a token of its own, because the old token is about to expire
    kept = terminal.settings("auth")
    token = kept[registry.url]["access_token"]
    kept[registry.url]["expires_at"] = int(time.time()) + 30
    (terminal.data / "auth.json").write_text(json.dumps(kept))
    terminal("tag", "list", example.handle)
    renewed = terminal.settings("auth")[registry.url]
    assert renewed["access_token"] != token
    assert renewed["expires_at"] > time.time() + 24 * 3600


# ------------------------------------------------------------------------------------------------ push and install


def test_a_push_prints_where_the_package_is_live(registry: Registry, example: Example) -> None:
    assert f"Push complete. {example.handle} is live:\n{registry.url}/package/anna/{example.name}" in (
        example.first_output
    )


def test_what_was_pushed_is_installed_byte_for_byte(annas: Terminal, another: Terminal, example: Example) -> None:
    another("install", example.handle)
    assert another.installed(example.path) == example.second
    built, installed = annas.objects(), another.objects()
    assert len(installed) == len(old_client.files(example.source))
    assert installed == {name: built[name] for name in installed}
    assert all(trees.sha(data) == name for name, data in installed.items())


def test_an_export_gives_the_files_back(annas: Terminal, another: Terminal, example: Example) -> None:
    another("install", example.handle)
    exported = another.export(example.handle)
    assert exported == annas.export(example.handle)
    source = old_client.files(example.source)
    assert exported.keys() == source.keys() - {"sub/part.parquet"} | {"sub/part_parquet.csv"}
    same = source.keys() - {"table.csv", "sub/part.parquet"}  # the client writes tables anew, as CSV
    assert {name: exported[name] for name in same} == {name: source[name] for name in same}


def test_the_second_push_uploads_what_changed(example: Example) -> None:
    """The two notes were one object before. Now all files, the Parquet file included, are separate objects."""
    # The registry may know the empty file from another package of Anna's.
    assert example.first_output.count("already uploaded; skipping") <= 1
    assert example.second_output.count("already uploaded; skipping") == len(FILES)


@pytest.mark.parametrize("how", ["tag", "version", "hash", "short hash"])
def test_an_old_state_is_installed_by(another: Terminal, example: Example, how: str) -> None:
    choice = {
        "tag": ["-t", "old"],
        "version": ["-v", "v1.0"],
        "hash": ["-x", example.first],
        "short hash": ["-x", example.first[:8]],
    }
    another("install", example.handle, *choice[how])
    assert another.installed(example.path) == example.first


def test_part_of_a_package_is_installed(another: Terminal, example: Example) -> None:
    another("install", example.handle + "/sub/deeper")
    assert sorted(another.objects().values()) == [b"A note.\n", b"Another note.\n"]


def test_force_replaces_what_is_installed_with_the_latest(another: Terminal, example: Example) -> None:
    another("install", example.handle, "-t", "old")
    another("install", example.handle, answer="n")
    assert another.installed(example.path) == example.first
    output = another("install", "-f", example.handle)
    assert "Downloading 1 fragments" in output
    assert another.installed(example.path) == example.second


@pytest.fixture(scope="module")
def noted(annas: Terminal) -> str:
    """The handle of a package in which one file has metadata."""
    source = write(
        annas.home / "noted",
        {
            "build.yml": b"contents:\n  data:\n    file: data.txt\n    meta: meta.json\n  plain:\n    file: data.txt\n",
            "data.txt": b"Some data.\n",
            "meta.json": b'{"a": {"b": [1, "\\u00fc"]}}',
        },
    )
    handle = f"local:anna/{new_name()}"
    build_and_push(annas, handle, source / "build.yml")
    return handle


def test_metadata_alone_is_installed(another: Terminal, noted: str) -> None:
    another("install", "-m", noted)
    (data,) = another.objects().values()
    assert json.loads(data) == {"a": {"b": [1, "ü"]}}


def test_an_upload_can_be_repeated(annas: Terminal, another: Terminal, registry: Registry, noted: str) -> None:
    output = annas("push", "--reupload", noted)
    assert "skipping" not in output
    assert "Push complete" in output
    another("install", noted)
    assert b"Some data.\n" in another.objects().values()


def test_a_damaged_object_is_repaired_by_pushing_again(
    annas: Terminal, another: Terminal, registry: Registry, tmp_path: Path
) -> None:
    files = {"emptied.txt": b"will be emptied", "lost.txt": b"will be lost", "kept.txt": b"stays"}
    name = new_name()
    build_and_push(annas, f"local:anna/{name}", write(tmp_path / "source", files))
    emptied, lost = (
        registry.objects / "objs" / "anna" / trees.sha(files[f"{each}.txt"]) for each in ("emptied", "lost")
    )
    emptied.write_bytes(b"")
    lost.unlink()
    annas("push", f"local:anna/{name}")
    another("install", f"local:anna/{name}")
    assert another.export(f"local:anna/{name}") == files


def test_without_a_team_users_push_install_and_fetch_what_is_missing(new_terminal: NewTerminal, anna: Person) -> None:
    terminal = new_terminal("")
    terminal.sign_in(anna)
    path = f"anna/{new_name()}"
    source = write(terminal.home / "source", {"a.bin": b"one", "b.bin": b"two"})
    assert f"Push complete. {path} is live" in build_and_push(terminal, path, source)
    elsewhere = terminal.another(new_name("home"))
    elsewhere("install", "-m", path)
    assert elsewhere.objects() == {}
    elsewhere.python(f"import quilt; quilt.install(quilt.load({path!r}))")
    assert sorted(elsewhere.objects().values()) == [b"one", b"two"]


def test_a_push_that_was_cut_off_goes_on_where_it_stopped(annas: Terminal, registry: Registry, anna: Person) -> None:
    name = new_name()
    handle, count = f"local:anna/{name}", 200
    contents = {f"f{i}.bin": f"{name} {i}".encode() * 500 for i in range(count)}
    annas("build", handle, str(write(annas.home / name, contents)))
    wanted = {trees.sha(data) for data in contents.values()}
    folder = registry.objects / "objs" / "anna"

    def there() -> int:
        return len(wanted & {path.name for path in folder.iterdir()})

    process = annas.start("push", handle)
    end = time.monotonic() + 60
    while there() < 20 and time.monotonic() < end and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    before = there()
    assert 20 <= before < count
    assert anna.get(f"/api/log/anna/{name}/").status_code == 404  # nothing of the package was stored

    output = annas("push", handle)
    assert before <= output.count("already uploaded; skipping") < count
    assert len(anna.install("anna", name, annas.installed(f"anna/{name}"))["urls"]) == count


def test_a_part_is_pushed_into_the_package(annas: Terminal, another: Terminal, anna: Person, tmp_path: Path) -> None:
    name = new_name()
    handle = f"local:anna/{name}"
    build_and_push(annas, handle, write(tmp_path / "whole", {"a.bin": b"a", "sub/b.bin": b"b"}))
    part = write(tmp_path / "part", {"c.bin": b"c"})
    annas("build", handle + "/sub", str(part))
    assert "Push complete" in annas("push", handle + "/sub")
    another("install", handle)
    assert sorted(another.objects().values()) == [b"a", b"c"]
    assert len(anna.get(f"/api/log/anna/{name}/").json()["logs"]) == 2


# ------------------------------------------------------------------------------------------------ history


def test_the_log_shows_hashes_authors_tags_and_versions(annas: Terminal, example: Example) -> None:
    title, newest, oldest = [re.split(r"  +", line.strip()) for line in annas("log", example.handle).splitlines()]
    assert title == ["Hash", "Pushed", "Author", "Tags", "Versions"]
    assert [newest[0], *newest[2:]] == [example.second, "anna", "['latest']", "None"]
    assert [oldest[0], *oldest[2:]] == [example.first, "anna", "['old']", "['1.0']"]
    age = datetime.now() - datetime.fromisoformat(newest[1])  # noqa: DTZ005
    assert 0 <= age.total_seconds() < 600


def test_tags_and_versions_are_listed(annas: Terminal, example: Example) -> None:
    assert annas("tag", "list", example.handle) == f"latest: {example.second}\nold: {example.first}\n"
    assert annas("version", "list", example.handle).splitlines() == [f"1.0: {example.first}"]


def test_a_tag_is_added_and_removed(annas: Terminal, anna: Person, example: Example) -> None:
    annas("tag", "add", example.handle, "of the day", example.second)
    tag = f"/api/tag/anna/{example.name}/of the day"
    assert anna.get(tag).json()["hash"] == example.second
    annas("tag", "remove", example.handle, "of the day")
    assert anna.get(tag).status_code == 404


def test_what_is_installed_is_listed_and_inspected(another: Terminal, example: Example) -> None:
    another("install", example.handle)
    assert [example.handle, "latest", example.second] in [line.split() for line in another("ls").splitlines()]
    tree = another("inspect", example.handle)
    assert all(name in tree for name in ("README", "table: shape (2, 3)", "empty", "sub", "deeper", "again"))


# ------------------------------------------------------------------------------------------------ sharing


def test_a_package_is_shared_and_taken_back(annas: Terminal, bens: Terminal, example: Example) -> None:
    hidden = bens.refused("install", example.handle)
    assert hidden == f"Package {example.path} does not exist"
    assert annas("access", "add", example.handle, "ben") == "Access added for ben\n"
    assert annas("access", "list", example.handle).split() == ["anna", "ben"]
    bens("install", example.handle + "/README")
    assert annas("access", "remove", example.handle, "ben") == "Access removed for ben\n"
    assert bens.refused("install", "-f", example.handle) == hidden


def test_a_missing_package_and_a_hidden_one_give_the_same_message(bens: Terminal, example: Example) -> None:
    assert bens.refused("install", "local:anna/nothing") == "Package anna/nothing does not exist"
    assert bens.refused("log", example.handle) == f"Package {example.path} does not exist"


def test_a_package_shared_with_the_team_is_pushed_by_another_member(
    annas: Terminal, bens: Terminal, tmp_path: Path
) -> None:
    name = new_name()
    handle = f"local:anna/{name}"
    source = write(tmp_path / "source", {"a.bin": b"Anna's", "b.bin": b"both"})
    build_and_push(annas, handle, source, "--team")
    bens("install", handle)
    write(source, {"a.bin": b"Ben's now"})
    assert "Push complete" in build_and_push(bens, handle, source)
    annas("install", "-f", handle)
    assert annas.installed(f"anna/{name}") == bens.installed(f"anna/{name}")
    authors = [re.split(r"  +", line)[2] for line in annas("log", handle).splitlines()]
    assert authors == ["Author", "ben", "anna"]


# ------------------------------------------------------------------------------------------------ refusals


@pytest.fixture(scope="module")
def refusals(annas: Terminal, example: Example) -> Callable[..., str]:
    def ask(arguments: str, answer: str = "y") -> str:
        values = arguments.format(handle=example.handle, second=example.second).split()
        return annas.refused(*values, answer=answer)

    return ask


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("install {handle} -t nothing", "Tag 'nothing' does not exist"),
        ("install {handle} -v 7", "Version 7 does not exist"),
        ("install {handle}/sub/nothing", "Invalid subpath: 'nothing'"),
        ("version add {handle} 1.0 {second}", "Version already exists"),
        ("tag remove {handle} nothing", "tag 'nothing' does not exist"),
        ("access add {handle} nobody_here", "User nobody_here does not exist"),
        ("access add {handle} public", "Public access not allowed"),
        ("access remove {handle} anna", "Cannot revoke the owner's access"),
        (
            "push --team {handle}",
            "{handle} is private. To share it with the team, run `quilt access add {handle} team`.",
        ),
    ],
)
def test_what_cannot_be_done_is_explained_in_a_sentence(
    refusals: Callable[..., str], example: Example, arguments: str, sentence: str
) -> None:
    assert sentence.format(handle=example.handle) in refusals(arguments)


def test_users_cannot_push_to_packages_of_others(bens: Terminal, example: Example, tmp_path: Path) -> None:
    handle = f"local:anna/{new_name()}"
    bens("build", handle, str(write(tmp_path / "source", {"a.bin": b"a"})))
    assert bens.refused("push", handle) == "Only the package owner can create packages."


def test_an_unreachable_registry_is_explained_in_a_sentence(another: Terminal, example: Example) -> None:
    kept = another.settings("config")
    (another.data / "config.json").write_text(json.dumps({**kept, "team_registry_url": "http://127.0.0.1:1"}))
    assert another.refused("install", example.handle).startswith("Failed to connect")


def test_a_package_is_deleted_once_its_name_is_typed(annas: Terminal, bens: Terminal, anna: Person) -> None:
    name = new_name()
    anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    handle = f"local:anna/{name}"
    assert bens.refused("delete", handle, answer=handle) == "Only the package owner can delete packages."
    assert "Not deleting." in annas("delete", handle, answer="yes")
    assert anna.get(f"/api/log/anna/{name}/").status_code == 200
    assert "Deleted." in annas("delete", handle, answer=handle)
    assert annas.refused("install", handle) == f"Package anna/{name} does not exist"
