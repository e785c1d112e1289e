"""Files of a version that a text links to by their file names."""

from __future__ import annotations

import asyncio
import keyword
import re
from collections.abc import Collection, Sequence

from quilt_registry.database import Database
from quilt_registry.manifests.walk import Walk
from quilt_registry.packages import access, instances
from quilt_registry.packages.instances import Instance

Path = tuple[str, ...]


async def find(db: Database, instance: Instance, paths: Collection[Path]) -> dict[Path, Path]:
    """Return the path of the node that each path of file names means; nothing for those that lead nowhere.

    A name is that of a node, or of a file or folder from which a build made the name of a node.
    Raise NotFound if the version was just deleted.
    """
    if not paths:
        return {}
    digests, counts = await instances.read_index(db, instance.id)
    pages = _SharedPages(db, digests)
    found = await asyncio.gather(*(_find(Walk(counts, pages.fetch), path) for path in paths))
    return {path: node for path, node in zip(paths, found, strict=True) if node is not None}


async def _find(walk: Walk, path: Path) -> Path | None:
    found: list[str] = []
    for position, name in enumerate(path):
        for candidate in node_names(name, is_folder=position < len(path) - 1):
            if len(await walk.find([*found, candidate])) == len(found) + 2:
                found.append(candidate)
                break
        else:
            return None
    return tuple(found)


def node_names(name: str, *, is_folder: bool) -> list[str]:
    """Return the names of nodes that a file or folder may have, the most likely first.

    A build replaces characters, and leaves out a file's extension unless two files would have the same name.
    """
    stem, dot, _ = name.rpartition(".")
    sources = [name] if is_folder or not dot or not stem else [stem, name]
    return list(dict.fromkeys([name, *map(_identifier, sources)]))


def _identifier(name: str) -> str:
    made = re.sub(r"[^0-9A-Za-z_]", "_", name).strip("_")
    if made[:1].isdigit():
        made = f"n{made}"
    return f"{made}_" if keyword.iskeyword(made) else made


class _SharedPages:
    """The pages of a manifest for walks that run at the same time. What they need next is read by one query."""

    def __init__(self, db: Database, digests: list[bytes]):
        self._db, self._digests = db, digests
        self._bodies: dict[int, bytes] = {}
        self._needed: set[int] = set()
        self._lock = asyncio.Lock()

    async def fetch(self, numbers: Sequence[int]) -> list[bytes]:
        """Return the bodies of pages. Raise NotFound if the version was just deleted."""
        self._needed.update(numbers)
        await asyncio.sleep(0)  # so that the other walks add what they need
        async with self._lock:
            if needed := self._needed - self._bodies.keys():
                self._needed.clear()
                await self._read(needed)
        return [self._bodies[number] for number in numbers]

    async def _read(self, numbers: set[int]) -> None:
        found = await instances.read_bodies(self._db, {self._digests[number] for number in numbers})
        try:
            self._bodies.update({number: found[self._digests[number]] for number in numbers})
        except KeyError:
            raise access.instance_not_found() from None
