"""`serve`: the registry at work."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import click
import uvicorn

from quilt_registry import schema, settings as settings_module
from quilt_registry.accounts import users
from quilt_registry.cli import server
from quilt_registry.cli.context import CommandError, check_schema, database_url, open_database, run_with_database
from quilt_registry.database import Database
from quilt_registry.monitoring import logs
from quilt_registry.settings import Settings

log = logging.getLogger("quilt_registry")

DRAIN = 60  # seconds that running requests get when the registry stops
KEPT = 150  # seconds that idle connections stay open: proxies keep theirs for up to 120, and must be first to close
FIRST_ADMIN = "admin"


class _Stopped(BaseException):
    """Raised by a signal, so that what was started is stopped in order."""


def _stop(*_: Any) -> NoReturn:
    raise _Stopped


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes that serve.")
@click.option("--migrate", is_flag=True, help="First bring an external database's schema up to date.")
def serve(host: str, port: int, workers: int, migrate: bool) -> None:
    """Serve the registry until Ctrl-C or SIGTERM.

    Without DATABASE_URL it runs a PostgreSQL of its own in QUILT_HOME, and makes an admin on the first start.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    if port != 5000:
        os.environ.setdefault("REGISTRY_URL", f"http://localhost:{port}")
    given = settings_module.load()
    own = given.database_url is None
    logs.set_up(given)
    for_people = own or logs.is_text(given)  # beside lines of JSON, only who runs it on the own machine reads others
    for doubt in settings_module.warnings():
        log.warning("%s", doubt)
    with contextlib.suppress(_Stopped), _listening(host, port) as listener, open_database() as settings:
        if own or migrate:
            schema.migrate(database_url(settings))
        if newer := check_schema(settings):
            log.warning("%s", newer)
        password = run_with_database(settings, _first_admin) if own else None
        announce = (settings, listener.getsockname()[:2], password, for_people)
        threading.Thread(target=_announce, args=announce, daemon=True).start()
        with _counting(settings):
            _serve(settings, listener, workers)
    if for_people:
        click.echo("Stopped.", err=True)
    else:
        log.info("Stopped.")


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that waits for connections before anything else is started, so that a taken port is found first.

    One that systemd hands over counts more than `host` and `port`.
    """
    if inherited := server.inherited_socket():
        with inherited:
            inherited.set_inheritable(True)
            yield inherited
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise CommandError(
                f"Cannot listen on {host}:{port}: {error.strerror}. "
                "Does a registry run there already? If not, choose another --port."
            ) from None
        listener.set_inheritable(True)
        yield listener


async def _first_admin(db: Database) -> str | None:
    """Make an admin where there is none; returns the password, which is shown once."""
    if await users.any_admin(db):
        return None
    password = secrets.token_urlsafe(12)
    await users.create(db, FIRST_ADMIN, f"{FIRST_ADMIN}@localhost", password, is_admin=True)
    return password


@contextlib.contextmanager
def _counting(settings: Settings) -> Iterator[None]:
    """A directory in which the workers count for /metrics, where there is one. See metrics.py."""
    if settings.metrics_token is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="quilt-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


def _announce(settings: Settings, address: tuple[str, int], password: str | None, for_people: bool) -> None:
    """Say that the registry is ready, once it answers where it listens."""
    if address[0] in ("0.0.0.0", "::"):  # noqa: S104
        address = ("localhost", address[1])
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(address, timeout=5) as connection:
            connection.sendall(b"GET /healthcheck HTTP/1.0\r\n\r\n")
            if b" 200 " in connection.recv(100):
                break
        time.sleep(0.1)
    server.notify("READY=1")
    ready = f"Quilt Registry is ready: {settings.registry_url}"
    if not for_people:
        log.info("%s", ready)
        return
    lines = [ready]
    if password:
        lines += [
            "",
            f"  user name  {FIRST_ADMIN}",
            f"  password   {password}",
            "",
            "This password is shown only now. Stop the registry with Ctrl-C.",
        ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def _serve(settings: Settings, listener: socket.socket, workers: int) -> None:
    config = uvicorn.Config(
        "quilt_registry.app:from_environment",
        factory=True,
        workers=workers,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,  # addresses hold signatures of URLs
        server_header=False,
        forwarded_allow_ips=settings.forwarded_allow_ips,
        timeout_keep_alive=KEPT,
        timeout_graceful_shutdown=DRAIN,
        backlog=server.BACKLOG,
    )
    if not server.run(config, listener):
        raise CommandError("The registry could not start; the lines above say why.")
