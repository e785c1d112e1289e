"""`check`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import secrets
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
from quilt_registry.cli import dump
from quilt_registry.cli.context import CommandError, check_schema, open_database, run_with_database
from quilt_registry.cli.embedded_postgres import EmbeddedError
from quilt_registry.database import Database
from quilt_registry.errors import Refusal
from quilt_registry.mail import outbox
from quilt_registry.mail.outbox import SmtpTransport
from quilt_registry.settings import SettingsError
from quilt_registry.storage.objects import ObjectStore

CLOCKS_APART = 60  # seconds that are worth a warning
MANY_CONNECTIONS = 0.8  # of all that the database takes: a share worth a warning


class _Doubt(Exception):
    """A part works, but perhaps not as it is meant to. Says what to do."""


class Finding(msgspec.Struct, frozen=True):
    """What `check` has to say of a part; `state` is ok, warning or failed."""

    part: str
    state: str
    says: str


@click.command()
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
        settings, doubts = settings_module.load(), settings_module.warnings()
    except SettingsError as error:
        return [Finding("settings", "failed", str(error))]
    mode = f"team {settings.team_id}" if settings.team_id else "open mode"
    name = f", deployment {settings.deployment_id}" if settings.deployment_id else ""
    findings = [Finding("settings", "ok", f"{settings.registry_url}, {mode}{name}")]
    findings += [Finding("settings", "warning", doubt) for doubt in doubts]
    parts = {"database": _check_database, "contents": _check_contents, "store": _check_store}
    parts |= {"mail": _check_mail, "letters": _check_letters}
    if settings.package_bucket_name:
        parts["cors"] = _check_cors
    parts["registry"] = _check_registry
    return findings + [_finding(part, work) for part, work in parts.items()]


def _finding(part: str, work: Callable[[], str]) -> Finding:
    try:
        return Finding(part, "ok", work())
    except _Doubt as doubt:
        return Finding(part, "warning", str(doubt))
    except (CommandError, EmbeddedError, Refusal, OSError) as error:
        return Finding(part, "failed", str(error))


class _Server(msgspec.Struct):
    """What the database's server says of itself: `time` in seconds, `tls` the version of TLS that is in use."""

    version: str
    time: float
    tls: str | None
    used: int
    limit: int


async def _ask_server(db: Database) -> _Server:
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
    return _Server(**row)


def _check_database() -> str:
    with open_database(join=True) as settings:
        newer = check_schema(settings)
        server = run_with_database(settings, _ask_server)
    doubts = [*([newer] if newer else []), *_doubts(server)]
    if doubts:
        raise _Doubt("\n".join(doubts))
    return f"PostgreSQL {server.version}, schema {schema.head()}, {server.tls or 'not encrypted'}"


def _doubts(server: _Server) -> Iterator[str]:
    if doubt := _clock_doubt("database", server.time):
        yield doubt
    if server.used > MANY_CONNECTIONS * server.limit:
        yield (
            f"{server.used} of the database's {server.limit} connections are in use. Lower DATABASE_POOL or the number "
            "of workers, or give the database more memory and a higher max_connections."
        )


def _clock_doubt(other: str, its_time: float) -> str:
    """What is to be said of this host's clock beside that of another part; nothing if they agree."""
    ahead = time.time() - its_time
    if abs(ahead) <= CLOCKS_APART:
        return ""
    return (
        f"This host's clock is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} the {other}'s. Signed "
        "URLs and sign-ins need the right time: let NTP set both clocks."
    )


def _check_contents() -> str:
    """How much there is: the same after a restore as before it."""
    with open_database(join=True) as settings:
        check_schema(settings)
        return dump.summary(run_with_database(settings, dump.contents))


def _check_store() -> str:
    settings = settings_module.load()
    store = ObjectStore(settings)
    if settings.package_bucket_name:
        return _check_bucket(settings.package_bucket_name, store)
    try:
        asyncio.run(_try_store(store))
    except Refusal as error:
        raise CommandError(f"{error} Check the rights and the room of {settings.objects_directory}.") from None
    return str(settings.objects_directory)


def _check_bucket(name: str, store: ObjectStore) -> str:
    clock = _store_clock_doubt(store)
    try:
        asyncio.run(_try_store(store))
    except Refusal as error:
        advice = f"Check PACKAGE_BUCKET_NAME, S3_ENDPOINT, AWS_REGION and the keys. {clock}".rstrip()
        raise CommandError(f"{error} {advice}") from None
    key = f"check/{secrets.token_hex(8)}"
    try:
        _try_signed_urls(store, key)
    finally:
        asyncio.run(store.remove([key]))
    if clock:
        raise _Doubt(clock)
    return f"bucket {name}"


def _store_clock_doubt(store: ObjectStore) -> str:
    """The store puts its time into any answer, also into one that refuses."""
    try:
        date = _ask(_unsigned(store, "check/clock")).headers.get("Date")
    except HTTPError as error:
        date = error.headers.get("Date")
    except (OSError, HTTPException):
        return ""  # what else is tried says why it cannot be reached
    try:
        return _clock_doubt("store", parsedate_to_datetime(date or "").timestamp())
    except ValueError:
        return ""  # it tells no time


def _unsigned(store: ObjectStore, key: str) -> str:
    return store.signer.urls([key])[0].partition("?")[0]


async def _try_store(store: ObjectStore) -> None:
    await store.self_test()
    await store.probe()


def _try_signed_urls(store: ObjectStore, key: str) -> None:
    """Upload and download as clients do, under the address that they are given."""
    _, [put] = store.signer.upload_urls([key], [key])
    try:
        _ask(put, "PUT", body=b"check")
        same = _ask(store.signer.urls([key])[0]).read() == b"check"
    except HTTPError as error:
        raise CommandError(
            f"The store refuses a signed URL with status {error.code}. "
            "Check S3_ENDPOINT, AWS_REGION, the keys and this host's clock."
        ) from None
    except (OSError, HTTPException) as error:
        raise _Doubt(
            f"The store cannot be reached where S3_ENDPOINT leads clients, at least from here: {error}"
        ) from None
    if not same:
        raise CommandError(
            "What was uploaded with a signed URL was not there afterwards. Check S3_ENDPOINT and the bucket's name."
        )


def _check_mail() -> str:
    settings = settings_module.load()
    try:
        return asyncio.run(SmtpTransport(settings).self_test())
    except Refusal as error:
        raise CommandError(f"{error} Check the SMTP_… settings.") from None


def _check_letters() -> str:
    """Letters on their way; those that cannot be delivered are no failure, but somebody waits for them."""
    with open_database(join=True) as settings:
        check_schema(settings)
        waiting, undeliverable = run_with_database(settings, outbox.status)
    return "\n".join([f"{waiting} on the way, {len(undeliverable)} could not be delivered", *undeliverable])


def _check_cors() -> str:
    """What a browser asks the store before a page may use a signed URL."""
    settings = settings_module.load()
    origin, address = settings.catalog_url, _unsigned(ObjectStore(settings), "check/cors")
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
