"""A Debian root directory, built once and kept as a tar. It stands in for a base image and for a bare host."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quilt-registry"


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test because its means are missing; fail it on CI."""
    if os.environ.get("CI"):
        pytest.fail(f"Needed on CI: {reason}.")
    pytest.skip(reason)


def require(*programs: str) -> None:
    """Require root and these programs."""
    if os.geteuid() != 0:
        skip_or_fail("only root can prepare and enter another root")
    if missing := [program for program in programs if not shutil.which(program)]:
        skip_or_fail(f"there is no {' and no '.join(missing)}")


def packed_root(packages: Sequence[str]) -> Path:
    """Return the tar of a minimal Debian with these packages, from the release and mirror of this machine's apt."""
    require("debootstrap", "tar")
    mirror, release = _source()
    wanted = hashlib.sha256(" ".join([release, *sorted(packages)]).encode()).hexdigest()[:12]
    packed = CACHE / f"debian-{release}-{wanted}.tar"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(packed.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not packed.exists():
            _make(packed, packages, release, mirror)
    return packed


def unpack(packed: Path, root: Path) -> Path:
    root.mkdir()
    subprocess.run(["tar", "-C", root, "-xf", packed], check=True)
    return root


def _source() -> tuple[str, str]:
    """Return URL and release of the first package source of apt."""
    form = ["--format", "$(REPO_URI) $(RELEASE) $(ORIGIN)", "Created-By: Packages"]
    done = subprocess.run(["apt-get", "indextargets", *form], capture_output=True, text=True)
    for line in done.stdout.splitlines():
        mirror, release, *origin = line.split()
        if origin == ["Debian"]:
            return mirror, release
    skip_or_fail("apt-get has no Debian source")


def _make(packed: Path, packages: Sequence[str], release: str, mirror: str) -> None:
    root = packed.with_suffix(".new")
    shutil.rmtree(root, ignore_errors=True)
    make = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", release, str(root), mirror]
    done = subprocess.run(make, capture_output=True, text=True)
    if done.returncode:
        skip_or_fail(f"debootstrap fails: {done.stdout[-500:]}")
    shutil.rmtree(root / "var/cache/apt")
    new = packed.with_suffix(".tar.new")
    subprocess.run(["tar", "-C", root, "--numeric-owner", "-cf", new, "."], check=True)
    new.rename(packed)
    shutil.rmtree(root)
