"""Checks that a command succeeded or failed with an error message."""

from __future__ import annotations

import subprocess


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    """Assert that a command succeeded. Return its output."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refuses(done: subprocess.CompletedProcess[str], *expected: str) -> None:
    """Assert that a command failed with an error message that contains the expected texts."""
    assert done.returncode == 1, done.stdout + done.stderr
    assert all(each in done.stderr for each in expected), done.stderr
    assert "Traceback" not in done.stderr
