"""Commands with exactly the environment that compose.yaml and the documents give them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from quilt_registry import schema
from quilt_registry.cli.embedded_postgres import programs
from tests.commands import refuses, succeeds
from tests.registry import LocalRegistry, new_name, run_sql

ROOT = Path(__file__).parents[2]
OPERATING = ROOT / "docs" / "operating.md"
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
NEW_ADMIN = ("create-admin", "--username", "ada", "--email", "ada@example.com", "--password-stdin")
DATABASE_COMMANDS = [("migrate",), ("migrate", "--check"), NEW_ADMIN, ("sign-out", "--all-users"), ("backup", "a.dump")]


@pytest.fixture
def bare_database(postgres: str) -> str:
    """A database without tables."""
    name = new_name("bare")
    run_sql(postgres.format("postgres"), f"CREATE DATABASE {name}")
    return postgres.format(name)


def run(
    folder: Path, environment: dict[str, str], *words: str, input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with no other variable than these and the PATH."""
    return subprocess.run(
        [sys.executable, "-m", "quilt_registry", *words],
        env={"PATH": os.environ["PATH"], **environment}, cwd=folder, input=input,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_migrate_runs_with_the_environment_of_compose(bare_database: str, tmp_path: Path) -> None:
    service = SERVICES["migrate"]
    assert service["environment"] == {"DATABASE_URL_FILE": "/run/secrets/database_url"}
    (tmp_path / "database_url").write_text(bare_database + "\n")
    environment = {"DATABASE_URL_FILE": str(tmp_path / "database_url")}
    assert schema.head() in succeeds(run(tmp_path, environment, *service["command"]))


@pytest.mark.drill
@pytest.mark.parametrize("words", DATABASE_COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"PACKAGE_BUCKET_NAME": "b", "SMTP_PORT": "none", "TEAM_ID": "Not Valid", "CATALOG_URL": "nonsense"},
    ],
    ids=["alone", "beside wrong ones"],
)
def test_commands_of_the_database_need_no_other_setting(
    new_database: Callable[[], str], tmp_path: Path, words: tuple[str, ...], others: dict[str, str]
) -> None:
    environment = {"DATABASE_URL": new_database(), **others}
    succeeds(run(tmp_path, environment, *words, input="long enough\n"))


@pytest.mark.drill
def test_commands_of_the_store_name_what_they_lack(new_database: Callable[[], str], tmp_path: Path) -> None:
    environment = {"DATABASE_URL": new_database()}
    succeeds(run(tmp_path, environment, "verify-objects"))
    lacking = {**environment, "PACKAGE_BUCKET_NAME": "b"}
    refuses(run(tmp_path, lacking, "verify-objects"), "PACKAGE_BUCKET_NAME needs AWS_ACCESS_KEY_ID")
    refuses(run(tmp_path, environment, "serve"), "QUILT_SECRET_KEY")


def blocks(document: Path, beginning: str) -> list[str]:
    """Return the shell blocks of a document that contain a text."""
    found = re.findall(r"```\w*\n(.*?)```", document.read_text(), re.DOTALL)
    return [block for block in found if beginning in block]


def run_block(block: str, folder: Path, environment: dict[str, str], **replacements: str) -> str:
    """Run the lines of a document in a shell with no other variables than these."""
    for text, replacement in {"/backups": str(folder), **replacements}.items():
        block = block.replace(text, replacement)
    path = os.pathsep.join([str(Path(sys.executable).parent), str(programs()), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-euc", block],
        env={**environment, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=200,
    )
    return succeeds(done)


@pytest.mark.drill
def test_backup_and_restore_run_as_the_manual_says(
    local_registry: Callable[..., LocalRegistry], postgres: str, tmp_path: Path
) -> None:
    registry = local_registry()
    top_hash = registry.make_person("anna").push("trees", {"x": b"1"})
    assert registry.database_url
    here = {"DATABASE_URL": registry.database_url, "QUILT_HOME": str(registry.home)}
    [backup] = blocks(OPERATING, "quilt-registry backup /backups/monday.dump ")
    run_block(backup.replace(" --objects", " --overwrite --objects"), tmp_path, here)
    [restore] = blocks(OPERATING, "quilt-registry restore")
    assert registry.stop() == 0
    # createdb gets the server's place from the variables that libpq reads.
    socket = re.search(r"host=([^&]+)", postgres)
    assert socket
    new_home = {"PGHOST": socket[1].replace("%2F", "/"), "PGUSER": "postgres", "QUILT_HOME": str(tmp_path / "home")}
    name = new_name("restored")
    url = postgres.format(name)
    shown = run_block(
        restore, tmp_path, new_home, **{"UTF8 registry": f"UTF8 {name}", "postgresql://…/registry": f"'{url}'"}
    )
    assert "Restored" in shown
    assert run_sql(url, "SELECT encode(top_hash, 'hex') FROM instance")[0][0] == top_hash


@pytest.mark.drill
def test_an_upgrade_runs_as_the_manual_says(new_database: Callable[[], str], tmp_path: Path) -> None:
    [upgrade] = blocks(OPERATING, "quilt-registry backup /backups/before.dump")
    assert schema.head() in run_block(upgrade, tmp_path, {"DATABASE_URL": new_database()})
