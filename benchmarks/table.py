"""The table that the benchmarks print."""

from __future__ import annotations


def row(what: str, count: int | str, result: str, good: bool | None = None, budget: str | None = None) -> None:
    mark = {None: "", True: "ok", False: "OVER"}[good]
    number = f"{count:,}" if isinstance(count, int) else count
    print(f"{what:40} {number:>10} {result:>22}   {budget or '':12} {mark}", flush=True)
