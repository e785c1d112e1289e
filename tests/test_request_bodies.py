"""Request bodies as they arrive: how many a worker holds in memory, and clients that leave."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quilt_registry.errors import ClientLeft, Overloaded
from quilt_registry.web import request_bodies
from quilt_registry.web.request_bodies import RequestBodies

MB = 1_000_000


async def call(bodies: RequestBodies, *messages: dict[str, Any], path: str = "/api/x", method: str = "POST") -> None:
    """Send a request with these messages."""
    waiting = iter(messages)

    async def receive() -> Any:
        return next(waiting)

    scope: Any = {"type": "http", "path": path, "method": method}
    await bodies(scope, receive, None)  # type: ignore[arg-type]


def piece(size: int, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


class Reader:
    """An application that reads the body, and holds it until it is released."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.sizes: list[int] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size, more = 0, True
        while more:
            message = await receive()
            size, more = size + len(message["body"]), message["more_body"]
        self.sizes.append(size)
        await self.release.wait()


def test_bodies_share_the_memory_of_a_worker() -> None:
    async def run() -> None:
        reader = Reader()
        bodies = RequestBodies(reader, MB)
        reader.release.clear()
        held = [asyncio.create_task(call(bodies, *[piece(MB // 10)] * 9, piece(MB // 10, more=False))) for _ in "123"]
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(reader.sizes) == 3
        with pytest.raises(Overloaded) as refused:
            await call(bodies, *[piece(MB // 10)] * 10)
        assert refused.value.headers == {"Retry-After": str(request_bodies.RETRY_AFTER)}
        reader.release.set()
        await call(bodies, piece(100, more=False))  # small ones are never refused
        await asyncio.gather(*held)
        assert bodies.memory.used == 0
        await call(bodies, piece(MB), piece(MB, more=False))

    asyncio.run(run())


def test_objects_are_written_to_disk_and_do_not_count() -> None:
    async def run() -> None:
        reader = Reader()
        bodies = RequestBodies(reader, 1000)
        await call(bodies, piece(MB), piece(MB, more=False), path="/objects/objs/anna/x", method="PUT")
        assert reader.sizes == [2 * MB]
        assert bodies.memory.used == 0

    asyncio.run(run())


def test_a_refused_body_frees_its_memory() -> None:
    async def run() -> None:
        bodies = RequestBodies(Reader(), 1000)
        for _ in range(3):
            with pytest.raises(Overloaded):
                await call(bodies, piece(MB), piece(MB, more=False))
        assert bodies.memory.used == 0

    asyncio.run(run())


def test_a_client_that_leaves_ends_the_body() -> None:
    async def run() -> None:
        bodies = RequestBodies(Reader(), 1000)
        with pytest.raises(ClientLeft):
            await call(bodies, piece(10), {"type": "http.disconnect"})
        assert bodies.memory.used == 0

    asyncio.run(run())
