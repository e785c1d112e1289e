"""The command `check`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from types import MappingProxyType
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import click
import msgspec

from quilt_registry import schema, settings as settings_module
from quilt_registry.cli import dump, statement_logging
from quilt_registry.cli.context import check_schema, open_database, run_with_database
from quilt_registry.cli.errors import CommandError
from quilt_registry.database import Database
from quilt_registry.errors import Refusal
from quilt_registry.mail import outbox
from quilt_registry.mail.outbox import SmtpTransport
from quilt_registry.settings import Settings, SettingsError
from quilt_registry.storage.objects import ObjectStore

MAX_CLOCK_SKEW = 60  # seconds
MAX_CONNECTION_SHARE = 0.8  # of the connections that the database allows
REQUEST_TIMEOUT = 5  # seconds
RETRY_INTERVAL = 1  # seconds, with --wait


class Finding(msgspec.Struct, frozen=True):
    """The state of a part (ok, warning or failed), and a text about it. The JSON output has these fields."""

    part: str
    state: str
    says: str


class _PartWarning(Exception):
    """A part works, but perhaps not as intended. The message says what to do."""


@click.command()
@click.option(
    "--wait", default=0, type=click.IntRange(0), help="Retry for up to this many seconds until all parts work."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list of part, state and text.")
def check(wait: int, as_json: bool) -> None:
    """Check each part, and say what to do if it does not work. Exit status 1 if a part fails."""
    end = time.monotonic() + wait
    while not _all_work(findings := _findings()) and time.monotonic() < end:
        time.sleep(RETRY_INTERVAL)
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        for each in findings:
            click.echo(f"{each.part:9} {each.state}: " + each.says.replace("\n", "\n" + " " * 10))
    sys.exit(1 if any(each.state == "failed" for each in findings) else 0)


def _all_work(findings: list[Finding]) -> bool:
    """Return whether waiting is pointless. A registry that does not respond yet is the only warning that passes."""
    return all(each.state == "ok" or (each.state == "warning" and each.part != "registry") for each in findings)


def _findings() -> list[Finding]:
    try:
        settings, warnings = settings_module.load(), settings_module.warnings()
    except SettingsError as error:
        return [Finding("settings", "failed", str(error))]
    mode = f"team {settings.team_id}" if settings.team_id else "open mode"
    deployment = f", deployment {settings.deployment_id}" if settings.deployment_id else ""
    findings = [Finding("settings", "ok", f"{settings.registry_url}, {mode}{deployment}")]
    findings += [Finding("settings", "warning", warning) for warning in warnings]
    findings += [Finding("privacy", "warning", warning) for warning in _privacy_warnings(settings)]
    parts = {"database": _check_database, "contents": _check_contents, "store": _check_store}
    parts |= {"mail": _check_mail, "outbox": _check_outbox}
    if settings.package_bucket_name:
        parts["cors"] = _check_cors
    parts["registry"] = _check_registry
    return findings + [_finding(part, check_part) for part, check_part in parts.items()]


def _privacy_warnings(settings: Settings) -> Iterator[str]:
    """Yield a sentence about each directory of the data that others can read. PostgreSQL's user may traverse them."""
    directories = [] if settings.database_url else [settings.quilt_home]
    directories += [] if settings.package_bucket_name else [settings.objects_directory]
    for directory in directories:
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(directory.stat().st_mode)
            if mode & ~(stat.S_IRWXU | stat.S_IXGRP):
                yield (
                    f"Other users of this host can open {directory} (mode {mode:o}), which holds private data. Run: "
                    f"chmod 700 {shlex.quote(str(directory.absolute()))}"
                )


def _finding(part: str, check_part: Callable[[], str]) -> Finding:
    try:
        return Finding(part, "ok", check_part())
    except _PartWarning as warning:
        return Finding(part, "warning", str(warning))
    except (CommandError, Refusal, OSError) as error:
        return Finding(part, "failed", str(error))


class _Server(msgspec.Struct):
    """The state of a database server. `time` is in seconds, `tls` the TLS version in use, `logging` its settings."""

    version: str
    time: float
    tls: str | None
    used: int
    limit: int
    logging: dict[str, str]


def _check_database() -> str:
    with open_database(Settings, join=True) as settings:
        schema_warning = check_schema(settings)
        server = run_with_database(settings, _query_server)
    warnings = [*([schema_warning] if schema_warning else []), *_server_warnings(server)]
    if warnings:
        raise _PartWarning("\n".join(warnings))
    return f"PostgreSQL {server.version}, schema {schema.head()}, {server.tls or 'not encrypted'}"


async def _query_server(db: Database) -> _Server:
    row = await db.fetchrow(
        """
        SELECT current_setting('server_version') AS version,
               extract(epoch FROM clock_timestamp())::float8 AS time,
               (SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls,
               (SELECT sum(numbackends)::int FROM pg_stat_database) AS used,
               current_setting('max_connections')::int AS "limit"
        """
    )
    assert row is not None
    return _Server(**row, logging=await statement_logging.query(db))


def _server_warnings(server: _Server) -> Iterator[str]:
    if warning := _clock_warning("database", server.time):
        yield warning
    if server.used > MAX_CONNECTION_SHARE * server.limit:
        yield (
            f"{server.used} of the database's {server.limit} connections are in use. Lower DATABASE_POOL or the number "
            "of workers, or give the database more memory and a higher max_connections."
        )
    yield from statement_logging.warnings(server.logging)


def _clock_warning(other: str, other_time: float) -> str:
    """Return a warning if this host's clock differs from that of another part, else an empty string."""
    ahead = time.time() - other_time
    if abs(ahead) <= MAX_CLOCK_SKEW:
        return ""
    return (
        f"This host's clock is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} the {other}'s. "
        "Presigned URLs and sign-ins need the right time. Synchronize both clocks with NTP."
    )


def _check_contents() -> str:
    """Return counts, so that operators can compare them before and after a restore."""
    with open_database(Settings, join=True) as settings:
        check_schema(settings)
        return dump.summary(run_with_database(settings, dump.count_contents))


def _check_store() -> str:
    settings = settings_module.load()
    if not (settings.package_bucket_name or settings.quilt_secret_key):  # the embedded database could not create it
        raise CommandError(f"Not checked, because the data directory {settings.quilt_home} cannot be used.")
    store = ObjectStore(settings)
    if settings.package_bucket_name:
        return _check_bucket(settings.package_bucket_name, store)
    try:
        asyncio.run(_test_store(store))
    except Refusal as error:
        raise CommandError(
            f"{error} Check the permissions and the free space of {settings.objects_directory}."
        ) from None
    return str(settings.objects_directory)


def _check_bucket(bucket: str, store: ObjectStore) -> str:
    clock_warning = _store_clock_warning(store)
    try:
        asyncio.run(_test_store(store))
    except Refusal as error:
        advice = f"Check PACKAGE_BUCKET_NAME, S3_ENDPOINT, AWS_REGION and the keys. {clock_warning}".rstrip()
        raise CommandError(f"{error} {advice}") from None
    key = f"check/{secrets.token_hex(8)}"
    try:
        _test_presigned_urls(store, key)
    finally:
        asyncio.run(store.remove([key]))
    if clock_warning:
        raise _PartWarning(clock_warning)
    return f"bucket {bucket}"


async def _test_store(store: ObjectStore) -> None:
    await store.self_test()
    await store.probe()


def _store_clock_warning(store: ObjectStore) -> str:
    """Compare clocks by the header Date, which even an error response of the store has."""
    try:
        date = _request(_unsigned_url(store, "check/clock")).headers.get("Date")
    except HTTPError as error:
        date = error.headers.get("Date")
    except (OSError, HTTPException):
        return ""  # because the tests of the store report why it cannot be reached
    try:
        return _clock_warning("store", parsedate_to_datetime(date or "").timestamp())
    except ValueError:
        return ""


def _unsigned_url(store: ObjectStore, key: str) -> str:
    return store.signer.urls([key])[0].partition("?")[0]


def _test_presigned_urls(store: ObjectStore, key: str) -> None:
    """Upload and download as clients do, at the endpoint that clients use."""
    _, [put] = store.signer.upload_urls([key], [key])
    try:
        _request(put, "PUT", body=b"check")
        is_same = _request(store.signer.urls([key])[0]).read() == b"check"
    except HTTPError as error:
        raise CommandError(
            f"The store rejects a presigned URL with status {error.code}. "
            "Check S3_ENDPOINT, AWS_REGION, the keys and this host's clock."
        ) from None
    except (OSError, HTTPException) as error:
        raise _PartWarning(
            f"The store cannot be reached at the URL that clients use (S3_ENDPOINT), at least from this host: {error}"
        ) from None
    if not is_same:
        raise CommandError(
            "An object uploaded with a presigned URL could not be read back. Check S3_ENDPOINT and the bucket's name."
        )


def _check_mail() -> str:
    settings = settings_module.load()
    try:
        return asyncio.run(SmtpTransport(settings).self_test())
    except Refusal as error:
        raise CommandError(f"{error} Check the SMTP_… settings.") from None


def _check_outbox() -> str:
    """Return the state of the outbox. Undeliverable emails are no failure, because the registry works."""
    with open_database(Settings, join=True) as settings:
        check_schema(settings)
        waiting, undeliverable = run_with_database(settings, outbox.status)
    return "\n".join([f"{waiting} waiting, {len(undeliverable)} could not be delivered", *undeliverable])


def _check_cors() -> str:
    """Send the preflight requests that a browser sends before a page uses a presigned URL."""
    settings = settings_module.load()
    origin, url = settings.catalog_url, _unsigned_url(ObjectStore(settings), "check/cors")
    try:
        rejected = [method for method in ("GET", "PUT") if not _allows(url, origin, method)]
    except (OSError, HTTPException) as error:
        raise _PartWarning(f"The CORS rule of the bucket cannot be checked: {error}") from None
    if rejected:
        raise _PartWarning(
            f"The bucket does not allow {' and '.join(rejected)} to pages of {origin}. Give it a CORS rule with that "
            "origin, the methods GET, HEAD and PUT, and all headers."
        )
    return f"pages of {origin} may use the bucket"


def _allows(url: str, origin: str, method: str) -> bool:
    try:
        headers = _request(url, "OPTIONS", {"Origin": origin, "Access-Control-Request-Method": method}).headers
    except HTTPError:
        return False
    methods = [each.strip() for each in headers.get("Access-Control-Allow-Methods", "").split(",")]
    return headers.get("Access-Control-Allow-Origin") in ("*", origin) and method in methods


def _check_registry() -> str:
    """Look for a running registry on this host, then at its public URL."""
    settings = settings_module.load()
    problems = []
    for url in (f"http://127.0.0.1:{urlsplit(settings.registry_url).port or 5000}", settings.registry_url):
        try:
            if _request(url + "/healthcheck").read(3) == b"ok":
                return f"{url} responds"
            problems.append(f"{url}: another service responds")
        except (OSError, HTTPException) as error:
            problems.append(f"{url}: {error}")
    raise _PartWarning(f"The registry does not respond ({'; '.join(problems)}). Start it, or look at its log.")


def _request(
    url: str, method: str = "GET", headers: Mapping[str, str] = MappingProxyType({}), body: bytes | None = None
) -> HTTPResponse:
    request = Request(url, body, dict(headers), method=method)  # noqa: S310
    is_local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")  # a proxy must not be used for these
    response: HTTPResponse = build_opener(*[ProxyHandler({})] * is_local).open(request, timeout=REQUEST_TIMEOUT)
    return response
