"""What Linux tells of processes, which may end while one looks."""

from __future__ import annotations

from pathlib import Path


def told(pid: int, file: str) -> str:
    """One of a process's files; nothing of one that has ended."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(errors="replace")
    except OSError:
        return ""


def commands() -> dict[int, list[str]]:
    """The command line of each process."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid: told(pid, "cmdline").split("\0") for pid in pids}


def is_alive(pid: int) -> bool:
    return told(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


def children(pid: int) -> list[int]:
    """The living processes that a process started."""
    return [child for child in commands() if is_alive(child) and _parent(child) == pid]


def descendants(pid: int) -> list[int]:
    found = children(pid)
    return found + [below for each in found for below in descendants(each)]


def _parent(pid: int) -> int:
    fields = told(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0
