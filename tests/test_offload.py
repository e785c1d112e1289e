"""Helper processes: their limits of memory and time, and the turns that people take."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from unittest import mock

import pytest

from quilt_registry import offload, turns as turns_module
from quilt_registry.errors import Overloaded, TooLarge, Unavailable
from quilt_registry.offload import MAX_INLINE_WEIGHT, MAX_LIGHT_WEIGHT, Offload
from quilt_registry.turns import Turns, current_person

LIGHT, HEAVY = MAX_INLINE_WEIGHT + 1, MAX_LIGHT_WEIGHT + 1


def with_helpers(test: Callable[[Offload], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    async def run() -> None:
        helpers = Offload(2)
        try:
            await test(helpers)
        finally:
            await helpers.close()

    def run_test() -> None:
        asyncio.run(run())

    run_test.__name__, run_test.__doc__ = test.__name__, test.__doc__
    return run_test


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises((TooLarge, Unavailable)) as refused:
        await call
    message = refused.value.message
    assert message.endswith(".")
    return message


# ------------------------------------------------------------------------------------------------------- helpers


@with_helpers
async def test_small_jobs_run_at_once_and_others_in_a_helper(helpers: Offload) -> None:
    assert await helpers.run(MAX_INLINE_WEIGHT, os.getpid) == os.getpid()
    assert await helpers.run(LIGHT, os.getpid) != os.getpid()
    assert await helpers.run(HEAVY, os.getpid) != os.getpid()


@with_helpers
async def test_an_exception_comes_back_with_its_traceback(helpers: Offload) -> None:
    with pytest.raises(ValueError, match="invalid literal") as raised:
        await helpers.run(LIGHT, int, "x")
    assert "Traceback" in raised.value.__notes__[0]


@with_helpers
async def test_a_job_that_needs_too_much_memory_is_refused_and_the_helper_works_on(helpers: Offload) -> None:
    with mock.patch.object(offload, "MAX_MEMORY", 500 * 2**20):
        pid = await helpers.run(LIGHT, os.getpid)
        message = await refusal(helpers.run(LIGHT, bytearray, 600 * 2**20))
        assert "needs more memory than 500 MB" in message
        assert await helpers.run(LIGHT, os.getpid) == pid
        assert len(await helpers.run(LIGHT, bytearray, 100 * 2**20)) == 100 * 2**20


@pytest.mark.parametrize(
    ("machine", "workers", "processes", "helper"),
    [(2, 4, 2, 1), (4, 1, 2, 2), (16, 4, 2, 2), (12, 2, 2, 3), (8, 1, 2, 4), (32, 1, 2, 4), (64, 4, 4, 2.6)],
)
def test_heavy_jobs_share_half_of_the_memory(machine: int, workers: int, processes: int, helper: float) -> None:
    """In GiB. Each gets at least two, for a million files, as long as that is no more than half."""
    helpers = Offload(processes, workers)
    with mock.patch.object(offload, "machine_memory", return_value=machine * 2**30):
        assert offload.memory_limit(helpers._heavy_jobs) == pytest.approx(helper * 2**30, rel=0.1)


@with_helpers
async def test_a_helper_that_has_grown_is_replaced(helpers: Offload) -> None:
    pid = await helpers.run(HEAVY, os.getpid)
    await helpers.run(HEAVY, bytes, 10 * 2**20)
    assert await helpers.run(HEAVY, os.getpid) == pid
    assert len(await helpers.run(HEAVY, bytes.ljust, b"x", 400 * 2**20)) == 400 * 2**20
    assert await helpers.run(HEAVY, os.getpid) != pid
    await helpers.tidy()


@with_helpers
async def test_heavy_and_light_jobs_use_the_helpers_that_others_of_their_kind_use(helpers: Offload) -> None:
    light, heavy = await asyncio.gather(helpers.run(LIGHT, os.getpid), helpers.run(HEAVY, os.getpid))
    for weight in (LIGHT, HEAVY, HEAVY, LIGHT, LIGHT, HEAVY):
        await helpers.run(weight, os.getpid)
    assert [await helpers.run(weight, os.getpid) for weight in (HEAVY, LIGHT, HEAVY)] == [heavy, light, heavy]


@with_helpers
async def test_a_job_that_takes_too_long_is_stopped_and_its_helper_replaced(helpers: Offload) -> None:
    pid = await helpers.run(LIGHT, os.getpid)
    with mock.patch.multiple(offload, LIGHT_TIMEOUT=0.1, HEAVY_TIMEOUT=0.1):
        assert "took too long" in await refusal(helpers.run(LIGHT, time.sleep, 600))
        assert "took too long" in await refusal(helpers.run(HEAVY, time.sleep, 600))
    assert await helpers.run(LIGHT, os.getpid) != pid


@with_helpers
async def test_a_killed_helper_costs_one_job_if_it_worked_and_none_if_it_was_idle(helpers: Offload) -> None:
    assert "ran out of memory" in await refusal(helpers.run(LIGHT, os._exit, 1))
    pid = await helpers.run(LIGHT, os.getpid)
    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(helpers._idle[0]._process.join)
    assert await helpers.run(LIGHT, os.getpid) != pid


@with_helpers
async def test_a_helper_that_dies_does_not_repeat_the_reason_of_an_earlier_job(helpers: Offload) -> None:
    await helpers.run(LIGHT, os.getpid)
    (helper,) = helpers._idle
    helper.stop_late()  # at the moment at which the job is done
    await asyncio.to_thread(helper._process.join)
    assert "ran out of memory" in await refusal(helpers.run(LIGHT, os._exit, 1))


@with_helpers
async def test_a_helper_whose_request_is_gone_finishes_its_job_first(helpers: Offload) -> None:
    pid = await helpers.run(LIGHT, os.getpid)
    gone = asyncio.create_task(helpers.run(LIGHT, time.sleep, 0.1))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    pids = [await helpers.run(LIGHT, os.getpid) for _ in range(3)]
    assert os.getpid() not in pids
    assert pid in {each._process.pid for each in helpers._helpers}
    assert len(helpers._helpers) == 2


@with_helpers
async def test_a_light_job_passes_any_number_of_heavy_ones(helpers: Offload) -> None:
    large = [asyncio.create_task(helpers.run(HEAVY, time.sleep, 600)) for _ in range(10)]
    await asyncio.sleep(0)
    await helpers.run(LIGHT, os.getpid)
    assert not any(each.done() for each in large)
    for each in large:
        each.cancel()
    await asyncio.gather(*large, return_exceptions=True)


# --------------------------------------------------------------------------------------------------------- turns


def order_of(slots: int, *asked: tuple[str, bool]) -> list[str]:
    """Let people ask for turns, in this order, while all slots are taken. Return the order in which they get them."""

    async def run() -> list[str]:
        turns, got = Turns(slots), list[str]()

        async def work(person: str, heavy: bool) -> None:
            current_person.set(person)
            await turns.take(heavy=heavy)
            got.append(person)
            await asyncio.sleep(0)
            turns.give_back(heavy=heavy)

        for _ in range(slots):
            await turns.take(heavy=False)
        waiting = [asyncio.create_task(work(*each)) for each in asked]
        await asyncio.sleep(0)
        assert not got
        turns.give_back(heavy=False)
        await asyncio.gather(*waiting)
        return got

    return asyncio.run(run())


def test_one_who_asks_for_much_does_not_delay_others() -> None:
    asked = [*[("anna", False)] * 4, ("ben", False), ("carl", False), ("ben", False)]
    assert order_of(1, *asked) == ["anna", "ben", "carl", "anna", "ben", "anna", "anna"]


def test_heavy_work_takes_turns_too() -> None:
    asked = [*[("anna", True)] * 3, ("ben", True), ("carl", False)]
    assert order_of(2, *asked) == ["anna", "ben", "carl", "anna", "anna"]


def test_a_person_may_not_let_any_number_of_requests_wait() -> None:
    async def run() -> None:
        turns = Turns(1)
        await turns.take(heavy=False)
        waiting = [asyncio.create_task(turns.take(heavy=False)) for _ in range(turns_module.MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="your requests"):
            await turns.take(heavy=False)
        current_person.set("ben")
        waiting.append(asyncio.create_task(turns.take(heavy=False)))
        for _ in waiting:
            turns.give_back(heavy=False)
        await asyncio.gather(*waiting)

    asyncio.run(run())


def test_heavy_work_leaves_a_slot_to_light_work() -> None:
    async def run() -> None:
        turns = Turns(3)
        await turns.take(heavy=True)
        await turns.take(heavy=True)
        third = asyncio.create_task(turns.take(heavy=True))
        await turns.take(heavy=False)
        assert not third.done()
        turns.give_back(heavy=False)
        await asyncio.sleep(0)
        assert not third.done()
        turns.give_back(heavy=True)
        await third

    asyncio.run(run())


def test_who_stops_waiting_keeps_the_place_for_the_next_request() -> None:
    async def run() -> None:
        turns, got = Turns(1), list[str]()

        async def work(person: str) -> None:
            current_person.set(person)
            await turns.take(heavy=False)
            got.append(person)
            turns.give_back(heavy=False)

        await turns.take(heavy=False)
        gone, *others = [asyncio.create_task(work(person)) for person in ("anna", "anna", "ben")]
        await asyncio.sleep(0)
        gone.cancel()
        turns.give_back(heavy=False)
        await asyncio.gather(*others)
        assert got == ["anna", "ben"]
        assert not turns._lines

    asyncio.run(run())


@pytest.mark.parametrize("granted", [False, True])
def test_who_stops_waiting_loses_no_slot(granted: bool) -> None:
    async def run() -> None:
        turns = Turns(2)
        await turns.take(heavy=True)
        waiting = asyncio.create_task(turns.take(heavy=True))
        await asyncio.sleep(0)
        if granted:  # the slot comes at the moment of the cancellation
            turns.give_back(heavy=True)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not granted:
            turns.give_back(heavy=True)
        await turns.take(heavy=True)
        await turns.take(heavy=False)
        assert turns._free == 0

    asyncio.run(run())
