"""Copies of the objects of a directory store, in another directory or in a bucket."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import click

from quilt_registry.cli.dump import sibling
from quilt_registry.errors import Unavailable
from quilt_registry.storage.directory import Directory, fsync, give_to_owner_of_directory, is_key, make_directory
from quilt_registry.storage.objects import ObjectStore

CONCURRENT_UPLOADS = 16
REPEAT = "Run the command again: it copies only the objects that are still missing."


def copy_objects(source: Path, target: Path) -> int:
    """Copy the objects of one directory store that another one lacks. Return their number. Raise Unavailable.

    Creates hard links if the file system allows it, because they take no space.
    """
    try:
        copied = 0
        directories: set[Path] = set()
        for key, size, _ in Directory(source).listing():
            copy = target / key
            if not is_key(key) or _is_copied(Directory(target), key, size):
                continue
            make_directory(copy.parent, inherit_owner=True)
            _copy(source / key, copy, size)
            directories.add(copy.parent)
            copied += 1
        for directory in directories:
            fsync(directory)
    except OSError as error:
        raise Unavailable(f"The objects could not be copied: {error.strerror}: {error.filename}. {REPEAT}") from error
    return copied


def _is_copied(target: Directory, key: str, size: int) -> bool:
    """Return whether there is a copy. If its size differs, it may be the object that is damaged, not the copy."""
    existing = target.sizes([key]).get(key)
    return existing == size or (existing is not None and target.sha256(key) == key[-64:])


def _copy(source: Path, target: Path, size: int) -> None:
    new = sibling(target, ".new")
    new.unlink(missing_ok=True)
    if not _link(source, new):
        shutil.copyfile(source, new)
        new.chmod(0o600)
        give_to_owner_of_directory(new)
        fsync(new)
    if new.stat().st_size != size:
        raise OSError(0, f"the copy does not have {size} bytes", str(new))
    new.rename(target)


def _link(source: Path, new: Path) -> bool:
    """Create a hard link unless the owner of its directory could not read it. Return whether there is one."""
    if new.parent.stat().st_uid not in (0, source.stat().st_uid):
        return False
    try:
        os.link(source, new)
    except OSError:
        return False
    return True


async def upload_objects(source: Path, store: ObjectStore) -> tuple[int, list[str]]:
    """Upload the objects of a directory store that a bucket lacks. Return their number, and the keys of damaged ones.

    Damaged objects are not uploaded: the database calls each object of a directory store verified, so that nothing
    would read it in the bucket again. Raise Unavailable.
    """
    directory = Directory(source)
    damaged: list[str] = []

    async def work() -> None:
        for key, size in waiting:
            if await asyncio.to_thread(directory.sha256, key) == key[-64:]:
                await store.upload(key, source / key, size)
            else:
                damaged.append(key)

    try:
        missing = await _missing(directory, store)
        with click.progressbar(missing, label=f"Uploading {len(missing):,} objects") as bar:
            waiting = iter(bar)
            await asyncio.gather(*(work() for _ in range(CONCURRENT_UPLOADS)))
    except (Unavailable, OSError) as error:
        raise Unavailable(f"The objects could not be copied: {error} {REPEAT}") from error
    return len(missing) - len(damaged), sorted(damaged)


async def _missing(directory: Directory, store: ObjectStore) -> list[tuple[str, int]]:
    """Return key and size of the objects in a directory that are not in a bucket with that size."""
    present = {(key, size) async for page in store.listing() for key, size, _ in page}
    return [(key, size) for key, size, _ in directory.listing() if is_key(key) and (key, size) not in present]
