"""Request bodies as they arrive: how many a worker holds in memory, and clients that leave."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from quilt_registry.errors import ClientLeft, Overloaded, TooSlow
from quilt_registry.turns import current_person
from quilt_registry.web import request_bodies
from quilt_registry.web.request_bodies import RequestBodies

MB = 1_000_000


async def call(
    bodies: RequestBodies, *messages: dict[str, Any], path: str = "/api/x", method: str = "POST", person: str = "anna"
) -> None:
    """Send a request with these messages."""
    waiting = iter(messages)
    current_person.set(person)

    async def receive() -> Any:
        await asyncio.sleep(0)
        return next(waiting)

    async def send(message: Any) -> None:
        pass

    scope: Any = {"type": "http", "path": path, "method": method}
    await bodies(scope, receive, send)


def hold(bodies: RequestBodies, person: str, size: int) -> asyncio.Task[None]:
    """Send a request with a large body, in pieces."""
    pieces = [piece(size // 10)] * 9
    return asyncio.create_task(call(bodies, *pieces, piece(size // 10, more=False), person=person))


async def arrived(reader: Reader, count: int) -> None:
    """Wait until the application has so many bodies."""
    while len(reader.sizes) < count:  # noqa: ASYNC110  the application does not know how many there will be
        await asyncio.sleep(0)


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
        held = [hold(bodies, person, MB) for person in ("anna", "ben", "carl")]
        await arrived(reader, 3)
        with pytest.raises(Overloaded, match="The registry is receiving") as refused:
            await hold(bodies, "dora", MB)
        assert refused.value.headers == {"Retry-After": "10"}
        reader.release.set()
        await call(bodies, piece(100, more=False))  # small ones are never refused
        await asyncio.gather(*held)
        assert not bodies.memory.used
        await hold(bodies, "dora", MB)

    asyncio.run(run())


def test_nobody_takes_the_memory_of_others() -> None:
    async def run() -> None:
        reader = Reader()
        bodies = RequestBodies(reader, MB)
        reader.release.clear()
        held = [hold(bodies, "anna", MB // 2) for _ in "12"]
        await arrived(reader, 2)
        with pytest.raises(Overloaded, match="your large requests"):
            await hold(bodies, "anna", MB // 2)
        held.append(hold(bodies, "ben", MB))
        await arrived(reader, 3)
        reader.release.set()
        await asyncio.gather(*held)
        assert not bodies.memory.used

    asyncio.run(run())


def test_a_single_body_is_bounded_by_its_reader() -> None:
    """Whose sentence says what is wrong."""

    async def run() -> None:
        reader = Reader()
        await call(RequestBodies(reader, MB), piece(2 * MB, more=False))
        assert reader.sizes == [2 * MB]

    asyncio.run(run())


def test_a_body_counts_until_its_response_starts() -> None:
    async def run() -> None:
        used = []

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            used.append(bodies.memory.used.total())
            await send({"type": "http.response.start", "status": 200, "headers": []})
            used.append(bodies.memory.used.total())

        bodies = RequestBodies(answer, MB)
        await call(bodies, piece(MB, more=False))
        assert used == [MB - request_bodies.UNCOUNTED_BYTES, 0]

    asyncio.run(run())


def test_a_body_that_holds_much_memory_must_bring_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece comes after a second, as its clock says."""
    monkeypatch.setattr(request_bodies, "monotonic", itertools.count().__next__)

    async def run() -> None:
        bodies = RequestBodies(Reader(), 100 * MB)
        await call(bodies, *[piece(2_000)] * 200, piece(0, more=False))
        await call(bodies, piece(50 * MB), *[piece(50_000)] * 200, piece(0, more=False))
        with pytest.raises(TooSlow):
            await call(bodies, piece(50 * MB), *[piece(2_000)] * 200, piece(0, more=False))

    asyncio.run(run())


def test_objects_are_written_to_disk_and_do_not_count() -> None:
    async def run() -> None:
        reader = Reader()
        bodies = RequestBodies(reader, 1000)
        await call(bodies, piece(MB), piece(MB, more=False), path="/objects/objs/anna/x", method="PUT")
        assert reader.sizes == [2 * MB]
        assert not bodies.memory.used

    asyncio.run(run())


def test_a_refused_body_frees_its_memory() -> None:
    async def run() -> None:
        bodies = RequestBodies(Reader(), 1000)
        for _ in range(3):
            with pytest.raises(Overloaded):
                await call(bodies, piece(MB), piece(MB, more=False))
        assert not bodies.memory.used

    asyncio.run(run())


def test_a_client_that_leaves_ends_the_body() -> None:
    async def run() -> None:
        bodies = RequestBodies(Reader(), 1000)
        with pytest.raises(ClientLeft):
            await call(bodies, piece(10), {"type": "http.disconnect"})
        assert not bodies.memory.used

    asyncio.run(run())
