"""A PostgreSQL, a registry, and people: Anna owns, Ben is shared with, Carl is a stranger, Ada is admin."""

from __future__ import annotations

import functools
import os
import secrets
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from xdist.scheduler import LoadFileScheduling

from quilt_registry import schema
from quilt_registry.cli import embedded_postgres
from tests import held
from tests.mailbox import Mailbox
from tests.registry import LocalRegistry, Person, Registry, new_name, run_sql
from tests.s3server import NotToBeHadError, S3Server

# Runs on busy machines: slowness proves nothing.
_slow = hypothesis.HealthCheck.too_slow
hypothesis.settings.register_profile("busy", deadline=None, max_examples=60, suppress_health_check=[_slow])
hypothesis.settings.load_profile("busy")

# A thousand programs start; what each imports is compiled for the first of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@functools.cache
def _tls(authorities: str | None, *given: Any) -> ssl.SSLContext:
    return httpx.create_ssl_context(*given)


def _shared_tls(verify: Any = True, cert: Any = None, trust_env: bool = True) -> ssl.SSLContext:
    return _tls(os.environ.get("SSL_CERT_FILE"), verify, cert, trust_env)


held.watch()

# Each client would read the list of certificate authorities anew: 40 ms, some thousand times.
httpx._transports.default.create_ssl_context = _shared_tls


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort files, the longest first: at the end both workers are busy. Within a file, the order of the file."""
    costs: Counter[Path] = Counter()
    for item in items:
        costs[item.path] += _cost(item)
    items.sort(key=lambda item: -costs[item.path])
    ids = Counter(item.nodeid for item in items)
    if twice := [each for each, count in ids.items() if count > 1]:
        raise pytest.UsageError(f"Of tests that share an id, pytest-xdist runs only one: {twice}")


def _cost(item: pytest.Item) -> float:
    """About how many seconds a test takes."""
    fixtures = getattr(item, "fixturenames", ())
    if "drill" in item.keywords:
        return 10
    if "slow" in item.keywords or "s3" in fixtures or "hypothesis" in item.keywords:
        return 4
    if "own_registry" in fixtures or "embedded" in fixtures:
        return 3
    return 0.5 if "local_registry" in fixtures else 0.1 if "postgres" in fixtures else 0.02


# ------------------------------------------------------------------------------------------------ parallel workers


class OneStoreScheduling(LoadFileScheduling):
    """A file to a worker at a time, and the files that need an object store all to one worker."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return "object store" if file in NEED_OBJECT_STORE else file


NEED_OBJECT_STORE = {
    f"tests/{name}.py"
    for name in (
        *("cli/test_verify_objects", "storage/test_s3"),
        *("deploy/test_cors", "deploy/test_production", "deploy/test_rotation"),
    )
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneStoreScheduling:
    return OneStoreScheduling(config, log)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a PostgreSQL for tests, the database's name to be put in: TEST_DATABASE_URL, or an embedded one."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    home = tmp_path_factory.mktemp("postgres")
    with embedded_postgres.locked(home), embedded_postgres.running(home) as url:
        yield url.replace("/quilt?", "/{}?")


@pytest.fixture(scope="session")
def template(postgres: str) -> str:
    """A migrated database that others are copied from."""
    name = f"template_{secrets.token_hex(4)}"
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    schema.migrate(postgres.format(name))
    return name


@pytest.fixture(scope="session")
def new_database(postgres: str, template: str) -> Callable[[], str]:
    """Makes a database with the schema and nothing in it; gives its address."""

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        run_sql(postgres.format("postgres"), f"CREATE DATABASE {name} TEMPLATE {template}")
        return postgres.format(name)

    return make


@pytest.fixture(scope="session")
def mailbox() -> Iterator[Mailbox]:
    """A mail server, and the letters of the registries below."""
    server = Mailbox().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def registry(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox
) -> Iterator[Registry]:
    """A registry in team mode that most tests share; each uses packages of its own (`new_name`)."""
    given = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "RATE_LIMITS": "off"}
    given |= {"SIGNUP_DOMAINS": "welcome.example"}
    running = Registry(tmp_path_factory.mktemp("registry"), new_database(), **given).start()
    yield running
    running.hang_up()
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="session")
def open_registry(
    new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory, mailbox: Mailbox
) -> Iterator[Registry]:
    """A registry in open mode: anonymous people read public packages, there is no team, and anybody may sign up."""
    given = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "RATE_LIMITS": "off"}
    running = Registry(tmp_path_factory.mktemp("open"), new_database(), TEAM_ID="", **given).start()
    yield running
    running.hang_up()
    assert running.stop() == 0
    assert "Traceback" not in running.log.read_text()


@pytest.fixture
def own_registry(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[..., Registry]]:
    """Starts registries for one test, each with a database of its own unless one is given."""
    started: list[Registry] = []

    def start(home: Path | None = None, database_url: str | None = None, **options: object) -> Registry:
        made = Registry(home or tmp_path / "home", database_url or new_database(), **options)  # type: ignore[arg-type]
        started.append(made)
        return made.start()

    yield start
    for each in started:
        if each.process and each.process.poll() is None:
            each.hang_up()
            each.stop()


@pytest.fixture
def local_registry(new_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[..., LocalRegistry]]:
    """Starts registries of one test in this process, each with a database of its own unless one is given."""
    started: list[LocalRegistry] = []

    def start(database_url: str | None = None, **settings: str) -> LocalRegistry:
        started.append(LocalRegistry(tmp_path / f"home{len(started)}", database_url or new_database(), **settings))
        return started[-1].start()

    yield start
    assert not any(each.stop() for each in started)


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3-compatible store. Where it cannot be had, the tests that need it are skipped, but not in CI."""
    try:
        server = S3Server(tmp_path_factory.mktemp("s3"))
        server.start()
    except NotToBeHadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def anna(registry: Registry) -> Person:
    """Owns packages."""
    return registry.make_person("anna")


@pytest.fixture(scope="session")
def ben(registry: Registry) -> Person:
    """Has packages shared with him."""
    return registry.make_person("ben")


@pytest.fixture(scope="session")
def carl(registry: Registry) -> Person:
    """A member whom nobody shares with."""
    return registry.make_person("carl")


@pytest.fixture(scope="session")
def ada(registry: Registry) -> Person:
    """An admin."""
    return registry.make_person("ada", is_admin=True)


@pytest.fixture(scope="session")
def nobody(registry: Registry) -> Person:
    """Not signed in."""
    return registry.nobody()


@pytest.fixture
def eve(registry: Registry) -> Person:
    """Somebody new, of whom the registry knows nothing but that they signed in."""
    return registry.make_person(new_name("eve"))
