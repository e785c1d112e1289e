"""Work that is done ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest

from quilt_registry.background import ahead


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks go on until a condition is true."""
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("The condition never came true.")


async def numbers(made: list[int], count: int) -> AsyncIterator[int]:
    try:
        for number in range(count):
            await asyncio.sleep(0)
            made.append(number)
            yield number
        raise ValueError("after the last")
    finally:
        made.append(-1)


def test_the_next_item_is_made_while_the_caller_works_on_one() -> None:
    made: list[int] = []
    seen = []

    async def run() -> None:
        async for number in ahead(numbers(made, 3)):
            await until(lambda number=number: made[-1] != number)
            seen.append((number, made[-1]))

    with pytest.raises(ValueError, match="after the last"):
        asyncio.run(run())
    assert seen == [(0, 1), (1, 2), (2, -1)]


def test_no_more_than_one_item_is_made_ahead_and_leaving_ends_the_work() -> None:
    async def run() -> None:
        made: list[int] = []
        async with aclosing(ahead(numbers(made, 100))) as items:
            async for _ in items:
                await until(lambda: len(made) == 2)
                for _ in range(100):
                    await asyncio.sleep(0)
                break
        assert made in ([0, 1], [0, 1, -1])

    asyncio.run(run())


def test_nothing_is_made_of_nothing() -> None:
    async def nothing() -> AsyncIterator[int]:
        for number in ():
            yield number

    async def run() -> list[int]:
        return [number async for number in ahead(nothing())]

    assert asyncio.run(run()) == []
