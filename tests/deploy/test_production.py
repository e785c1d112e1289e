"""docs/production.md, followed to the letter: from a laptop to older PostgreSQL servers, a bucket and a directory."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quilt_registry.cli import embedded_postgres
from tests.client import old_client
from tests.client.old_client import Terminal
from tests.commands import refuses, succeeds
from tests.deploy.older_postgres import older_postgres
from tests.mailbox import Mailbox
from tests.registry import PASSWORD, Registry, new_name, run_sql
from tests.s3server import S3Server
from tests.trees import sha

pytestmark = pytest.mark.drill

PAGE = (Path(__file__).parents[2] / "docs" / "production.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
# One is uploaded to a bucket in parts.
FILES = {"README": b"# Trees", "a": b"1", "g": {"large": random.Random(1).randbytes(9 << 20), "empty": b""}}


def commands(place: str) -> list[str]:
    """Return the blocks of a place, such as "on the laptop", in order."""
    return [block for block in BLOCKS if block.startswith(f"# {place}\n")]


SETTINGS = set(re.findall(r'^([A-Z0-9_]+)="', "".join(BLOCKS), re.MULTILINE))
(BACK_UP, SET_ASIDE) = commands("on the laptop")
(CREATE_DATABASE, RESTORE, CREATE_ADMIN) = commands("on the server")


def run(block: str, place: Path, answers: str = "", **environment: str) -> str:
    """Run a block as written, without a terminal, so that passwords are read from the answers."""
    words = ["bash", "-euo", "pipefail", "-c", block]
    done = subprocess.run(
        words, cwd=place, env={**_bare(), **environment}, input=answers,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, start_new_session=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def _bare() -> dict[str, str]:
    """An environment without settings, in which the registry's and PostgreSQL's programs are found."""
    path = [str(Path(sys.executable).parent), str(embedded_postgres.programs()), os.environ["PATH"]]
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "PATH": ":".join(path)}


class Laptop:
    """Where `make run` was started: a registry with a package of two versions, now stopped."""

    def __init__(self, place: Path):
        self.place = place
        self.registry = Registry(place / "quilt-data")
        new = ("create-admin", "--username", "anna", "--email", "anna@example.com", "--password-stdin")
        assert self.registry.command("migrate").returncode == 0
        assert self.registry.command(*new, input=f"{PASSWORD}\n").returncode == 0
        self.anna = self.registry.start().sign_in("anna")
        self.versions = [self.anna.push("trees", {**FILES, "a": b"0"}), self.anna.push("trees", FILES)]
        made = self.anna.post("/api/v1/tokens", json={"name": "robot", "days": 30, "read_only": True})
        self.robot: str = made.raise_for_status().json()["token"]
        (place / ".venv" / "bin").mkdir(parents=True)
        (place / ".venv" / "bin" / "quilt-registry").symlink_to(Path(sys.executable).with_name("quilt-registry"))


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Laptop:
    made = Laptop(tmp_path_factory.mktemp("laptop"))
    assert made.registry.stop() == 0
    return made


@pytest.fixture(scope="module")
def backup(laptop: Laptop) -> tuple[Path, str]:
    """The folder `move`, and what the command said."""
    return laptop.place / "move", run(BACK_UP, laptop.place)


class Server:
    """A host with a database, a store, and the settings file of the page."""

    def __init__(self, place: Path, postgres: embedded_postgres._Server, backup: Path, **settings: str):
        self.place, self.postgres = place, postgres
        self.superuser = {"PGHOST": str(postgres.sockets), "PGUSER": "postgres"}
        self.url = postgres.url("registry").replace("postgres@", "registry:a%20secret@")
        self.registry = Registry(place / "home", self.url)
        addresses = {"REGISTRY_URL": self.registry.url, "CATALOG_URL": self.registry.url}
        self.settings = {"DATABASE_URL": self.url, "TEAM_ID": "local", **addresses, **settings}
        lines = [f'{name}="{value}"\n' for name, value in self.settings.items()]
        (place / "registry.env").write_text("".join(lines))
        shutil.copytree(backup, place / "move")

    def follow(self) -> str:
        """Follow the page until the registry can start. Return the output of the step that restores."""
        run(CREATE_DATABASE, self.place, "a secret\na secret\n", **self.superuser)
        shown = run(RESTORE, self.place)
        run(CREATE_ADMIN, self.place, f"{PASSWORD}\n{PASSWORD}\n", **self.settings)
        return shown

    def start(self) -> Registry:
        self.registry.environment = {**_bare(), "RATE_LIMITS": "off", **self.settings}
        return self.registry.start()


@pytest.fixture
def server(tmp_path: Path, backup: tuple[Path, str], mailbox: Mailbox) -> Iterator[Callable[..., Server]]:
    """Makes a server with this PostgreSQL and these settings."""
    made: list[Server] = []

    def make(postgres: embedded_postgres._Server, **settings: str) -> Server:
        mail = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(mailbox.port), "QUILT_DEFAULT_SENDER": "quilt@example.com"}
        made.append(Server(tmp_path, postgres, backup[0], **mail, **settings))
        return made[-1]

    yield make
    for each in made:
        if each.registry.process and not each.registry.has_ended():
            each.registry.hang_up()
            assert each.registry.stop() == 0


def of_directory(place: Path) -> dict[str, str]:
    return {"QUILT_HOME": str(place / "home"), "QUILT_SECRET_KEY": "a new secret for this server"}


def contents(backup: tuple[Path, str]) -> str:
    """What the backup said that it contains."""
    found = re.search(r"schema .* objects", backup[1])
    assert found
    return found[0]


# ------------------------------------------------------------------------------------------------ the move


def check_that_everything_came_along(server: Server, laptop: Laptop, store: dict[str, bytes]) -> None:
    registry = server.start()
    anna = registry.sign_in("anna")
    for top_hash in laptop.versions:
        anna.install("anna", "trees", top_hash)
    pushed = anna.push("trees", {**FILES, "new": b"3"})
    assert [each["hash"] for each in anna.get("/api/log/anna/trees/").json()["logs"]] == [*laptop.versions, pushed]
    robot = {"Authorization": f"Bearer {laptop.robot}"}
    assert registry.nobody().get("/api/me", headers=robot).json()["current_user"] == "anna"
    assert registry.sign_in("grace").get("/api/me").json()["is_staff"] is True
    assert all(sha(data) == name for name, data in store.items())


@pytest.mark.s3
@pytest.mark.parametrize("version", [14, 15])
def test_a_laptop_moves_to_an_older_postgres_and_a_bucket(
    version: int, laptop: Laptop, backup: tuple[Path, str], server: Callable[..., Server], s3: S3Server
) -> None:
    _empty(s3)
    with older_postgres(version) as postgres:
        made = server(postgres, **s3.settings)
        assert SETTINGS - {"SMTP_USERNAME", "SMTP_PASSWORD"} <= made.settings.keys()
        shown = made.follow()
        assert run_sql(made.url, "SHOW server_version_num")[0][0].startswith(str(version))
        assert not run_sql(made.url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user")[0][0]
        assert contents(backup) in shown
        assert re.search(r"^Missing: 0\nDamaged: 0$", shown, re.MULTILINE), shown
        check_that_everything_came_along(made, laptop, _stored(s3))
        made.registry.hang_up()
        made.registry.stop()


def test_a_laptop_moves_to_a_directory(
    laptop: Laptop, backup: tuple[Path, str], server: Callable[..., Server], tmp_path: Path
) -> None:
    with older_postgres(16) as postgres:
        made = server(postgres, **of_directory(tmp_path))
        shown = made.follow()
        assert contents(backup) in shown
        assert re.search(r"^Missing: 0\nDamaged: 0$", shown, re.MULTILINE), shown
        stored = {path.name: path.read_bytes() for path in tmp_path.glob("home/objects/objs/*/*")}
        check_that_everything_came_along(made, laptop, stored)
        made.registry.hang_up()
        made.registry.stop()


@pytest.mark.s3
def test_objects_are_copied_once_and_damaged_ones_not_at_all(
    backup: tuple[Path, str], s3: S3Server, tmp_path: Path, postgres: str
) -> None:
    _empty(s3)
    shutil.copytree(backup[0], tmp_path / "move")
    copies = {path.name: path for path in tmp_path.glob("move/store/objs/anna/*")}
    copies[sha(b"1")].unlink()  # a link to the laptop's
    copies[sha(b"1")].write_bytes(b"2")
    name = new_name("moved")
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    registry = Registry(tmp_path / "home", postgres.format(name), **s3.settings)
    restore = ("restore", str(tmp_path / "move" / "registry.dump"), "--objects", str(tmp_path / "move" / "store"))
    registry.environment["AWS_SECRET_ACCESS_KEY"] = "wrong"
    refuses(registry.command(*restore), "The objects could not be copied", "Run the command again")
    assert run_sql(postgres.format(name), "SELECT FROM pg_tables WHERE schemaname = 'public'") == []
    registry.environment |= s3.settings
    s3.bucket.put(f"objs/anna/{sha(b'0')}", b"0")
    done = registry.command(*restore)
    assert f"Copied {len(copies) - 2} new objects" in succeeds(done)
    assert (
        f"Warning: 1 objects were not copied, because their contents do not match their SHA-256: objs/anna/{sha(b'1')}."
        in done.stderr
    )
    assert _stored(s3).keys() == copies.keys() - {sha(b"1")}
    done = registry.command("verify-objects", "--deep")
    assert (done.returncode, "Missing: 1\n" in done.stdout, "Damaged: 0\n" in done.stdout) == (5, True, True)


def _empty(s3: S3Server) -> None:
    for page in s3.bucket.list():
        s3.bucket.delete([each["path"] for each in page])


def _stored(s3: S3Server) -> dict[str, bytes]:
    paths = [each["path"] for page in s3.bucket.list("objs") for each in page]
    return {path.rpartition("/")[2]: bytes(s3.bucket.get(path).bytes()) for path in paths}


# ------------------------------------------------------------------------------------------------ around it


def test_going_back_is_possible_and_the_old_data_can_be_set_aside(
    laptop: Laptop, backup: tuple[Path, str], tmp_path: Path
) -> None:
    assert "Wrote move/registry.dump" in backup[1]
    copy = tmp_path / "copy"
    shutil.copytree(laptop.place, copy, symlinks=True)
    run(SET_ASIDE, copy)
    assert sorted(path.name for path in copy.iterdir()) == [".venv", "move", "quilt-data-moved"]
    anna = laptop.registry.start().sign_in("anna")
    anna.install("anna", "trees", laptop.versions[-1])
    assert laptop.registry.stop() == 0


def test_a_migrated_database_takes_the_backup_if_asked(backup: tuple[Path, str], tmp_path: Path) -> None:
    """As on an instance of the AWS template."""
    with older_postgres(16) as postgres:
        run_sql(postgres.url("postgres"), "CREATE DATABASE registry")
        there = {"DATABASE_URL": postgres.url("registry"), **of_directory(tmp_path)}
        run("quilt-registry migrate", tmp_path, **there)
        restore = next(line for line in RESTORE.splitlines() if "restore" in line)
        shutil.copytree(backup[0], tmp_path / "move")
        assert contents(backup) in run(f"{restore} --into-empty-schema", tmp_path, **there)


@pytest.mark.old_client
def test_users_configure_the_new_url_and_sign_in(
    laptop: Laptop, backup: tuple[Path, str], server: Callable[..., Server], tmp_path: Path
) -> None:
    old_client.environment()
    (users,) = commands("each user")
    terminal = Terminal(tmp_path / "anna", laptop.registry)
    terminal.sign_in(laptop.registry.start().sign_in("anna"))
    terminal("install", "local:anna/trees")
    assert laptop.registry.stop() == 0
    with older_postgres(16) as postgres:
        made = server(postgres, **of_directory(tmp_path))
        made.follow()
        terminal.registry = made.start()
        assert FILES["a"] in terminal.export("local:anna/trees").values()
        code = terminal.registry.sign_in("anna").get("/api/code").json()["code"]
        for line in users.splitlines()[1:]:
            terminal(*line.split()[1:], answer=terminal.registry.url if "config" in line else code)
        terminal("install", "local:anna/trees", "-f")
        terminal("push", "local:anna/trees")
        made.registry.hang_up()
        made.registry.stop()


def test_an_encoding_that_loses_text_is_refused(backup: tuple[Path, str], tmp_path: Path) -> None:
    with older_postgres(16) as postgres:
        run_sql(postgres.url("postgres"), "CREATE DATABASE registry TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        registry = Registry(tmp_path, postgres.url("registry"))
        done = registry.command("restore", str(backup[0] / "registry.dump"))
        assert done.returncode == 1
        assert "The database has the encoding LATIN1." in done.stderr
        assert run_sql(postgres.url("registry"), "SELECT FROM pg_tables WHERE schemaname = 'public'") == []
