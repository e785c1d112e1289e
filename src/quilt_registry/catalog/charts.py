"""Bar charts of numbers by week or month. All measures are pixels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from quilt_registry.catalog import formats

WIDTH, HEIGHT = 312, 64  # of the bars: 52 weeks at 6 pixels
MIN_PITCH = 3  # from a bar to the next
MIN_HEIGHT = 1  # the tick of a week without events
LABEL_WIDTH = 24
MAJOR = 4  # narrow screens show every fourth label

Unit = Literal["week", "month"]


class Label(Struct, frozen=True):
    """A label under a bar. Narrow screens show only `major` ones."""

    x: float
    text: str
    major: bool


class Axis(Struct, frozen=True):
    """The time axis that several charts share: the names of its weeks or months, and the labels under some of them."""

    unit: Unit
    names: list[str]
    labels: list[Label]
    pitch: float

    @property
    def width(self) -> float:
        return round(self.pitch * len(self.names), 2)


class Bar(Struct, frozen=True):
    """A bar. `text` says its number in words."""

    x: float
    width: float
    height: float
    value: int
    text: str


class Chart(Struct, frozen=True):
    """A bar chart of one kind of events, `push`, `install` or `view`. The last bar is the running week or month."""

    kind: str
    plural: str
    bars: list[Bar]

    @property
    def total(self) -> int:
        return sum(bar.value for bar in self.bars)

    @property
    def current(self) -> Bar:
        return self.bars[-1]

    @property
    def previous(self) -> Bar:
        return self.bars[-2]

    @property
    def peak(self) -> Bar:
        """The highest bar, of several the first."""
        return max(self.bars, key=lambda bar: bar.value)


def axis(unit: Unit, starts: Sequence[datetime]) -> Axis:
    """Return the axis of weeks or months that start at these times."""
    pitch = max(MIN_PITCH, WIDTH / len(starts))
    labels: list[Label] = []
    for n, start in enumerate(starts):
        x = round(n * pitch, 2)
        if _begins_unit(unit, start, pitch) and (not labels or x - labels[-1].x >= LABEL_WIDTH - 0.5):
            labels.append(Label(x, _label(unit, start), len(labels) % MAJOR == 0))
    return Axis(unit, [_name(unit, start) for start in starts], labels, pitch)


def _begins_unit(unit: Unit, start: datetime, pitch: float) -> bool:
    """Return whether a bar may have a label: the first week of a month, or a month; a January if bars are thin."""
    if unit == "week":
        return start.day <= 7
    return start.month == 1 or pitch >= LABEL_WIDTH / 2


def _label(unit: Unit, start: datetime) -> str:
    return f"{start:%Y}" if unit == "month" and start.month == 1 else f"{start:%b}"


def _name(unit: Unit, start: datetime) -> str:
    return f"Week of {formats.day(start)}" if unit == "week" else f"{start:%B %Y}"


def chart(axis: Axis, kind: str, plural: str, values: Sequence[int]) -> Chart:
    """Return the bars of a kind of events, of which the highest fills the chart."""
    top = max(values) or 1
    bars = [
        Bar(
            x=round(n * axis.pitch, 2),
            width=round(axis.pitch * 2 / 3, 2),
            height=max(MIN_HEIGHT, round(value / top * HEIGHT, 1)),
            value=value,
            text=f"{axis.names[n]}: {formats.count(value, kind, plural)}",
        )
        for n, value in enumerate(values)
    ]
    return Chart(kind, plural, bars)
