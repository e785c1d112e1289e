"""Other users of the host cannot read the data of a registry, nor what lies beside it."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from quilt_registry.cli import embedded_postgres
from quilt_registry.cli.embedded_postgres import ROOT_STAND_IN, _close, _Server
from quilt_registry.cli.traversal import let_traverse
from quilt_registry.storage.directory import Directory
from tests.registry import Registry

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def can_read(name: str, path: Path) -> bool:
    """Return whether a user of the system can read a file."""
    user = pwd.getpwnam(name)
    done = subprocess.run(
        ["cat", str(path)], user=user.pw_uid, group=user.pw_gid, extra_groups=[], capture_output=True, cwd="/"
    )
    return done.returncode == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A closed directory that holds a data directory, and a file that all could read if they could reach it."""
    made = Path(tempfile.mkdtemp(prefix="quilt-test-"))
    (made / "notes").write_text("private")
    (made / "notes").chmod(0o644)
    yield made
    shutil.rmtree(made)


def test_everything_in_an_objects_directory_is_private(local_registry: Callable[..., Registry]) -> None:
    registry = local_registry()
    anna, carl = registry.make_person("anna"), registry.make_person("carl")
    anna.push("trees", {"x": b"oak"}, is_team=True)
    carl.push("trees", {"x": b"elm"}, owner="anna")
    found = {path: mode(path) for path in registry.objects.rglob("*")}
    assert {each for path, each in found.items() if path.is_dir()} | {mode(registry.objects)} == {0o700}
    assert {each for path, each in found.items() if path.is_file()} == {0o600}


def test_an_objects_directory_of_an_earlier_release_is_closed(tmp_path: Path) -> None:
    (tmp_path / "objects" / "objs").mkdir(parents=True)
    (tmp_path / "objects").chmod(0o755)
    Directory(tmp_path / "objects").prepare()
    assert mode(tmp_path / "objects") == 0o700


@pytest.mark.parametrize(
    ("entries", "closed"), [(["postgres", "objects", "postgres-17"], True), (["postgres", "mail"], False)]
)
def test_a_data_directory_is_closed_unless_it_is_also_something_else(
    tmp_path: Path, entries: list[str], closed: bool
) -> None:
    tmp_path.chmod(0o755)
    for name in entries:
        (tmp_path / name).mkdir()
    (tmp_path / "lock").write_text("1")
    _close(tmp_path, None)
    assert mode(tmp_path) == (0o700 if closed else 0o755)


@pytest.mark.drill
@as_root
def test_root_lets_nobody_but_the_database_through(folder: Path) -> None:
    """An embedded registry that root runs, in a directory that is closed to others as /root is."""
    registry = Registry(folder / "home")
    del registry.environment["QUILT_SECRET_KEY"]
    registry.home.mkdir()
    registry.home.chmod(0o755)
    try:
        registry.start()
        assert httpx.get(registry.url + "/readyz").json()["database"] == "ok"
        assert mode(registry.home) == 0o710
        assert mode(registry.objects) == 0o700
        assert mode(registry.home / "secret") == mode(registry.home / "lock") == 0o600
        assert not can_read("nobody", folder / "notes")
        assert not can_read("nobody", registry.home / "lock")
        assert not can_read(ROOT_STAND_IN, registry.home / "lock")
        assert mode(folder) & 0o007 == 0
        assert "privacy" not in registry.command("check").stdout
        registry.objects.chmod(0o755)
        warned = registry.command("check").stdout
        assert f"privacy   warning: Other users of this host can open {registry.objects} (mode 755)" in warned
        assert f"chmod 700 {registry.objects}" in warned
    finally:
        registry.stop()


@as_root
def test_one_user_may_traverse_a_closed_directory(folder: Path) -> None:
    daemon = pwd.getpwnam("daemon")
    for _ in range(2):  # the second time changes nothing
        let_traverse(daemon, folder)
        assert can_read("daemon", folder / "notes")
        assert not can_read("nobody", folder / "notes")
    folder.chmod(0o750)
    os.chown(folder, -1, pwd.getpwnam("nobody").pw_gid)
    folder.chmod(0o700)  # hides the entries; no other than the one may come back
    let_traverse(daemon, folder)
    assert can_read("daemon", folder / "notes")
    assert not can_read("nobody", folder / "notes")


@as_root
def test_a_file_system_without_access_lists_is_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise OSError(95, "Operation not supported", str(path))

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(embedded_postgres.EmbeddedError, match=rf"{folder}: Operation not supported. Set QUILT_HOME"):
        _Server(folder / "home" / "postgres")
