"""Read process information from /proc. Processes may end meanwhile."""

from __future__ import annotations

from pathlib import Path


def read_proc(pid: int, file: str) -> str:
    """Return one of a process's files in /proc; "" if the process has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    except OSError:
        return ""


def commands() -> dict[int, list[str]]:
    """Return the command line of each process."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid: read_proc(pid, "cmdline").split("\0") for pid in pids}


def is_alive(pid: int) -> bool:
    return read_proc(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


def children(pid: int) -> list[int]:
    """Return the PIDs of the living children of a process."""
    return [child for child in commands() if is_alive(child) and _parent(child) == pid]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [below for each in found for below in descendants(each)]


def _parent(pid: int) -> int:
    fields = read_proc(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0
