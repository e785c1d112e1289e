"""The released client, quilt 2.9.15, in a Python that it still supports, and a terminal that runs it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.registry import Person, Registry

RELEASE = "quilt==2.9.15"
ENVIRONMENT = Path(os.environ.get("QUILT2_ENV") or Path(__file__).parents[2] / ".cache" / "quilt2")
_NEEDS = "import ensurepip, sys, venv; assert (3, 6) <= sys.version_info[:2] <= (3, 7); print(sys.version_info[1])"


def _interpreters() -> Iterator[str]:
    if given := os.environ.get("QUILT2_PYTHON"):
        yield given
        return
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in ("3.7", "3.6"):
        yield from map(str, sorted(pyenv.glob(f"versions/{version}*/bin/python"), reverse=True))
    for name in ("python3.7", "python3.6"):
        if found := shutil.which(name):
            yield found


def _minor_version(interpreter: str) -> int | None:
    """Return 7 or 6, or None if it is another Python or does not run (a shim for a version that is not selected)."""
    try:
        done = subprocess.run([interpreter, "-c", _NEEDS], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return int(done.stdout) if done.returncode == 0 else None


def environment() -> Path:
    """Return the client's environment, created once. If that fails, skip the test; fail it on CI."""
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    with open(ENVIRONMENT.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ENVIRONMENT / "bin" / "quilt").exists():  # pip installs it last
            _make()
    return ENVIRONMENT


def _make() -> None:
    for interpreter in _interpreters():
        if minor := _minor_version(interpreter):
            break
    else:
        _skip_or_fail("there is no Python 3.7 or 3.6; QUILT2_PYTHON can name one")
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    steps = [[interpreter, "-m", "venv", str(ENVIRONMENT)]]
    if minor == 6:
        steps.append([*pip, "pip==21.3.1"])  # the bundled pip does not know current wheels
    for step in [*steps, [*pip, RELEASE]]:
        done = subprocess.run(step, capture_output=True, text=True, timeout=280)
        if done.returncode:
            _skip_or_fail(f"{' '.join(step)} failed: {done.stderr.strip()[-500:]}")


def _skip_or_fail(reason: str) -> Any:
    if os.environ.get("CI") == "true":
        pytest.fail(f"The released client is needed on CI: {reason}.")
    pytest.skip(f"no released client: {reason}")


class Terminal:
    """A home directory in which a user runs `quilt`."""

    def __init__(self, home: Path, registry: Registry, team: str = "local"):
        self.home, self.registry, self.team = home, registry, team
        self.data = home / "data" / "QuiltCli"
        self.store = self.data / "quilt_packages"
        self.opened = home / "opened"
        self.programs = home / "programs"
        self.data.mkdir(parents=True)
        self._catch_browser()
        self.environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "ignore",
        }

    def _catch_browser(self) -> None:
        """Record the URL that the client opens in a browser, and open no browser."""
        self.programs.mkdir()
        for name in ("xdg-open", "open"):
            script = self.programs / name
            script.write_text(f'#!/bin/sh\nprintf %s "$1" > "{self.opened}"\n')
            script.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(ENVIRONMENT / "bin" / "quilt"), *arguments],
            env=self.environment, cwd=self.home, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def _run(self, *arguments: str, answer: str = "") -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, errors = process.communicate(answer + "\n", timeout=60)
        assert "Traceback" not in out + errors, errors
        return process.returncode, out, errors

    def __call__(self, *arguments: str, answer: str = "") -> str:
        """Run a command that succeeds, answer its questions, and return its output, progress and notes included."""
        status, out, errors = self._run(*arguments, answer=answer)
        assert status == 0, out + errors
        return out + errors

    def refused(self, *arguments: str, answer: str = "") -> str:
        """Run a command that fails, and return its error message."""
        status, _, errors = self._run(*arguments, answer=answer)
        sentence = errors.strip().splitlines()[-1]
        assert status == 1
        assert " " in sentence
        assert "Unexpected failure" not in errors, errors  # the client's text for responses without a message
        return sentence

    def python(self, code: str) -> str:
        """Run Python code that can import `quilt`."""
        done = subprocess.run(
            [str(ENVIRONMENT / "bin" / "python"), "-c", code],
            env=self.environment, cwd=self.home, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def handle(self, package: str) -> str:
        return f"{self.team}:{package}" if self.team else package

    def settings(self, name: str) -> dict[str, Any]:
        """Return the content of the client's `config.json` or `auth.json`."""
        found: dict[str, Any] = json.loads((self.data / f"{name}.json").read_text())
        return found

    def sign_in(self, person: Person) -> None:
        """Configure and log in as users do: type a URL, paste a code."""
        self("config", *filter(None, [self.team]), answer=self.registry.url)
        code = person.get("/api/code").json()["code"]
        self("login", *filter(None, [self.team]), answer=code)

    def another(self, name: str) -> Terminal:
        """Return a terminal of the same user on another computer: signed in, with nothing installed."""
        made = Terminal(self.home.with_name(name), self.registry, self.team)
        for file in ("config.json", "auth.json"):
            shutil.copy(self.data / file, made.data / file)
        return made

    def objects(self) -> dict[str, bytes]:
        """Return all objects in the local store."""
        return {path.name: path.read_bytes() for path in (self.store / "objs").iterdir()}

    def installed(self, package: str) -> str:
        """Return the top hash of the installed package."""
        folder = self.store / "pkgs" / (self.team or "Quilt") / package
        return (folder / "tags" / "latest").read_text()

    def export(self, package: str) -> dict[str, bytes]:
        """Return the files that `quilt export` writes, by path."""
        target = self.home / "exported"
        self("export", package, str(target))
        return files(target)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
