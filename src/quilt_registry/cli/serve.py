"""The command `serve`."""

from __future__ import annotations

import asyncio
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
from ipaddress import ip_address
from typing import Any, NoReturn

import click
import uvicorn

from quilt_registry import schema, settings as settings_module
from quilt_registry.accounts import users
from quilt_registry.cli import embedded_postgres, http_protocol, server
from quilt_registry.cli.context import check_schema, database_url, open_database, run_with_database
from quilt_registry.cli.errors import CommandError
from quilt_registry.database import Database
from quilt_registry.monitoring import logs
from quilt_registry.settings import Settings
from quilt_registry.web.proxies import trusted_proxies

log = logging.getLogger("quilt_registry")

SHUTDOWN_TIMEOUT = 60  # seconds for running requests to finish
# Seconds that idle connections stay open. Proxies keep theirs for up to 120, and must be the first to close them.
KEEP_ALIVE_TIMEOUT = 150
START_TIMEOUT, START_POLL_INTERVAL = 60, 0.1  # seconds
FIRST_ADMIN = "admin"
MAX_PORT = 65_535
ALL_INTERFACES = ("0.0.0.0", "::")  # noqa: S104


class _Stopped(BaseException):
    """Raised by a signal handler, so that everything that was started is stopped in order."""


def _stop(*_: Any) -> NoReturn:
    raise _Stopped


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, MAX_PORT), help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Number of worker processes.")
@click.option("--migrate", is_flag=True, help="Migrate the schema of an external database first.")
@click.option("--samples/--no-samples", default=False, help="On the first start, add two sample packages.")
def serve(host: str, port: int, workers: int, migrate: bool, samples: bool) -> None:
    """Run the registry until Ctrl-C or SIGTERM.

    Without DATABASE_URL it runs its own PostgreSQL in QUILT_HOME. On the first start it creates an admin, and with
    --samples two packages of theirs to look around.
    """
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGINT, _stop)
    http_protocol.raise_descriptor_limit()
    configured = _configure(host, port)
    is_embedded, is_text = configured.database_url is None, logs.is_text(configured)
    if is_embedded:
        with embedded_postgres.locked(configured.quilt_home):
            pass  # because a registry that runs already explains a port in use better
    with contextlib.suppress(_Stopped), _listen(host, port) as listener, open_database(Settings) as settings:
        if is_embedded:
            embedded_postgres.note_user(settings.quilt_home, settings.registry_url)
        if is_embedded or migrate:
            schema.migrate(database_url(settings), log.debug if is_text else log.info)
        if schema_warning := check_schema(settings):
            log.warning("%s", schema_warning)
        password = run_with_database(settings, _create_first_admin) if is_embedded else None
        if password and samples:
            asyncio.run(_add_samples(settings))
        message = _ready_text(settings, password, is_embedded=is_embedded)
        announce = threading.Thread(
            target=_announce, args=(listener.getsockname()[:2], message), kwargs={"is_text": is_text}, daemon=True
        )
        announce.start()
        with _metrics_directory(settings):
            _run_server(settings, listener, workers)
    if is_text:
        click.echo("Stopped.", err=True)
    else:
        log.info("Stopped.")


def _configure(host: str, port: int) -> Settings:
    """Return the settings, and log doubts about them.

    Those that follow from the options are put into the environment, where workers read them.
    """
    is_url_set = bool(os.environ.get("REGISTRY_URL"))
    if not is_url_set:
        os.environ["REGISTRY_URL"] = _local_url(host, port)
    settings = settings_module.load()
    if settings.database_url is None and settings.log_format is None:
        os.environ["LOG_FORMAT"] = "text"  # an embedded registry is read by the person who started it
        settings = settings_module.load()
    logs.set_up(settings)
    for warning in settings_module.warnings():
        log.warning("%s", warning)
    if host in ALL_INTERFACES and not is_url_set:
        log.warning(
            "Other machines can connect, but links and the URLs of files begin with %s. Set REGISTRY_URL to the URL "
            "that they use, such as http://%s:%d.", settings.registry_url, socket.gethostname(), port
        )  # fmt: skip
    return settings


def _local_url(host: str, port: int) -> str:
    """Return the URL of the registry on this machine, or on the network if it listens on one IP of it."""
    try:
        ip = ip_address(host.partition("%")[0])
    except ValueError:
        return f"http://localhost:{port}"
    if str(ip) in ("127.0.0.1", *ALL_INTERFACES) or ip.is_link_local:  # a URL cannot name the link
        return f"http://localhost:{port}"
    return f"http://[{ip}]:{port}" if ip.version == 6 else f"http://{ip}:{port}"


@contextlib.contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Bind a socket before anything else is started, so that a port in use is reported first.

    A socket of systemd takes precedence over `host` and `port`.
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
            other = port + 1 if port < MAX_PORT else port - 1
            raise CommandError(
                f"Cannot listen on {host}:{port}: {error.strerror}. If another registry runs there, stop it. Otherwise "
                f"choose another port: make run ARGS=--port={other}, or quilt-registry serve --port={other}."
            ) from None
        listener.set_inheritable(True)
        yield listener


async def _create_first_admin(db: Database) -> str | None:
    """Create an admin if there is none. Return the password, which is shown once."""
    if await users.has_admin(db):
        return None
    password = secrets.token_urlsafe(12)
    await users.create(db, FIRST_ADMIN, f"{FIRST_ADMIN}@localhost", password, is_admin=True)
    return password


async def _add_samples(settings: Settings) -> None:
    """Push the sample packages of the first admin. A bucket gets none: they are for a registry on a laptop."""
    # Imported here, because only the first start needs the whole service in this process.
    from quilt_registry import app
    from quilt_registry.packages import samples

    async with app.open_registry(settings) as registry:
        owner = await users.find(registry.db, FIRST_ADMIN)
        if owner and registry.store.directory:
            await samples.push_all(registry, owner)


def _ready_text(settings: Settings, password: str | None, *, is_embedded: bool) -> str:
    """Return the start message: URL, first admin, data directory."""
    text = f"Quilt Registry is ready: {settings.registry_url}"
    if not is_embedded:
        return text
    text += "\n\n"
    if password:
        text += f"  username  {FIRST_ADMIN}\n  password  {password}\n"
    text += f"  data      {settings.quilt_home.resolve()}\n\n"
    if password:
        text += "This password is shown only once. "
    return f"{text}Stop the registry with Ctrl-C."


def _announce(bind: tuple[str, int], message: str, *, is_text: bool) -> None:
    """Report that the registry is ready, once it responds."""
    host, port = bind
    _wait_until_it_responds("localhost" if host in ALL_INTERFACES else host, port)
    server.notify("READY=1")
    if is_text:
        click.echo(f"{message}\n")
        sys.stdout.flush()
    else:
        log.info("%s", message)


def _wait_until_it_responds(host: str, port: int) -> None:
    for _ in range(round(START_TIMEOUT / START_POLL_INTERVAL)):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(b"GET /healthcheck HTTP/1.0\r\n\r\n")
            if b" 200 " in connection.recv(100):
                return
        time.sleep(START_POLL_INTERVAL)


@contextlib.contextmanager
def _metrics_directory(settings: Settings) -> Iterator[None]:
    """Create the directory for the workers' metrics, if there are metrics. See monitoring/metrics.py."""
    if settings.metrics_token is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="quilt-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        yield


def _run_server(settings: Settings, listener: socket.socket, workers: int) -> None:
    os.environ[settings_module.WORKERS] = str(workers)
    config = uvicorn.Config(
        "quilt_registry.app:from_environment",
        factory=True,
        workers=workers,
        loop="uvloop",
        http=http_protocol.Protocol,
        log_config=None,
        access_log=False,  # because URLs contain signatures
        server_header=False,
        forwarded_allow_ips=trusted_proxies(settings.forwarded_allow_ips),
        timeout_keep_alive=KEEP_ALIVE_TIMEOUT,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
        backlog=server.BACKLOG,
    )
    if not server.run(config, listener):
        raise CommandError("The registry could not start. The lines above say why.")
