"""A PostgreSQL server for one test, and a marker for tests that need /proc."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quilt_registry.cli import embedded_postgres

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc")


@contextmanager
def own_postgres(home: Path) -> Iterator[embedded_postgres._Server]:
    """Run a PostgreSQL server that the test may stop and start."""
    server = embedded_postgres._Server(home.resolve())
    server.initialize()
    server.start()
    try:
        server.ensure_database()
        yield server
    finally:
        server.stop()
