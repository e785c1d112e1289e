"""Fair shares: users take turns at costly work, and the requests of one user may use only so much at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from weakref import WeakValueDictionary

from quilt_registry.errors import Overloaded

# The person of the current request: a username, or a client's network. "" is the registry itself.
current_person: ContextVar[str] = ContextVar("person", default="")

# In each line of a person. More than any program sends at once that reads its responses, because a response whose next
# part must wait in a line that is full breaks off.
MAX_WAITING = 500

Line = tuple[str, bool]  # a person, and whether the work is heavy


class Turns:
    """Slots for work. People take turns, in each of their own lines; heavy work leaves one slot to light work.

    A single slot is for both.
    """

    def __init__(self, slots: int):
        self.slots = self._free = slots
        self._heavy = 0  # slots with heavy work
        self._lines: dict[Line, deque[asyncio.Future[None]]] = {}  # the next turn is that of the first

    @asynccontextmanager
    async def slot(self, *, heavy: bool) -> AsyncIterator[None]:
        """Have a slot for the length of the block. Raise Overloaded."""
        await self.take(heavy=heavy)
        try:
            yield
        finally:
            self.give_back(heavy=heavy)

    async def take(self, *, heavy: bool) -> None:
        """Wait for a slot. The caller gives it back with `give_back`. Raise Overloaded if the person's line is full."""
        line = self._lines.setdefault((current_person.get(), heavy), deque())
        if len(line) >= MAX_WAITING:
            raise Overloaded("Too many of your requests are waiting. Send fewer at once.")
        turn = asyncio.get_running_loop().create_future()
        line.append(turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the slot came at the same moment
                self.give_back(heavy=heavy)
            raise

    def give_back(self, *, heavy: bool) -> None:
        """Return a slot, which goes to the next in turn."""
        self._free += 1
        self._heavy -= heavy
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and (line := next(filter(self._may_start, self._lines), None)):
            waiting = self._lines[line]
            turn = waiting.popleft()
            if not turn.cancelled():
                self._free -= 1
                self._heavy += line[1]
                turn.set_result(None)
                self._lines[line] = self._lines.pop(line)  # at the end, behind all others
            if not waiting:
                del self._lines[line]

    def _may_start(self, line: Line) -> bool:
        return not line[1] or self._heavy < max(1, self.slots - 1)


class Allowance:
    """An amount that each person may use at once. A request that would use more waits until earlier ones have ended.

    A single request may exceed the amount.
    """

    def __init__(self, amount: int):
        self.amount = amount
        self._uses: WeakValueDictionary[str, _Use] = WeakValueDictionary()

    @asynccontextmanager
    async def use(self, amount: int) -> AsyncIterator[None]:
        """Use an amount for the length of the block."""
        use = self._uses.setdefault(current_person.get(), _Use())
        while use.total and use.total + amount > self.amount:
            await use.reduced.wait()
        use.total += amount
        try:
            yield
        finally:
            use.total -= amount
            use.reduced.set()
            use.reduced = asyncio.Event()


class _Use:
    """What the requests of a person use, and an event that is set when it becomes less."""

    def __init__(self) -> None:
        self.total = 0
        self.reduced = asyncio.Event()
