"""Releases as `make release` builds them, of the checkout or of a changed copy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.deploy.debian import skip_or_fail
from tests.deploy.templates import tool

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "deploy/release/requirements.txt"


def copy_source(to: Path, version: str | None = None, **changed: str) -> Path:
    """Copy what a release is built from, as another version, and with some files of the package replaced."""
    for name in ("src", "deploy/systemd", "deploy/release"):
        shutil.copytree(ROOT / name, to / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, to)
    if version:
        project = to / "pyproject.toml"
        text = re.sub(r'^version = ".*"', f'version = "{version}"', project.read_text(), flags=re.MULTILINE)
        project.write_text(text)
    for name, text in changed.items():
        (to / "src/quilt_registry" / f"{name}.py").write_text(text)
    return to


def build(source: Path, to: Path, *options: str, wheels: Path | None = None) -> Path:
    """Build a release for one target, or for the Python that runs the tests. Return its tar.

    With `wheels`, only those are used. Otherwise, pip downloads them, and the test is skipped if it cannot.
    """
    environment = os.environ | ({"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)} if wheels else {})
    command = [tool("python"), source / "deploy/release/build.py", *(options or ("--here",)), "--out", to]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    if done.returncode:
        skip_or_fail(f"the release cannot be built: {done.stderr[-800:]}")
    return Path(done.stdout.splitlines()[0])


def build_version(version: str, to: Path, *options: str, wheels: Path | None = None, **changed: str) -> Path:
    """Build the checkout as another version, with some files of the package replaced."""
    with tempfile.TemporaryDirectory() as folder:
        return build(copy_source(Path(folder), version, **changed), to, *options, wheels=wheels)


def unpack(release: Path, to: Path) -> Path:
    with tarfile.open(release) as tar:
        tar.extractall(to, filter="data")
    return to
