"""The browser of the tests: the distribution's Chromium (make test-deps)."""

from __future__ import annotations

import shutil

from tests.deploy.debian import skip_or_fail


def find_chromium() -> str:
    """The path of Chromium. Where it is not installed, the tests that need it are skipped, but not in CI."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        skip_or_fail("Chromium is not installed (make test-deps)")
    assert path
    return path
