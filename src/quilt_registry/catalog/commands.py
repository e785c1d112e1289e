"""Commands of the client that pages show. If the client changes, only this file does."""

from __future__ import annotations

import keyword
from collections.abc import Sequence

from msgspec import Struct

from quilt_registry.settings import Settings

INSTALL_CLIENT = "pip install quilt==2.9.15"
CONFIGURE = "quilt config {team}"
SIGN_IN = "quilt login {team}"
INSTALL_ALL = "quilt install @quilt.yml"
EXPORT = "quilt export {handle} somewhere"
SHARE = "quilt access add {handle} {grantee}"
BUILD = "quilt build {handle} path/to/folder"
PUSH = "quilt push {handle}"
INSTALL = "quilt install {handle}{option}"
INSTALL_IN_PYTHON = 'import quilt\nquilt.install("{handle}"{argument})'
INSTALL_BY_FILE = "packages:\n  - {handle}{reference}"
IMPORT_FROM_TEAM = "from quilt.team.{team}.{owner} import {name}"
IMPORT = "from quilt.data.{owner} import {name}"

_OPTIONS = {"version": "-v", "tag": "-t", "hash": "-x"}


class Command(Struct, frozen=True):
    """A command, or lines of a file or program that do the same. `prompt` is that of a shell."""

    title: str
    text: str
    prompt: str = ""


class Subject(Struct, frozen=True):
    """What is to be installed: a package, a part of it by node names, and a version ("" for the latest)."""

    owner: str
    name: str
    kind: str = ""
    value: str = ""
    path: tuple[str, ...] = ()


def handle(settings: Settings, owner: str, name: str) -> str:
    """Return the name of a package as the client takes it."""
    return f"{settings.team_id}:{owner}/{name}" if settings.team_id else f"{owner}/{name}"


def install(settings: Settings, subject: Subject) -> list[Command]:
    """Return the ways to install a package: on a command line, in Python, and by the file `quilt.yml`."""
    full = "/".join([handle(settings, subject.owner, subject.name), *subject.path])
    kind, value = subject.kind, subject.value
    return [
        Command("Command line", INSTALL.format(handle=full, option=f" {_OPTIONS[kind]} {value}" if kind else ""), "$ "),
        Command("Python", INSTALL_IN_PYTHON.format(handle=full, argument=f', {kind}="{value}"' if kind else "")),
        Command("quilt.yml", INSTALL_BY_FILE.format(handle=full, reference=f":{kind}:{value}" if kind else "")),
    ]


def use(settings: Settings, owner: str, name: str) -> Command:
    """Return the line that imports an installed package in Python."""
    template = IMPORT_FROM_TEAM if settings.team_id else IMPORT
    return Command("Python", template.format(team=settings.team_id, owner=owner, name=name))


def config(settings: Settings) -> str:
    """Return the command that points the client at this registry. It asks for the URL."""
    return CONFIGURE.format(team=settings.team_id).rstrip()


def login(settings: Settings) -> str:
    """Return the command that signs in."""
    return SIGN_IN.format(team=settings.team_id).rstrip()


def open_node(settings: Settings, owner: str, name: str, path: Sequence[str]) -> Command:
    """Return the lines that open a node of an installed package in Python."""
    node = name + "".join(f".{each}" if _is_attribute(each) else f"[{each!r}]" for each in path)
    return Command("Python", f"{use(settings, owner, name).text}\n{node}()")


def _is_attribute(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def push(settings: Settings, owner: str, name: str) -> str:
    """Return the commands that build and push a package."""
    full = handle(settings, owner, name)
    return "\n".join([BUILD.format(handle=full), PUSH.format(handle=full)])
