"""Turns of people at work that costs time, so that nobody has to wait for all that another person asks for."""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import ContextVar

# The person of the current request: a username, or a client's network. "" is the registry itself.
current_person: ContextVar[str] = ContextVar("person", default="")

Line = tuple[str, bool]  # a person, and whether the work is heavy


class Turns:
    """Slots for work. People take turns, in each of their own lines; heavy work leaves one slot to light work."""

    def __init__(self, slots: int):
        self.slots = self._free = slots
        self._heavy = 0  # slots with heavy work
        self._lines: dict[Line, deque[asyncio.Future[None]]] = {}  # the next turn is that of the first

    async def take(self, *, heavy: bool) -> None:
        """Wait for a slot. The caller gives it back with `give_back`."""
        turn = asyncio.get_running_loop().create_future()
        self._lines.setdefault((current_person.get(), heavy), deque()).append(turn)
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
            waiting = self._lines.pop(line)
            turn = waiting.popleft()
            if waiting:
                self._lines[line] = waiting  # at the end, behind all others
            if not turn.cancelled():
                self._free -= 1
                self._heavy += line[1]
                turn.set_result(None)

    def _may_start(self, line: Line) -> bool:
        return not line[1] or self._heavy < self.slots - 1
