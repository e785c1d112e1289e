"""The release that `make release` builds, and the lock of its dependencies."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy import release
from tests.deploy.release import LOCK, ROOT

BUILD_LOCK = LOCK.with_name("build.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEW_LOCK = "Run: make lock"


def locked(file: Path = LOCK) -> dict[str, tuple[Requirement, list[str]]]:
    """Return requirement and digests of each package."""
    lines = file.read_text().replace("\\\n", " ").splitlines()
    found = [
        (Requirement(line.split(" --hash=")[0]), re.findall(r" --hash=sha256:([0-9a-f]{64})\b", line)) for line in lines
    ]
    return {canonicalize_name(requirement.name): (requirement, digests) for requirement, digests in found}


def required() -> Iterator[Requirement]:
    extras = PROJECT["optional-dependencies"]
    yield from map(Requirement, [*PROJECT["dependencies"], *extras["server"], *extras["embedded"]])


@pytest.mark.parametrize("file", [LOCK, BUILD_LOCK], ids=lambda file: file.name)
def test_each_package_of_a_lock_has_one_version_and_digests(file: Path) -> None:
    assert len(locked(file)) > 3
    for requirement, digests in locked(file).values():
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier))
        assert digests


@pytest.mark.parametrize("file", [LOCK, BUILD_LOCK], ids=lambda file: file.name)
def test_a_lock_names_no_index(file: Path) -> None:
    assert re.findall(r"https?:|index-url|find-links", file.read_text()) == []


def test_the_lock_is_that_of_the_project() -> None:
    versions = {name: str(requirement.specifier).removeprefix("==") for name, (requirement, _) in locked().items()}
    for wanted in required():
        name = canonicalize_name(wanted.name)
        assert name in versions, f"{wanted} is not in the lock. {NEW_LOCK}"
        assert versions[name] in wanted.specifier, f"{wanted} is locked as {versions[name]}. {NEW_LOCK}"


def test_the_lock_has_what_its_packages_need() -> None:
    """As far as they are installed here; a build checks all of them."""
    extras = {canonicalize_name(each.name): each.extras for each in required()}
    for name in locked():
        try:
            needs = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            chosen = [{"extra": extra} for extra in {"", *extras.get(name, ())}]
            if need.marker is None or any(need.marker.evaluate(each) for each in chosen):
                assert canonicalize_name(need.name) in locked(), f"{name} needs {need}. {NEW_LOCK}"


# ------------------------------------------------------------------------------------------------ builds


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release.build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture
def unpacked(built: Path, tmp_path: Path) -> Path:
    return release.unpack(built, tmp_path / "unpacked")


def install(unpacked: Path, environment: Path) -> subprocess.CompletedProcess[str]:
    """Install as bootstrap.sh does, without reaching any index."""
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    options = [
        "--no-cache-dir",
        "--no-index",
        "--find-links",
        unpacked / "wheels",
        "--only-binary=:all:",
        "--no-compile",
    ]
    files = ["--require-hashes", "--requirement", unpacked / "requirements.txt"]
    command = [environment / "bin/python", "-m", "pip", "install", "--quiet", *options, *files]
    unreachable = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "PIP_CONFIG_FILE": os.devnull,
    }
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(command, env=clean | unreachable, capture_output=True, text=True, timeout=280)


@pytest.mark.drill
@pytest.mark.slow
@pytest.mark.timeout(900)
class TestBuilds:
    def test_the_same_source_gives_the_same_bytes(self, built: Path, unpacked: Path, tmp_path: Path) -> None:
        """Also elsewhere, for a person with another umask, and at another time."""
        before = os.umask(0o077)
        try:
            source = release.copy_source(tmp_path / "source")
            again = release.build(source, tmp_path / "dist", wheels=unpacked / "wheels")
        finally:
            os.umask(before)
        assert again.name == built.name == f"quilt-registry-{PROJECT['version']}-here.tar"
        assert again.read_bytes() == built.read_bytes()

    def test_the_bytes_do_not_depend_on_a_machines_zlib(self, unpacked: Path) -> None:
        [wheel] = (unpacked / "wheels").glob("quilt_registry-*")
        with zipfile.ZipFile(wheel) as opened:
            assert {entry.compress_type for entry in opened.infolist()} == {zipfile.ZIP_STORED}

    def test_the_digest_is_beside_it(self, built: Path) -> None:
        done = subprocess.run(["sha256sum", "--check", f"{built.name}.sha256"], cwd=built.parent, capture_output=True)
        assert done.returncode == 0

    def test_it_holds_wheels_and_their_digests_only(self, built: Path) -> None:
        with tarfile.open(built) as tar:
            entries = tar.getmembers()
        first, *wheels = [each.name for each in entries]
        assert first == "requirements.txt"
        assert all(re.fullmatch(r"wheels/[^/]+\.whl", name) for name in wheels)
        assert wheels == sorted(wheels)
        assert {(each.isfile(), each.mode, each.uid, each.gid, each.mtime) for each in entries} == {
            (True, 0o644, 0, 0, entries[0].mtime)
        }

    def test_it_installs_without_an_index(self, unpacked: Path, tmp_path: Path) -> None:
        done = install(unpacked, tmp_path / "venv")
        assert done.returncode == 0, done.stderr
        command = tmp_path / "venv/bin/quilt-registry"
        shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
        assert shown.split()[-1] == PROJECT["version"]
        dump = "from quilt_registry.cli.embedded_postgres import programs; print(programs() / 'pg_dump')"
        [program] = subprocess.run(
            [tmp_path / "venv/bin/python", "-c", dump], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert subprocess.run([program, "--version"], capture_output=True, check=True).stdout

    @pytest.mark.parametrize("package", ["quilt_registry", "msgspec"])
    def test_a_changed_wheel_is_refused(self, unpacked: Path, tmp_path: Path, package: str) -> None:
        [wheel] = (unpacked / "wheels").glob(f"{package}-*")
        wheel.write_bytes(wheel.read_bytes() + b" ")
        done = install(unpacked, tmp_path / "venv")
        assert done.returncode == 1
        assert "DO NOT MATCH THE HASHES" in done.stderr
