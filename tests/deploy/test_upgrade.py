"""Upgrade from the previous release and rollback, while users work; against real PostgreSQL, over HTTP."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from quilt_registry import schema
from quilt_registry.cli import embedded_postgres
from tests.commands import refuses, succeeds
from tests.deploy.nginx import Nginx
from tests.registry import PASSWORD, Registry, new_name, run_sql
from tests.s3server import NotToBeHadError
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

# The previous release. Each release moves this to the tag of the last one.
PREVIOUS_RELEASE = "d425b78b172f697f2f1400d29f6912a33b83bcaf"
PREVIOUS_SCHEMA = "0001"

MAX_DELAY = 1.5  # seconds for which a migration may delay a request
TRANSACTION_SECONDS = 4  # seconds, during which no request is delayed

Make = Callable[..., Registry]


@pytest.fixture(scope="session")
def previous_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the previous release, from this clone. If the clone lacks it, skip these tests; fail them on CI."""
    there = tmp_path_factory.mktemp("release_before")
    here = Path(__file__).parents[2]
    done = subprocess.run(["git", "archive", PREVIOUS_RELEASE, "src"], cwd=here, capture_output=True)
    if done.returncode:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            f"the previous release is not available: {done.stderr.decode().strip()}"
        )
    subprocess.run(["tar", "-x", "-C", there], input=done.stdout, check=True)
    return there / "src"


@pytest.fixture(scope="session")
def previous_template(postgres: str, previous_release: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A stopped registry of the previous release with Anna's package. The other registries copy its database."""
    name, home = new_name("previous_template"), tmp_path_factory.mktemp("before")
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    made = Registry(home, postgres.format(name), PYTHONPATH=str(previous_release))
    succeeds(made.command("migrate"))
    made.start().make_person("anna").push("trees", {"x": b"1", "README": b"# Trees"})
    assert made.stop() == 0
    return made


@pytest.fixture
def before(postgres: str, previous_template: Registry, previous_release: Path) -> Iterator[Registry]:
    """A registry of the previous release with Anna's package, not started yet."""
    name = new_name("before")
    of = str(previous_template.database_url).partition("?")[0].rpartition("/")[2]
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name} TEMPLATE {of}")
    made = Registry(previous_template.home, postgres.format(name), PYTHONPATH=str(previous_release))
    yield made
    end(made)


def end(*registries: Registry) -> None:
    for each in registries:
        if each.process and each.process.poll() is None:
            each.stop()


def upgraded(before: Registry) -> Registry:
    """Return the same registry with this release."""
    made = Registry(before.home, before.database_url)
    made.environment["REGISTRY_URL"] = before.environment["REGISTRY_URL"]
    made.port, made.url = before.port, before.url
    return made


def columns(registry: Registry) -> dict[str, list[str]]:
    """Return the whole schema in comparable text. Check that no index is half-built."""
    queries = {
        "columns": """SELECT table_name, ordinal_position, column_name, data_type, column_default, is_nullable,
                             is_identity FROM information_schema.columns WHERE table_schema = 'public'""",
        "indexes": """SELECT pg_get_indexdef(i.indexrelid), i.indisunique, c.reloptions
                      FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                      WHERE c.relnamespace = 'public'::regnamespace AND i.indisvalid""",
        "constraints": """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated
                          FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
        "triggers": "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
        "functions": "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
        "search": """SELECT c.cfgname, m.maptokentype, m.mapseqno, d.dictname, d.dictinitoption
                     FROM pg_ts_config_map m JOIN pg_ts_config c ON c.oid = m.mapcfg
                     JOIN pg_ts_dict d ON d.oid = m.mapdict WHERE c.cfgnamespace = 'public'::regnamespace""",
        "revision": "SELECT version_num FROM alembic_version",
    }
    assert registry.sql("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid") == []
    return {part: sorted(repr(tuple(row)) for row in registry.sql(query)) for part, query in queries.items()}


def start_command(registry: Registry, *arguments: str) -> subprocess.Popen[str]:
    """Start a command that runs beside the test."""
    program = [sys.executable, "-u", "-m", "quilt_registry", *arguments]
    return subprocess.Popen(
        program, env=registry.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def wait_for_line(running: subprocess.Popen[str], line: str) -> None:
    """Wait for a line in the output of a command."""
    assert running.stdout is not None
    lines = []
    for each in running.stdout:
        lines.append(each)
        if each.startswith(line):
            return
    raise AssertionError(f"It exited with {running.wait()}. Output:\n{''.join(lines)}")


def finish(running: subprocess.Popen[str]) -> str:
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 0, output
    return output


# ------------------------------------------------------------------------------------------------ migrations


def revision(registry: Registry) -> str:
    return str(registry.sql("SELECT version_num FROM alembic_version")[0][0])


def test_the_schemas_that_a_release_knows() -> None:
    script = ScriptDirectory.from_config(schema._alembic(""))
    assert schema.revisions() == tuple(each.revision for each in script.walk_revisions())


# One migration holds the migration lock, and another waits for it.
SECOND_WAITS = """
SELECT FROM pg_stat_activity asks JOIN pg_database d ON d.datname = asks.datname
WHERE d.datname = current_database() AND asks.query LIKE 'SELECT pg_try_advisory_lock%'
    AND EXISTS (SELECT FROM pg_locks l
                WHERE l.database = d.oid AND l.locktype = 'advisory' AND l.granted AND l.pid <> asks.pid)
"""


def test_two_migrations_at_once_both_end_well(before: Registry, new_database: Callable[[], str]) -> None:
    registry = upgraded(before)
    with registry.left_open("SELECT FROM event"):
        both = [start_command(registry, "migrate") for _ in range(2)]
        wait_until(lambda: registry.sql(SECOND_WAITS), 60)
        assert revision(registry) == PREVIOUS_SCHEMA
    output = [finish(each) for each in both]
    assert sorted(each.count("The schema is ") for each in output) == [0, len(schema.revisions()) - 1]
    assert sum(each.count("Waiting for the end of another migration") for each in output) == 1
    assert columns(registry) == columns(Registry(before.home, new_database()))


@pytest.mark.parametrize(
    ("reached", "held", "line"),
    [
        (PREVIOUS_SCHEMA, "SELECT FROM event", "Tables that must be changed are in use"),
        ("0002", "SELECT FROM package_search FOR UPDATE", "Filling package_search"),
        ("0002", "INSERT INTO event (kind) VALUES ('VIEW')", "Building the index event_kind"),
    ],
    ids=["changing tables", "filling", "building an index"],
)
def test_a_migration_that_is_killed_is_repeated(
    before: Registry, new_database: Callable[[], str], reached: str, held: str, line: str
) -> None:
    """The repetition may begin while the same obstacle still blocks it, and it blocks no other session."""
    registry = upgraded(before)
    patient = f"{registry.database_url}{'&' if '?' in str(registry.database_url) else '?'}lock_timeout=2s"
    command.upgrade(schema._alembic(str(registry.database_url)), reached)
    with registry.left_open(held):
        running = start_command(registry, "migrate")
        wait_for_line(running, line)
        for _ in range(3):
            time.sleep(0.3)
            run_sql(patient, "INSERT INTO event (kind) VALUES ('VIEW')")
        running.kill()
        assert running.wait() == -signal.SIGKILL
        again = start_command(registry, "migrate")
        wait_for_line(again, line)
    finish(again)
    assert columns(registry) == columns(Registry(before.home, new_database()))
    assert registry.sql("SELECT names @@ 'tree', nodes @@ 'x' FROM package_search") == [(True, True)]


def test_a_migration_that_gets_no_lock_says_what_to_do(before: Registry) -> None:
    registry = upgraded(before)
    impatient = "from quilt_registry import cli, migrations; migrations.MAX_ATTEMPTS = 2; cli.main()"
    with registry.left_open("SELECT FROM event"):
        done = subprocess.run(
            [sys.executable, "-c", impatient, "migrate"], env=registry.environment, capture_output=True, text=True
        )
    refuses(done, "left open", "run the migration again")
    assert revision(registry) == PREVIOUS_SCHEMA


def test_migrations_and_backups_wait_for_each_other(before: Registry, tmp_path: Path) -> None:
    registry, slow = upgraded(before), slow_pg_dump(tmp_path)
    registry.environment["PATH"] = f"{slow.parent}:{os.environ['PATH']}"
    backing_up = start_command(registry, "backup", str(tmp_path / "early.dump"))
    wait_until((slow.parent / "began").exists)
    migrating = start_command(registry, "migrate")
    wait_for_line(migrating, "Waiting for the end of another migration, restore or backup")
    assert revision(registry) == PREVIOUS_SCHEMA
    (slow.parent / "go").touch()
    assert f"schema {PREVIOUS_SCHEMA}" in finish(backing_up)
    finish(migrating)


def test_backups_wait_for_migrations_that_do_not_wait_for_them_in_turn(before: Registry, tmp_path: Path) -> None:
    registry = upgraded(before)
    command.upgrade(schema._alembic(str(registry.database_url)), "0002")
    with registry.left_open("SELECT FROM package_search FOR UPDATE"):
        migrating = start_command(registry, "migrate")
        wait_for_line(migrating, "Filling package_search")
        backing_up = start_command(registry, "backup", str(tmp_path / "late.dump"))
        wait_for_line(backing_up, "Waiting for the end of another migration, restore or backup")
    finish(migrating)
    assert f"schema {schema.head()}" in finish(backing_up)


def slow_pg_dump(folder: Path) -> Path:
    """Write a wrapper of pg_dump that reports its start and waits until it is released."""
    script = folder / "bin" / "pg_dump"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] || touch {script.parent}/began\n'
        f'while [ "$1" != --version ] && [ ! -e {script.parent}/go ]; do sleep 0.05; done\n'
        f'exec {embedded_postgres.programs()}/pg_dump "$@"\n'
    )
    script.chmod(0o755)
    return script


def test_a_dump_of_the_previous_release_is_restored_into_this_one(
    before: Registry, postgres: str, tmp_path: Path
) -> None:
    file, name = tmp_path / "before.dump", new_name("restored")
    succeeds(upgraded(before).command("backup", str(file)))
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    restored = Registry(before.home, postgres.format(name))
    assert f"Migrated the schema to {schema.head()}" in succeeds(restored.command("restore", str(file)))
    anna = restored.start().sign_in("anna")
    [top_hash] = [each["hash"] for each in anna.get("/api/log/anna/trees/").json()["logs"]]
    anna.install("anna", "trees", top_hash)
    assert anna.get("/api/search/", params={"q": "tree"}).json()["packages"]
    assert restored.stop() == 0


# ------------------------------------------------------------------------------------------------ users at work


class Member(threading.Thread):
    """A user who works with packages all the time; records its actions, failures and waiting times."""

    def __init__(self, registry: Registry, name: str):
        super().__init__()
        self.person = registry.make_person(name)
        self.did, self.failed, self.pushed = Counter[str](), list[str](), list[str]()
        self.longest, self.over = 0.0, threading.Event()
        for client in (self.person.http, self.person.transfers):
            client.event_hooks = {"request": [self._begin], "response": [self._end]}

    def _begin(self, request: httpx.Request) -> None:
        request.extensions["began"] = time.monotonic()

    def _end(self, response: httpx.Response) -> None:
        self.longest = max(self.longest, time.monotonic() - response.request.extensions["began"])

    def run(self) -> None:
        while not self.over.is_set():
            for work in (self.push, self.install, self.tag, self.read, self.search, self.share, self.sign_in):
                try:
                    work()
                    self.did[work.__name__] += 1
                except Exception as error:
                    self.failed.append(f"{work.__name__}: {error!r}")
            self.over.wait(0.3)

    def push(self) -> None:
        data = f"{self.person.name} {len(self.pushed)}".encode()
        files = {"mine": data, "README": b"# Of " + data, "g": {"both": b"the same for all"}}
        self.pushed.append(self.person.push("data", files, is_team=True))

    def install(self) -> None:
        self.person.install(self.person.name, "data", self.pushed[-1])
        self.person.install(self.person.name, "data", self.pushed[0], subpath="g")

    def tag(self) -> None:
        path = f"/api/tag/{self.person.name}/data/"
        assert self.person.put(path + "good", json={"hash": self.pushed[-1]}).status_code == 200
        assert {"good", "latest"} == {each["tag"] for each in self.person.get(path).json()["tags"]}

    def read(self) -> None:
        name = self.person.name
        for path in (f"package/{name}/", f"package/{name}/data/", f"log/{name}/data/", f"access/{name}/data/", "me"):
            assert self.person.get(f"/api/{path}").status_code == 200

    def search(self) -> None:
        found = self.person.get("/api/search/", params={"q": f"{self.person.name} data"}).json()["packages"]
        assert [self.person.name, "data"] in [[each["owner"], each["name"]] for each in found]

    def share(self) -> None:
        path = f"/api/access/{self.person.name}/data/ada"
        assert self.person.put(path).status_code == 200
        assert self.person.delete(path).status_code == 200

    def sign_in(self) -> None:
        answer = self.person.post("/api/login", json={"username": self.person.name, "password": PASSWORD})
        token = answer.raise_for_status().json()["token"]
        assert self.person.get("/api/me", headers={"Authorization": f"Bearer {token}"}).status_code == 200


@contextlib.contextmanager
def at_work(registry: Registry, *names: str) -> Iterator[list[Member]]:
    """Let members work during the block. Check that nothing failed and that nothing acknowledged was lost."""
    registry.make_person("ada")
    members = [Member(registry, name) for name in names]
    for member in members:
        member.start()
    try:
        yield members
    finally:
        for member in members:
            member.over.set()
        for member in members:
            member.join()
    assert [problem for member in members for problem in member.failed] == []
    for member in members:
        assert len(set(member.pushed)) == member.did["push"]
        for top_hash in member.pushed:
            member.person.install(member.person.name, "data", top_hash)


def longest_wait(members: list[Member]) -> float:
    """Return the longest wait for the first byte of a response since the last call, in seconds."""
    found = max(member.longest for member in members)
    for member in members:
        member.longest = 0.0
    return found


LARGE = """
INSERT INTO account (name, email) VALUES ('otto', 'otto@example.com');
INSERT INTO token (digest, account_id, expires_at)
    SELECT sha256(i::text::bytea), id, now() + interval '90 days' FROM account, generate_series(1, 20000) i
    WHERE name = 'otto';
INSERT INTO package (owner_id, owner, name)
    SELECT id, name, 'p' || i FROM account, generate_series(1, 20000) i WHERE name = 'otto';
INSERT INTO instance
    (package_id, top_hash, pages, entries, size, preview, file_types, names, created_by, updated_by, updated_at)
    SELECT id, sha256(name::bytea), '', 0, 0, '', '', '', owner, owner, now() - id * interval '1 h' FROM package
    WHERE owner = 'otto';
INSERT INTO package_search
    SELECT id, setweight(to_tsvector('english', owner || ' ' || name), 'A')
            || setweight(to_tsvector('english', 'leaf' || id), 'C')
            || setweight(to_tsvector('english', (SELECT string_agg('word' || (id * j) % 5000, ' ')
                                                 FROM generate_series(1, 20) j)), 'D')
    FROM package WHERE owner = 'otto';
INSERT INTO event (created_at, kind, account, owner, package, package_id)
    SELECT now() - i * interval '1 s', (ARRAY['PUSH', 'INSTALL', 'VIEW'])[i % 3 + 1], 'otto', 'otto', 'p' || i % 20000,
           i % 20000 FROM generate_series(1, 300000) i;
"""


@pytest.mark.slow
def test_large_tables_are_migrated_while_users_work_with_the_previous_release(
    before: Registry, new_database: Callable[[], str]
) -> None:
    """Another session leaves a transaction open meanwhile, as a manual dump does."""
    for statement in LARGE.split(";\n"):
        before.sql(statement)
    before.start()
    with at_work(before, "ben", "carl", "dora") as members:
        time.sleep(TRANSACTION_SECONDS)
        usual = longest_wait(members)
        with before.left_open("SELECT FROM event LIMIT 1"):
            migrating = start_command(upgraded(before), "migrate")
            wait_for_line(migrating, "Tables that must be changed are in use")
            time.sleep(TRANSACTION_SECONDS)
        finish(migrating)
        waited = longest_wait(members)
    assert waited < usual + MAX_DELAY
    assert before.stop() == 0
    assert columns(before) == columns(Registry(before.home, new_database()))
    unfilled = """SELECT p.name FROM package p JOIN instance i ON i.package_id = p.id
                                JOIN package_search s ON s.package_id = p.id
                  WHERE p.owner = 'otto' AND (p.updated_at <> i.updated_at OR s.names = '' OR s.nodes = '')"""
    assert before.sql(unfilled) == []


# ------------------------------------------------------------------------------------------------ releases side by side


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """An nginx that serves nothing yet."""
    made = Nginx(tmp_path / "nginx", "")
    try:
        made.start()
    except NotToBeHadError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield made
    made.stop()


def balancing(front: Registry, *backs: Registry, out: Registry | None = None) -> str:
    """Return an nginx configuration that balances requests over processes, without one that is taken out.

    nginx closes kept connections when it is reloaded, perhaps while a request is arriving. Clients retry then; here
    connections are not kept and requests are not retried.
    """
    servers = " ".join(f"server 127.0.0.1:{each.port}{' down' * (each is out)};" for each in backs)
    return f"""
upstream registry {{ {servers} }}
server {{
    listen 127.0.0.1:{front.port};
    keepalive_timeout 0;
    location / {{
        proxy_pass http://registry;
        proxy_next_upstream off;
        proxy_set_header Host $http_host;
    }}
}}
"""


@pytest.mark.slow
def test_a_rolling_upgrade_loses_no_request(before: Registry, nginx: Nginx) -> None:
    front = Registry(before.home, before.database_url)  # what users connect to: nginx is there
    given = {"PYTHONPATH": before.environment["PYTHONPATH"], "REGISTRY_URL": front.url}
    olds = [Registry(before.home, before.database_url, **given) for _ in range(2)]
    news = [upgraded(old) for old in olds]
    try:
        for old in olds:
            old.start()
        nginx.reload(balancing(front, *olds))
        with at_work(front, "ben", "carl", "dora") as members:
            work_goes_on(members)
            finish(start_command(news[0], "migrate"))
            for old, new in zip(olds, news, strict=True):
                nginx.reload(balancing(front, *olds, out=old))
                time.sleep(1)  # requests that it already has are completed
                assert old.stop() == 0
                new.start()
                wait_until(lambda new=new: new.nobody().get("/readyz").is_success)
                nginx.reload(balancing(front, *olds))
                work_goes_on(members)
    finally:
        end(*olds, *news)


def work_goes_on(members: list[Member]) -> None:
    """Check that all members have since done each of their tasks, and more."""
    done = {member.name: member.did.total() for member in members}
    wait_until(lambda: all(member.did.total() > done[member.name] + 10 for member in members))


def test_this_release_runs_on_the_schema_of_the_next_one(own_registry: Make, tmp_path: Path) -> None:
    """A rollback is then a start of the previous release, and nothing is damaged."""
    registry, newer = own_registry(), "It belongs to a newer release"
    anna = registry.make_person("anna")
    first = anna.push("trees", {"x": b"1"})
    registry.sql("ALTER TABLE package ADD COLUMN color text NOT NULL DEFAULT 'green'")
    registry.sql("UPDATE alembic_version SET version_num = '9999'")
    time.sleep(1.1)  # a response of /readyz is cached for a second
    assert anna.get("/readyz").status_code == 200
    second = anna.push("trees", {"x": b"2"})
    assert registry.stop() == 0

    assert newer in succeeds(registry.command("migrate"))
    assert revision(registry) == "9999"
    registry.start()
    assert registry.log.read_text().count(newer) == 1
    assert anna.get("/readyz").status_code == 200
    anna.push("trees", {"x": b"3"})
    for top_hash in (first, second):
        anna.install("anna", "trees", top_hash)
    assert f"database  warning: The database has the schema 9999, this release needs {schema.head()}. {newer}" in (
        succeeds(registry.command("check"))
    )

    file = tmp_path / "a.dump"
    done = registry.command("backup", str(file))
    assert "schema 9999" in succeeds(done)
    assert "Only that release can restore this backup" in done.stderr
    refuses(registry.command("restore", str(file)), "Restore with a newer release")
