"""The released client (quilt 2.9.15) in a team: search, sharing, user management and audit."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.browsers import browser
from tests.client import old_client
from tests.client.old_client import Terminal
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Person, Registry, new_name

pytestmark = [pytest.mark.drill, pytest.mark.old_client]


@pytest.fixture(scope="module", autouse=True)
def client() -> Path:
    return old_client.environment()


@pytest.fixture(scope="module")
def new_terminal(registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Terminal]:
    def make(person: Person, public: Registry | None = None) -> Terminal:
        """Return a terminal. The client takes `public` for the public registry."""
        terminal = Terminal(tmp_path_factory.mktemp("people") / "home", registry, "local")
        if public:
            terminal("config", answer=public.url)
        terminal.sign_in(person)
        return terminal

    return make


@pytest.fixture(scope="module")
def annas(new_terminal: Callable[..., Terminal], anna: Person) -> Terminal:
    return new_terminal(anna)


@pytest.fixture(scope="module")
def adas(new_terminal: Callable[..., Terminal], ada: Person) -> Terminal:
    return new_terminal(ada)


@pytest.fixture(scope="module")
def name(anna: Person, ben: Person) -> str:
    """A package of Anna's with searchable content."""
    name = new_name("estuaries_")
    anna.push(name, {"README": b"Tides and sandbanks", "gauges": {"a": b"1"}})
    return name


def test_search_finds_what_the_user_may_see(
    new_terminal: Callable[..., Terminal], open_registry: Registry, anna: Person, carl: Person, name: str
) -> None:
    """Within the team, and then in the registry that the client takes for the public one."""
    olga = open_registry.make_person(new_name("olga"))
    olga.push("sandbanks", {"a": b"1"}, is_public=True)
    for person, found in ((anna, [f"local:anna/{name}"]), (carl, ["(No results)"])):
        shown = new_terminal(person, public=open_registry)("search", "sandbanks").splitlines()
        assert shown == ["* Packages in team local", *found, "* Packages in public cloud", f"{olga.name}/sandbanks"]


def test_search_in_a_registry_that_is_also_the_public_one(
    new_terminal: Callable[..., Terminal], anna: Person, name: str
) -> None:
    """The client finds its token by the exact URL."""
    terminal = new_terminal(anna)
    terminal.environment["QUILT_PKG_URL"] = anna.registry.url
    shown = terminal("search", "sandbanks").splitlines()
    assert shown == ["* Packages in team local", f"local:anna/{name}", "* Packages in public cloud", f"anna/{name}"]
    terminal.environment["QUILT_PKG_URL"] = anna.registry.url.replace("127.0.0.1", "localhost")
    assert terminal.refused("search", "sandbanks") == "Authentication failed. Run `quilt login` again."


def test_search_in_an_open_registry(open_registry: Registry, tmp_path: Path) -> None:
    olga = open_registry.make_person(new_name("olga"))
    olga.push("lighthouses", {"a": b"1"}, is_public=True)
    olga.push("lighthouses_private", {"a": b"1"})
    terminal = Terminal(tmp_path / "home", open_registry, "")
    terminal("config", answer=open_registry.url)
    assert terminal("search", "lighthouses").splitlines() == [f"{olga.name}/lighthouses"]


def test_a_person_invited_by_email_gets_the_package(
    annas: Terminal, new_terminal: Callable[..., Terminal], registry: Registry, mailbox: Mailbox, name: str
) -> None:
    """From the owner's command through the email and sign-up to the installed data."""
    guest = new_name("guest")
    email = f"{guest}@elsewhere.example"
    annas("access", "add", f"local:anna/{name}", email)
    invitation = mailbox.wait(email, "anna")
    (page, secret) = re.findall(r"^(\S+/signup)\?invitation=(\S+)$", invitation.text, re.MULTILINE)[0]
    with browser(registry) as client:
        form = {"username": guest, "email": email, "password": PASSWORD, "again": PASSWORD, "invitation": secret}
        client.submit(page, form).raise_for_status()
        client.get(f"{registry.url}/activate/{mailbox.wait(email, 'Activate').link('activate')}")
    terminal = new_terminal(registry.sign_in(guest))
    terminal("install", f"local:anna/{name}")
    assert terminal.installed(f"anna/{name}")
    assert guest in annas("access", "list", f"local:anna/{name}")


def test_an_invitation_is_taken_back_by_the_client(annas: Terminal, anna: Person, name: str) -> None:
    annas("access", "add", f"local:anna/{name}", "late@elsewhere.example")
    annas("access", "remove", f"local:anna/{name}", "late@elsewhere.example")
    emails = [row["email"] for row in anna.get(f"/api/invite/anna/{name}/").json()["invitations"]]
    assert "late@elsewhere.example" not in emails


def test_an_admin_manages_users(adas: Terminal, registry: Registry, mailbox: Mailbox) -> None:
    user = new_name("fay")
    email = f"{user}@example.org"
    adas("user", "create", "local", user, email)
    link = mailbox.wait(email, "Welcome").link("reset_password")
    body = {"link": link, "password": PASSWORD}
    httpx.post(registry.url + "/api/change_password", json=body, timeout=30).raise_for_status()

    def row() -> list[str]:
        (line,) = (line for line in adas("user", "list", "local").splitlines() if line.startswith(f"{user} "))
        return line.split()

    assert row() == [user, email, "True", "False"]
    person = registry.sign_in(user)
    adas("user", "disable", "local", user)
    assert person.get("/api/me").status_code == 401
    assert row() == [user, email, "False", "False"]
    adas("user", "enable", "local", user)
    person = registry.sign_in(user)
    adas("user", "reset-password", "local", user)
    assert person.get("/api/me").status_code == 401
    mailbox.wait(email, "password").link("reset_password")


def test_what_an_admin_cannot_do_is_explained(adas: Terminal, annas: Terminal) -> None:
    assert adas.refused("user", "create", "local", "Bo", "x@example.org").startswith("Username is not valid.")
    assert adas.refused("user", "create", "local", "ben", "x@example.org") == "Username already taken."
    assert adas.refused("user", "disable", "local", "ada") == "Can't disable yourself"
    assert adas.refused("user", "disable", "local", "nobody_here") == "User to disable not found"
    assert adas.refused("user", "delete", "local", "ben", "-f") == "This endpoint is not enabled."
    assert "admin" in annas.refused("user", "list", "local")


def test_the_audit_of_a_package_and_of_a_user(adas: Terminal, annas: Terminal, ben: Person, anna: Person) -> None:
    name = new_name("audited")
    top_hash = anna.push(name, {"a": b"1"})
    anna.grant(name, "ben")
    ben.install("anna", name, top_hash)
    shown = [line.split()[-3:] for line in adas("audit", f"anna/{name}").splitlines()]
    package = f"local:anna/{name}"
    assert shown == [["User", "Package", "Type"], ["anna", package, "PUSH"], ["ben", package, "INSTALL"]]
    assert ["ben", package, "INSTALL"] in [line.split()[-3:] for line in adas("audit", "ben").splitlines()]
    assert "admin" in annas.refused("audit", "ben")


def test_admins_lists_from_python(adas: Terminal, anna: Person, name: str) -> None:
    """Calls of the client's Python API that no command prints."""
    found = adas.python(
        "from quilt.tools import command\n"
        "print(sorted(command.list_users_detailed('local')['users']['anna']))\n"
        f"print({name!r} in [p['name'] for p in command.list_packages('anna', 'local')['packages']])"
    ).splitlines()
    assert found == [
        "['deletes', 'installs', 'is_admin', 'last_seen', 'packages', 'previews', 'pushes', 'status']",
        "True",
    ]


def test_a_personal_token_in_the_clients_file(new_terminal: Callable[..., Terminal], anna: Person, name: str) -> None:
    """For machines, which cannot paste codes."""
    terminal = new_terminal(anna)
    made = anna.post("/api/v1/tokens", json={"name": new_name("ci"), "read_only": True}).json()
    path = terminal.data / "auth.json"
    path.write_text(
        path.read_text().replace(terminal.settings("auth")[anna.registry.url]["access_token"], made["token"])
    )
    os.chmod(path, 0o600)
    terminal("install", f"local:anna/{name}")
    assert terminal.refused("tag", "add", f"local:anna/{name}", "x", terminal.installed(f"anna/{name}")) == (
        "This token is read-only. Use a token that can write, or sign in."
    )
