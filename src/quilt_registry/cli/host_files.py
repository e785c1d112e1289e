"""Files on a host that runs the registry under systemd: units, scripts and the settings file."""

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
from quilt_registry.cli.errors import CommandError

HOME = Path("/home/ec2-user")  # the operator's home directory in the files of deploy/systemd
SIGNING_KEY = "QUILT_SECRET_KEY"
# Paths that systemd accepts and that need no quotes in sh.
PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._+-]+)+")
LIBRARY_VARIABLES = {"SSL_CERT_FILE"}  # read by libraries, not by the settings

UNITS = (
    "quilt-registry.service",
    "quilt-registry.socket",
    "quilt-registry-backup.service",
    "quilt-registry-backup.timer",
)
SCRIPTS = ("create_admin.sh", "start.sh")


class HostError(CommandError):
    """The host cannot be set up. The message never contains the value of a setting."""


Owner = tuple[int, int] | None  # user and group IDs; None: the current user


def install(root: Path, home: Path) -> list[Path]:
    """Write units, journald's drop-in, the command, and scripts in the operator's home directory. Raise HostError.

    Nothing outside of `root` changes. If root installs on the running host, the operator owns the files in the home
    directory. Return the paths that were written.
    """
    if not PLAIN_PATH.fullmatch(str(home)) or ".." in home.parts:
        raise HostError(f"--home {str(home)!r} must be an absolute path of letters, digits and . _ + -")
    is_this_host = root == Path("/")
    target, systemd = root / home.relative_to("/"), root / "etc/systemd"
    if is_this_host and not target.is_dir():
        raise HostError(f"The directory {target} does not exist. Create it, or choose another --home.")
    operator = (target.stat().st_uid, target.stat().st_gid) if is_this_host and os.geteuid() == 0 else None
    try:
        _make_private(target / "env", operator)
        return [
            *(_install_file(name, systemd / "system" / name, home) for name in UNITS),
            _install_file("journald.conf", systemd / "journald.conf.d" / "quilt-registry.conf", home),
            _install_file("quilt-registry.sh", root / "usr/local/bin/quilt-registry", home, 0o755),
            *(_install_file(name, target / name, home, 0o755, operator) for name in SCRIPTS),
        ]
    except OSError as error:
        raise HostError(f"Cannot write {error.filename}: {error.strerror}. Run this command as root.") from None


def _make_private(directory: Path, owner: Owner) -> None:
    """Create a directory that only its owner can open. A symbolic link is an error, because it may lead anywhere."""
    directory.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _set_access(descriptor, 0o700, owner)
    finally:
        os.close(descriptor)


def _install_file(name: str, target: Path, home: Path, mode: int = 0o644, owner: Owner = None) -> Path:
    """Write a file of the release, with the operator's home directory in it."""
    text = (_source_directory() / name).read_text().replace(str(HOME), str(home))
    target.parent.mkdir(parents=True, exist_ok=True)
    _write(target, text, mode, owner)
    return target


def _source_directory() -> Path:
    """Return the directory of the release's files: in the installed package, or in the source checkout."""
    package = Path(__file__).parents[1]
    return package / "systemd" if (package / "systemd").is_dir() else package.parents[1] / "deploy" / "systemd"


def _write(target: Path, text: str, mode: int, owner: Owner) -> None:
    """Replace a file atomically. Until it is complete, only the current user can read it."""
    descriptor, new = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _set_access(descriptor, mode, owner)
            os.fsync(descriptor)
        os.rename(new, target)
    except BaseException:
        os.unlink(new)
        raise


def _set_access(descriptor: int, mode: int, owner: Owner) -> None:
    os.chmod(descriptor, mode)
    if owner:
        os.chown(descriptor, *owner)


def write_settings(target: Path, sources: Iterable[Path], owner: str | None) -> int:
    """Write the settings file from JSON objects and a bare signing key. Return the number of settings.

    Only `owner` (a username) can read it. Raise HostError.
    """
    text = env_file(_collect(sources))
    try:
        _write(target, text, 0o600, _find_user(owner) if owner else None)
    except OSError as error:
        hint = "; run `quilt-registry host install` first" if isinstance(error, FileNotFoundError) else ""
        raise HostError(f"Cannot write {target}: {error.strerror}{hint}.") from None
    return text.count("\n")


def _find_user(name: str) -> tuple[int, int]:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise HostError(f"The user {name} does not exist.") from None
    return user.pw_uid, user.pw_gid


def _collect(sources: Iterable[Path]) -> dict[str, str]:
    """Return the variables of all files. A duplicate is an error, because either value may be the right one."""
    variables: dict[str, str] = {}
    known = settings.variables() | LIBRARY_VARIABLES
    for file in sources:
        for name, value in _read(file):
            if name in variables:
                raise HostError(f"{name} is set twice, the second time in {file}.")
            if not isinstance(value, str):
                raise HostError(f'{name} in {file} must be a string in quotes, such as "587".')
            variables[name] = value
    if unknown := sorted(variables.keys() - known):
        names = ", ".join(name if name.isidentifier() else ascii(name) for name in unknown)
        raise HostError(f"Unknown variables: {names}. docs/operating.md lists all variables.")
    return variables


def _read(file: Path) -> list[tuple[str, Any]]:
    """Return the pairs of a JSON object, or the signing key, which is a single word."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise HostError(f"Cannot read {file}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise HostError(f"{file} is not UTF-8 text.") from None
    if not text.startswith("{"):
        if len(text.split()) != 1:
            raise HostError(f"{file} contains neither a JSON object nor the signing key alone.")
        return [(SIGNING_KEY, text)]
    try:
        return list(json.loads(text, object_pairs_hook=_Pairs))
    except (ValueError, RecursionError):
        raise HostError(f"{file} is not a valid JSON object.") from None


class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object, including duplicate names."""


def env_file(variables: Mapping[str, str]) -> str:
    """Return the text of an env file that sh and systemd read alike. Raise HostError."""
    lines = []
    for name, value in sorted(variables.items()):
        if any(map(_is_forbidden, value)):
            raise HostError(f"{name} contains a line break or another character that settings may not contain.")
        escaped = re.sub(r'["\\`$]', r"\\\g<0>", value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def _is_forbidden(character: str) -> bool:
    """Return whether systemd drops lines with it: control characters, surrogates and noncharacters."""
    code = ord(character)
    return unicodedata.category(character) in ("Cc", "Cs") or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
