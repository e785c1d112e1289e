"""What lies on a host that runs the registry under systemd: its units, scripts, and the file with its settings."""

from __future__ import annotations

import json
import os
import pwd
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from quilt_registry import settings

HOME = Path("/home/ec2-user")  # as the files in systemd/ have it
SIGNING_KEY = "QUILT_SECRET_KEY"
# systemd wants no others in a path, and sh no quotes around them.
PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._+-]+)+")
FOR_LIBRARIES = {"SSL_CERT_FILE"}

UNITS = (
    "quilt-registry.service",
    "quilt-registry.socket",
    "quilt-registry-backup.service",
    "quilt-registry-backup.timer",
)
SCRIPTS = ("create_admin.sh", "start.sh")


class HostError(Exception):
    """The host cannot be set up so. One sentence that says what is wrong; it never shows a value."""


Owner = tuple[int, int] | None  # user and group; None: whoever runs this


def install(root: Path, home: Path) -> list[Path]:
    """Write units, journald's drop-in, the command and the scripts in the operator's home; returns what was written.

    Nothing outside of `root` is touched. The operator owns what is in the home, if root installs on the running host.
    Raises HostError.
    """
    if not PLAIN_PATH.fullmatch(str(home)) or ".." in home.parts:
        raise HostError(f"The home {str(home)!r} must be an absolute path of letters, digits and . _ + -")
    here = root == Path("/")
    place, system = root / home.relative_to("/"), root / "etc/systemd"
    if here and not place.is_dir():
        raise HostError(f"There is no {place}. Make it, or name another --home.")
    operator = (place.stat().st_uid, place.stat().st_gid) if here and os.geteuid() == 0 else None
    try:
        _make_private(place / "env", operator)
        return [
            *(_put(name, system / "system" / name, home) for name in UNITS),
            _put("journald.conf", system / "journald.conf.d" / "quilt-registry.conf", home),
            _put("quilt-registry.sh", root / "usr/local/bin/quilt-registry", home, 0o755),
            *(_put(name, place / name, home, 0o755, operator) for name in SCRIPTS),
        ]
    except OSError as error:
        raise HostError(f"Cannot write {error.filename}: {error.strerror}. Is this run by root?") from None


def _originals() -> Path:
    """Where the files that come with this release lie: in the package, or in the checkout that it is run from."""
    package = Path(__file__).parents[1]
    return package / "systemd" if (package / "systemd").is_dir() else package.parents[1] / "deploy" / "systemd"


def _put(name: str, target: Path, home: Path, mode: int = 0o644, owner: Owner = None) -> Path:
    """Write one of the files that come with this release, with the operator's home in it."""
    text = (_originals() / name).read_text().replace(str(HOME), str(home))
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, text, mode, owner)
    return target


def _make_private(folder: Path, owner: Owner) -> None:
    """Make a folder that only its owner can open; a link of that name, which may lead anywhere, is refused."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _give(descriptor, 0o700, owner)
    finally:
        os.close(descriptor)


def _give(descriptor: int, mode: int, owner: Owner) -> None:
    os.chmod(descriptor, mode)
    if owner:
        os.chown(descriptor, *owner)


def _write(target: Path, text: str, mode: int, owner: Owner) -> None:
    """Put a file in its place in one step. Until it is whole, only who writes it can read it."""
    descriptor, new = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _give(descriptor, mode, owner)
            os.fsync(descriptor)
        os.rename(new, target)
    except BaseException:
        os.unlink(new)
        raise


def write_settings(target: Path, sources: Iterable[Path], owner: str | None) -> int:
    """Write the file of settings from JSON objects and a bare signing key; returns how many there are.

    Only `owner` (a user's name) can read it. Raises HostError.
    """
    text = env_file(_gathered(sources))
    try:
        _write(target, text, 0o600, _user(owner) if owner else None)
    except OSError as error:
        hint = "; run `quilt-registry host install` first" if isinstance(error, FileNotFoundError) else ""
        raise HostError(f"Cannot write {target}: {error.strerror}{hint}.") from None
    return text.count("\n")


def _user(name: str) -> tuple[int, int]:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise HostError(f"There is no user {name}.") from None
    return user.pw_uid, user.pw_gid


def _gathered(sources: Iterable[Path]) -> dict[str, str]:
    """The variables of all files. One that two of them name may be meant either way, and is refused."""
    found: dict[str, str] = {}
    known = settings.variables() | FOR_LIBRARIES
    for file in sources:
        for name, value in _read(file):
            if name in found:
                raise HostError(f"{name} is given twice, again in {file}.")
            if not isinstance(value, str):
                raise HostError(f'{name} in {file} must be a text in quotes, such as "587".')
            found[name] = value
    if unknown := sorted(found.keys() - known):
        names = ", ".join(name if name.isidentifier() else ascii(name) for name in unknown)
        raise HostError(f"The registry knows no variable {names}. docs/operating.md lists them all.")
    return found


def _read(file: Path) -> list[tuple[str, Any]]:
    """The pairs of a JSON object, or the signing key, which is one word."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise HostError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise HostError(f"{file} is not text in UTF-8.") from None
    if not text.startswith("{"):
        if len(text.split()) != 1:
            raise HostError(f"{file} holds neither a JSON object nor the signing key alone.")
        return [(SIGNING_KEY, text)]
    try:
        return list(json.loads(text, object_pairs_hook=_Pairs))
    except (ValueError, RecursionError):
        raise HostError(f"{file} begins like a JSON object, but is none.") from None


class _Pairs(list[tuple[str, Any]]):
    """An object as it stands there, names that come twice included."""


def env_file(variables: Mapping[str, str]) -> str:
    """The text of an env file that sh and systemd read alike. Raises HostError."""
    lines = []
    for name, value in sorted(variables.items()):
        if any(map(_is_refused, value)):
            raise HostError(f"{name} holds a line break or another character that no setting may hold.")
        escaped = re.sub(r'["\\`$]', r"\\\g<0>", value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def _is_refused(character: str) -> bool:
    """Control characters, halves of pairs, and code points that are no characters: systemd drops lines with these."""
    code = ord(character)
    return unicodedata.category(character) in ("Cc", "Cs") or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
