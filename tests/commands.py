"""Whether a command succeeded, or refused with a sentence."""

from __future__ import annotations

import subprocess


def succeeds(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def refuses(done: subprocess.CompletedProcess[str], *says: str) -> None:
    assert done.returncode == 1, done.stdout + done.stderr
    assert all(each in done.stderr for each in says), done.stderr
    assert "Traceback" not in done.stderr
