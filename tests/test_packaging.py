"""The distribution: its metadata, its README on an index page, and what an installation without extras says."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import pytest
from trove_classifiers import classifiers

ROOT = Path(__file__).parent.parent
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]
SITE_PACKAGES = Path(sysconfig.get_paths()["purelib"])


def supported_pythons() -> list[str]:
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", each) for each in PROJECT["classifiers"]]
    return [each[1] for each in found if each]


def test_classifiers_exist_and_begin_with_the_oldest_python() -> None:
    assert set(PROJECT["classifiers"]) <= classifiers
    assert f">={supported_pythons()[0]}" == PROJECT["requires-python"]
    assert PROJECT["authors"]


def test_what_users_can_install_is_for_users() -> None:
    assert PROJECT["optional-dependencies"].keys() == {"server", "embedded"}
    assert any(each.startswith("pytest>") for each in PYPROJECT["dependency-groups"]["dev"])


def test_the_readme_works_on_an_index_page() -> None:
    """An index does not resolve relative links, and the project has no public URL that they could begin with."""
    text = (ROOT / "README.md").read_text()
    assert not re.findall(r"\]\((?!https?:|#)[^)]*\)", text)
    for path in re.findall(r"`([\w./]+/[\w.]+\.\w+|[A-Z]+\.md)`", text.partition("## Learn more")[2]):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("words", [["--help"], ["serve"], ["migrate"]], ids=" ".join)
def test_without_extras_the_command_says_what_to_install(tmp_path: Path, words: list[str]) -> None:
    """`pip install quilt-registry` alone brings the base dependencies."""
    needed = ["click", "msgspec", *(each.name for each in SITE_PACKAGES.glob("quilt_registry-*.dist-info"))]
    for name in needed:
        (tmp_path / name).symlink_to(SITE_PACKAGES / name)
    paths = [str(ROOT / "src"), str(tmp_path)]
    run = f"import sys; sys.path[:0] = {paths}; from quilt_registry.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-ISc", run, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert "pip install 'quilt-registry[server,embedded]'" in sentence


@pytest.mark.drill
@pytest.mark.parametrize("python", supported_pythons())
def test_every_dependency_has_a_wheel(python: str, tmp_path: Path) -> None:
    """The build of a source distribution runs its code and needs tools that hosts may lack."""
    extras = PROJECT["optional-dependencies"]
    options = ["--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:", f"--python-version={python}"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, f"--target={tmp_path}",
         *PROJECT["dependencies"], *extras["server"], *extras["embedded"]],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
