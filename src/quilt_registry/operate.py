"""The command `quilt-registry`: what operators run. Each command calls what the web calls."""

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
from collections.abc import Callable, Coroutine, Iterator, Mapping
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import click
import msgspec
import uvicorn

from quilt_registry import (
    __version__,
    backup,
    database,
    embedded,
    host,
    logs,
    mail,
    serving,
    settings as settings_module,
)
from quilt_registry.accounts import users
from quilt_registry.database import Database
from quilt_registry.embedded import EmbeddedError
from quilt_registry.errors import Refusal
from quilt_registry.host import HostError
from quilt_registry.mail import Post
from quilt_registry.objects import Objects
from quilt_registry.packages import stocktaking
from quilt_registry.settings import Settings, SettingsError

log = logging.getLogger("quilt_registry")
T = TypeVar("T")

DRAIN = 60  # seconds that running requests get when the registry stops
FIRST_ADMIN = "admin"
CLOCKS_APART = 60  # seconds that are worth a warning
BEHIND, AHEAD, NOT_WHOLE = 3, 4, 5  # exit statuses
NEWER = (
    "It is of a newer release. The release right before that one runs on it, an older one does not: go on with the "
    "upgrade, or install the newer release."
)

FILE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
A_DAY = 86_400_000  # milliseconds


class Stop(Exception):
    """The command cannot go on. Shown as it is, without a traceback; exit status 1."""


def main() -> None:
    """Entry point of the `quilt-registry` command."""
    try:
        cli(standalone_mode=False, prog_name="quilt-registry")
    except (Stop, SettingsError, EmbeddedError, HostError, Refusal) as error:
        _fail(str(error))
    except click.exceptions.Abort:
        _fail("Stopped.")
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)


def _fail(message: str) -> NoReturn:
    click.echo(f"quilt-registry: {message}", err=True)
    sys.exit(1)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="quilt-registry")
def cli() -> None:
    """A private registry for data packages."""


# ------------------------------------------------------------------------------------------------ the parts


@contextlib.contextmanager
def _database(join: bool = False) -> Iterator[Settings]:
    """The settings with a database that runs: the external one, or the embedded one for the length of the block.

    `join`: where a registry runs already with the embedded one, use it beside that.
    """
    settings = settings_module.load()
    if settings.database_url:
        yield settings
        return
    try:
        if join and embedded.in_use(settings.quilt_home):
            yield _embedded(settings, embedded.address(settings.quilt_home))
        else:
            with embedded.locked(settings.quilt_home), embedded.running(settings.quilt_home) as url:
                yield _embedded(settings, url)
    finally:
        os.environ.pop("DATABASE_URL", None)  # its address is good for the block only


def _embedded(settings: Settings, url: str) -> Settings:
    """The settings of the embedded set-up, put into the environment, where workers read them."""
    os.environ["DATABASE_URL"] = url
    if not settings.quilt_secret_key:
        os.environ["QUILT_SECRET_KEY"] = _secret(settings.quilt_home / "secret")
    return settings_module.load()


def _secret(path: Path) -> str:
    """The key that signs, made once, in a file that only its owner can read."""
    with contextlib.suppress(FileNotFoundError):
        if text := path.read_text().strip():
            return text
    text = secrets.token_urlsafe(32)
    new = path.with_suffix(".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)
    return text


def _url(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url.get_secret_value()


def _run(settings: Settings, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
    """Do something with the database, outside of a server."""

    async def run() -> T:
        db = Database(_url(settings), 2, slow_ms=A_DAY)  # a command's statements may take their time
        await db.open()
        try:
            return await work(db)
        finally:
            await db.close()

    return asyncio.run(run())


# ------------------------------------------------------------------------------------------------ serve


class _Stopped(BaseException):
    """Raised by a signal, so that what was started is stopped in order."""


def _stop(*_: Any) -> NoReturn:
    raise _Stopped


@cli.command()
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
    for doubt in settings_module.doubts():
        log.warning("%s", doubt)
    with contextlib.suppress(_Stopped), _listening(host, port) as listener, _database() as settings:
        if own or migrate:
            database.migrate(_url(settings))
        if newer := _check_schema(settings):
            log.warning("%s", newer)
        password = _run(settings, _first_admin) if own else None
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
    if inherited := serving.inherited_socket():
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
            raise Stop(
                f"Cannot listen on {host}:{port}: {error.strerror}. "
                "Does a registry run there already? If not, choose another --port."
            ) from None
        listener.set_inheritable(True)
        yield listener


def _check_schema(settings: Settings) -> str | None:
    """What is to be said of a schema that this release runs on, if anything is. Raises Stop if it does not."""
    found = asyncio.run(database.revision(_url(settings)))
    if database.is_behind(found):
        raise Stop(f"{database.standing(found)} Run `quilt-registry migrate`, or start with --migrate.")
    return f"{database.standing(found)} {NEWER}" if database.is_ahead(found) else None


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
    serving.notify("READY=1")
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
        timeout_graceful_shutdown=DRAIN,
        backlog=serving.BACKLOG,
    )
    if not serving.run(config, listener):
        raise Stop("The registry could not start; the lines above say why.")


# ------------------------------------------------------------------------------------------------ the rest


@cli.command()
@click.option(
    "--check", "only_look", is_flag=True, help="Change nothing. Exit status 0: up to date, 3: behind, 4: ahead."
)
def migrate(only_look: bool) -> None:
    """Bring the database's schema to this release's. Two at once are safe."""
    with _database(join=True) as settings:
        if only_look:
            sys.exit(_compare_schemas(settings))
        database.migrate(_url(settings), click.echo)
        click.echo(_check_schema(settings) or f"The database has the schema {database.head()}.")


def _compare_schemas(settings: Settings) -> int:
    found = asyncio.run(database.revision(_url(settings)))
    click.echo(database.standing(found))
    if database.is_behind(found):
        return BEHIND
    return AHEAD if database.is_ahead(found) else 0


@cli.command("create-admin")
@click.option("--username", prompt="User name", help="Lower-case letters, digits and _.")
@click.option("--email", prompt="E-mail", help="Where letters to this admin go.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of asking.")
def create_admin(username: str, email: str, password_stdin: bool) -> None:
    """Make an admin. Asks for what is missing."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    with _database(join=True) as settings:
        _check_schema(settings)
        _run(settings, lambda db: users.create(db, username, email, password, is_admin=True))
    click.echo(f"Made the admin {username}.")


class _Doubt(Exception):
    """A part works, but perhaps not as it is meant to. Says what to do."""


class Finding(msgspec.Struct, frozen=True):
    """What `check` has to say of a part; `state` is ok, warning or failed."""

    part: str
    state: str
    says: str


@cli.command()
@click.option("--wait", default=0, type=click.IntRange(0), help="Look again for so many seconds, until all works.")
@click.option("--json", "as_json", is_flag=True, help="Print a list of part, state and what there is to say as JSON.")
def check(wait: int, as_json: bool) -> None:
    """Say of each part whether it works, and what to do if not. Exit status 1 if one does not."""
    end = time.monotonic() + wait
    while not _all_works(findings := _findings()) and time.monotonic() < end:
        time.sleep(1)
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        for each in findings:
            click.echo(f"{each.part:9} {each.state}: " + each.says.replace("\n", "\n" + " " * 10))
    sys.exit(1 if any(each.state == "failed" for each in findings) else 0)


def _all_works(findings: list[Finding]) -> bool:
    """Whether there is nothing to wait for: only a registry that does not answer yet is a warning that passes."""
    return all(each.state == "ok" or (each.state == "warning" and each.part != "registry") for each in findings)


def _findings() -> list[Finding]:
    try:
        settings, doubts = settings_module.load(), settings_module.doubts()
    except SettingsError as error:
        return [Finding("settings", "failed", str(error))]
    mode = f"team {settings.team_id}" if settings.team_id else "open mode"
    name = f", deployment {settings.deployment_id}" if settings.deployment_id else ""
    findings = [Finding("settings", "ok", f"{settings.registry_url}, {mode}{name}")]
    findings += [Finding("settings", "warning", doubt) for doubt in doubts]
    parts = {"database": _check_database, "store": _check_store, "mail": _check_mail, "letters": _check_letters}
    if settings.package_bucket_name:
        parts["cors"] = _check_cors
    parts["registry"] = _check_registry
    return findings + [_finding(part, work) for part, work in parts.items()]


def _finding(part: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding(part, "ok", work())
    except _Doubt as doubt:
        return Finding(part, "warning", str(doubt))
    except (Stop, EmbeddedError, Refusal, OSError) as error:
        return Finding(part, "failed", str(error))


def _check_database() -> str:
    with _database(join=True) as settings:
        newer = _check_schema(settings)
        version = _run(settings, lambda db: db.fetchval("SHOW server_version"))
        its_time = _run(settings, lambda db: db.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))
    ahead = time.time() - its_time
    if abs(ahead) > CLOCKS_APART:
        where = "ahead of" if ahead > 0 else "behind"
        raise _Doubt(
            f"This host's clock is {abs(ahead):.0f} seconds {where} the database's. Signed URLs and sign-ins need the "
            "right time: let NTP set both clocks."
        )
    if newer:
        raise _Doubt(newer)
    return f"PostgreSQL {version}, schema {database.head()}"


def _check_store() -> str:
    settings = settings_module.load()
    store = Objects(settings)
    try:
        asyncio.run(_try_store(store))
    except Refusal as error:
        raise Stop(
            f"{error} Check PACKAGE_BUCKET_NAME, S3_ENDPOINT, AWS_REGION and the keys."
            if settings.package_bucket_name
            else f"{error} Check the rights and the room of {settings.objects_directory}."
        ) from None
    if not settings.package_bucket_name:
        return str(settings.objects_directory)
    key = f"check/{secrets.token_hex(8)}"
    try:
        _try_signed_urls(store, key)
    finally:
        asyncio.run(store.remove([key]))
    return f"bucket {settings.package_bucket_name}"


async def _try_store(store: Objects) -> None:
    await store.try_out()
    await store.probe()


def _try_signed_urls(store: Objects, key: str) -> None:
    """Upload and download as clients do, under the address that they are given."""
    _, [put] = store.signer.upload_urls([key], [key])
    try:
        _ask(put, "PUT", body=b"check")
        same = _ask(store.signer.urls([key])[0]).read() == b"check"
    except HTTPError as error:
        raise Stop(
            f"The store refuses a signed URL with status {error.code}. "
            "Check S3_ENDPOINT, AWS_REGION, the keys and this host's clock."
        ) from None
    except (OSError, HTTPException) as error:
        raise _Doubt(
            f"The store cannot be reached where S3_ENDPOINT leads clients, at least from here: {error}"
        ) from None
    if not same:
        raise Stop(
            "What was uploaded with a signed URL was not there afterwards. Check S3_ENDPOINT and the bucket's name."
        )


def _check_mail() -> str:
    settings = settings_module.load()
    try:
        return asyncio.run(Post(settings).try_out())
    except Refusal as error:
        raise Stop(f"{error} Check the SMTP_… settings.") from None


def _check_letters() -> str:
    """Letters on their way; those that cannot be delivered are no failure, but somebody waits for them."""
    with _database(join=True) as settings:
        _check_schema(settings)
        waiting, undeliverable = _run(settings, mail.outbox)
    return "\n".join([f"{waiting} on the way, {len(undeliverable)} could not be delivered", *undeliverable])


def _check_cors() -> str:
    """What a browser asks the store before a page may use a signed URL."""
    settings = settings_module.load()
    origin, address = settings.catalog_url, Objects(settings).signer.urls(["check/cors"])[0].partition("?")[0]
    try:
        refused = [method for method in ("GET", "PUT") if not _allows(address, origin, method)]
    except (OSError, HTTPException) as error:
        raise _Doubt(f"The bucket cannot be asked what pages may do: {error}") from None
    if refused:
        raise _Doubt(
            f"The bucket does not allow {' and '.join(refused)} to pages of {origin}. Give it a CORS rule with that "
            "origin, the methods GET, HEAD and PUT, and all headers."
        )
    return f"pages of {origin} may use the bucket"


def _allows(address: str, origin: str, method: str) -> bool:
    try:
        answer = _ask(address, "OPTIONS", {"Origin": origin, "Access-Control-Request-Method": method}).headers
    except HTTPError:
        return False
    methods = [each.strip() for each in answer.get("Access-Control-Allow-Methods", "").split(",")]
    return answer.get("Access-Control-Allow-Origin") in ("*", origin) and method in methods


def _check_registry() -> str:
    """The registry on this host, or else wherever its public address leads."""
    settings = settings_module.load()
    reasons = []
    for address in (f"http://127.0.0.1:{urlsplit(settings.registry_url).port or 5000}", settings.registry_url):
        try:
            if _ask(address + "/healthcheck").read(3) == b"ok":
                return f"{address} answers"
            reasons.append(f"at {address} something else answers")
        except (OSError, HTTPException) as error:
            reasons.append(f"{address}: {error}")
    raise _Doubt(f"It does not answer ({'; '.join(reasons)}). Start it, or look into its log.")


def _ask(
    address: str, method: str = "GET", headers: Mapping[str, str] = MappingProxyType({}), body: bytes | None = None
) -> HTTPResponse:
    request = Request(address, body, dict(headers), method=method)  # noqa: S310
    own = urlsplit(address).hostname in ("127.0.0.1", "localhost")  # no proxy leads there
    answer: HTTPResponse = build_opener(*[ProxyHandler({})] * own).open(request, timeout=5)
    return answer


# ------------------------------------------------------------------------------------------------ the host


@cli.group("host")
def on_host() -> None:
    """Set up a host that runs the registry under systemd."""


@on_host.command("install")
@click.option(
    "--root", type=DIRECTORY, default=Path("/"), help="Write below this directory, and nothing outside of it."
)
@click.option("--home", type=DIRECTORY, default=host.HOME, show_default=True, help="Home of the operator.")
def install_on_host(root: Path, home: Path) -> None:
    """Write the units, the scripts and the command of this release. Repeating it is safe."""
    for path in host.install(root, home):
        click.echo(f"Wrote {path}")


@on_host.command("env")
@click.option("--out", type=FILE, required=True, help="The file to write.")
@click.option("--owner", help="Who may read it: a user's name. Without it, whoever runs this.")
@click.argument("files", type=FILE, nargs=-1, required=True)
def write_env(out: Path, owner: str | None, files: tuple[Path, ...]) -> None:
    """Write the settings from FILES: JSON objects of variables, or the signing key alone."""
    click.echo(f"Wrote {host.write_settings(out, files, owner)} settings to {out}.")


# ------------------------------------------------------------------------------------------------ backups


def _stop_like_ctrl_c() -> None:
    """Let SIGTERM end a command as Ctrl-C does: what it left half-made is removed, what it started is ended."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells switch off in what they run with &
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


@cli.command("backup")
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="Then bring the objects of a directory store up to date here.")
@click.option("--overwrite", is_flag=True, help="Replace a backup of that name.")
def make_backup(file: Path, objects: Path | None, overwrite: bool) -> None:
    """Write the database to FILE, and what it holds to FILE.json. The registry may be in use."""
    _stop_like_ctrl_c()
    _check_directory_store(settings_module.load(), objects)
    with backup.writing(file, overwrite) as new, _database(join=True) as settings:
        header = _run(settings, lambda db: backup.dump(db, new))
        brought = backup.copy_objects(settings.objects_directory, objects) if objects else 0
        backup.keep(file, new, header)
    click.echo(f"Wrote {file} ({header.bytes:,} bytes): {_contents(header)}.")
    if doubt := backup.doubt(header):
        click.echo(f"Warning: {doubt}", err=True)
    if objects:
        click.echo(f"Brought {brought:,} new objects to {objects}.")


@cli.command()
@click.argument("file", type=FILE)
@click.option("--objects", type=DIRECTORY, help="First bring the objects from here to the directory store.")
@click.option("--into-empty-schema", is_flag=True, help="Replace the tables of a registry in which there is nothing.")
def restore(file: Path, objects: Path | None, into_empty_schema: bool) -> None:
    """Fill an empty database from a backup, and bring it to this release's schema. No registry may run on it."""
    _stop_like_ctrl_c()
    header = backup.read(file)
    _check_directory_store(settings_module.load(), objects)
    if objects and not (objects / "objs").is_dir():
        raise Stop(f"There are no objects in {objects}: it has no folder objs.")
    with _database() as settings:
        _run(settings, lambda db: backup.prepare(db, header, into_empty_schema))
        brought = backup.copy_objects(objects, settings.objects_directory) if objects else 0
        _run(settings, lambda db: backup.restore(db, file, header))
        database.migrate(_url(settings))
        keys = _run(settings, backup.finish)
    click.echo(f"Restored {file} of {header.made_at}: {_contents(header)}. {keys} foreign keys hold.")
    if header.revision != database.head():
        click.echo(f"The schema was brought to {database.head()}.")
    if objects:
        click.echo(f"Brought {brought:,} new objects from {objects}.")


def _check_directory_store(settings: Settings, objects: Path | None) -> None:
    if objects and settings.package_bucket_name:
        raise Stop(
            "--objects is for a store in a directory, but the objects of this registry are in the bucket "
            f"{settings.package_bucket_name}. Copy it with the store's own tools, after a backup or before a restore."
        )


def _contents(header: backup.Header) -> str:
    counts = ((header.tables.get(table, 0), name) for table, name in backup.COUNTED.items())
    return f"schema {header.revision}, " + ", ".join(f"{count:,} {name}" for count, name in counts)


@cli.command("verify-objects")
@click.option("--owner", help="Only the objects of this user.")
@click.option("--sample", type=click.IntRange(1), help="Only so many objects, taken at random.")
@click.option("--deep", is_flag=True, help="Read each object and compare its SHA-256, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify_objects(owner: str | None, sample: int | None, deep: bool, as_json: bool) -> None:
    """Hold every object that packages name against the store. Exit status 5 if one is missing or damaged."""
    with _database(join=True) as settings:
        _check_schema(settings)
        store, lifetime = Objects(settings), settings.package_url_expiration
        stock = _run(settings, lambda db: stocktaking.take(db, store, lifetime, owner, sample, deep))
    click.echo(msgspec.json.encode(stock) if as_json else "\n".join(stocktaking.lines(stock)))
    sys.exit(0 if stock.is_whole else NOT_WHOLE)
