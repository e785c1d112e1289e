"""Build a release: one tar with the registry's wheel, the wheels that it depends on, and the SHA-256 of each.

A host installs it without a package index, after `tar -xf`:

    pip install --no-index --find-links wheels --only-binary=:all: --require-hashes --requirement requirements.txt

Versions and digests come from the lock beside this file (`make lock`), so the same source gives the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
LOCK = Path(__file__).with_name("requirements.txt")
# `embedded` contains pg_dump and pg_restore of the newest PostgreSQL, for databases that need no encryption.
EXTRAS = "server,embedded"
# The instances of deploy/aws: Amazon Linux 2023 on both architectures.
TARGETS = ("3.12-x86_64", "3.12-aarch64")
HERE = "here"  # the target that is the running Python
MAX_GLIBC = 34  # 2.34 is that of Amazon Linux 2023; wheels that need a newer one are not used
TIMESTAMP = 1580601600  # hatchling's own default; all files of the tar have it


class Pin(NamedTuple):
    """A line of the lock: a requirement with its digests, as pip reads it."""

    requirement: Requirement
    digests: str

    def applies_to(self, environment: dict[str, str]) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate(environment)

    def without_marker(self) -> str:
        return f"{self.requirement.name}{self.requirement.specifier} {self.digests}"


def main() -> None:
    options = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        content = Path(folder)
        wheels = content / "wheels"
        own = _build_wheel(wheels)
        for target in options.target or TARGETS:
            _download(target, wheels)
        (content / "requirements.txt").write_text(_requirements(own))
        _, version, *_ = parse_wheel_filename(own.name)
        release = options.out / f"{'-'.join(['quilt-registry', str(version), *(options.target or ())])}.tar"
        options.out.mkdir(parents=True, exist_ok=True)
        _pack(content, release)
    digest = _sha256(release)
    release.with_suffix(".tar.sha256").write_text(f"{digest}  {release.name}\n")
    sys.stdout.write(f"{release}\nSHA-256 {digest}\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build a release: a tar of wheels and their digests.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--target", action="append", metavar="PYTHON-MACHINE",
        help=f"for this Python and machine; repeat it for several (default: {' and '.join(TARGETS)})",
    )  # fmt: skip
    which.add_argument(
        "--here", action="store_const", const=[HERE], dest="target", help="for the Python and the machine that run this"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="directory of the tar (default: dist)")
    return parser.parse_args()


def _build_wheel(wheels: Path) -> Path:
    """Build the registry's own wheel. Build requirements are those of the running Python, so none are fetched."""
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, ROOT)
    [wheel] = wheels.glob("*.whl")
    _store(wheel)
    return wheel


def _store(wheel: Path) -> None:
    """Rewrite a wheel without compression, because the bytes of compressed files depend on the machine's zlib."""
    with zipfile.ZipFile(wheel) as packed:
        entries = [(entry, packed.read(entry)) for entry in packed.infolist()]
    with zipfile.ZipFile(wheel, "w") as stored:
        for entry, data in entries:
            stored.writestr(entry, data, zipfile.ZIP_STORED)


def _download(target: str, wheels: Path) -> None:
    """Download the wheels of the lock for a target such as `3.12-x86_64`, or for the running Python."""
    python, _, machine = target.partition("-")
    environment = default_environment()
    options = []
    if target != HERE:
        environment |= {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
        options += [f"--python-version={python}", f"--platform=manylinux2014_{machine}"]
        options += [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(17, MAX_GLIBC + 1)]
    wanted = [pin for pin in _locked() if pin.applies_to(environment)]
    with _requirements_file(wanted) as file:
        _pip("download", *options, "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", wheels, "-r", file)


@contextlib.contextmanager
def _requirements_file(pins: list[Pin]) -> Iterator[str]:
    """Yield the name of a file with these lines. Without markers, because pip would evaluate them for itself."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(f"{pin.without_marker()}\n" for pin in pins)
        file.flush()
        yield file.name


def _locked() -> Iterator[Pin]:
    for line in LOCK.read_text().replace("\\\n", " ").splitlines():
        requirement, *digests = line.split(" --hash=")
        yield Pin(Requirement(requirement), " ".join(f"--hash={digest.strip()}" for digest in digests))


def _requirements(own: Path) -> str:
    """Return the lock and the registry's wheel. Requiring its extras makes pip check that the lock is complete."""
    name, version, *_ = parse_wheel_filename(own.name)
    return f"{LOCK.read_text()}{name}[{EXTRAS}]=={version} --hash=sha256:{_sha256(own)}\n"


def _pack(content: Path, release: Path) -> None:
    """Write all files in the order of their names, with the same owner, mode and time."""
    new = release.with_suffix(".new")
    with tarfile.open(new, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(path for path in content.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(path.relative_to(content).as_posix())
            entry.size, entry.mtime, entry.mode = path.stat().st_size, TIMESTAMP, 0o644
            with path.open("rb") as file:
                tar.addfile(entry, file)
    new.replace(release)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "SOURCE_DATE_EPOCH": str(TIMESTAMP)})
    if done.returncode:
        sys.exit(f"pip cannot {arguments[0]} what the release needs. The lines above say why. Nothing was written.")


if __name__ == "__main__":
    main()
