"""PostgreSQL's client programs."""

from __future__ import annotations

import asyncio

import pytest

from quilt_registry.cli import embedded_postgres, postgres_programs
from quilt_registry.errors import Unavailable


def test_a_program_that_cannot_encrypt_says_what_to_install() -> None:
    async def dump() -> None:
        url = "postgresql://registry@127.0.0.1:1/registry?sslmode=verify-full"
        async with postgres_programs.start(embedded_postgres.programs() / "pg_dump", url=url) as program:
            await program.finish()

    with pytest.raises(Unavailable, match=r"This pg_dump cannot encrypt its connection.* Install PostgreSQL's client"):
        asyncio.run(dump())
