"""Responses that are sent while a generator makes them, and clients that leave meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from litestar import Litestar, Request, get

from quilt_registry.api.messages import stream


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("leaves_at", ["http.response.start", "http.response.body"])
def test_a_client_that_leaves_ends_the_generator_at_once(encoding: str, leaves_at: str) -> None:
    """Not when the garbage collector comes, because the generator may hold memory and the turns of others."""
    ended = []

    async def generate() -> AsyncGenerator[bytes]:
        try:
            for _ in range(5):
                yield b"x" * 20_000
        finally:
            ended.append(True)

    @get("/")
    async def handler(request: Request[Any, Any, Any]) -> Any:
        return await stream(request, generate())

    async def run() -> None:
        left = asyncio.Event()

        async def receive() -> Any:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == leaves_at:
                left.set()
                await asyncio.sleep(600 if leaves_at == "http.response.body" else 0)

        headers = [(b"accept-encoding", encoding.encode())]
        scope: Any = {
            "type": "http", "method": "GET", "path": "/", "raw_path": b"/", "query_string": b"", "headers": headers,
        }  # fmt: skip
        await Litestar([handler], openapi_config=None)(scope, receive, send)
        for _ in range(3):  # generators that are not iterated yet go with their last reference, one after the other
            await asyncio.sleep(0)
        assert ended

    asyncio.run(run())
