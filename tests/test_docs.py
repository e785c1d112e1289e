"""Commands, options, make targets and links in the documents exist. (test_settings.py checks the settings.)"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest

from quilt_registry.cli import cli

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md"), *ROOT.glob("src/**/*.md")]
)


def code(text: str) -> list[str]:
    """Return everything that a document marks as code."""
    return re.findall(r"`([^`\n]+)`", text) + [
        line.strip() for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]


def commands(document: Path, program: str) -> list[list[str]]:
    found = [line.partition("#")[0].split() for line in code(document.read_text()) if line.startswith(program + " ")]
    return [words[1:] for words in found]


def test_every_make_target_exists() -> None:
    targets = {words[0] for document in DOCUMENTS for words in commands(document, "make")}
    assert {"run", "test", "release"} <= targets
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(document: Path) -> None:
    for words in commands(document, "quilt-registry"):
        for name in words[0].split("|"):
            if not name.islower() or name == "--version":  # a placeholder, or an option that every command has
                continue
            command = cli.commands[name]
            if isinstance(command, click.Group):
                command = command.commands[words[1]]
            options = {option for parameter in command.params for option in parameter.opts}
            used = {word.strip("[]") for word in words if word.strip("[").startswith("--")}
            assert used - {"--help"} <= options, f"{document.name}: {name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_between_documents_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_table_of_commands_is_complete() -> None:
    text = (ROOT / "docs/operating.md").read_text()
    for name in cli.commands:
        assert f"| `quilt-registry {name}" in text
