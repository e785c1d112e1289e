"""Objects in a directory: what the old client demands of S3, on a plain file system.

A file has its final name only when its bytes are on disk and their SHA-256 is the name's. Upload and download memory
is bounded by BLOCK whatever an object's size.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from quilt_registry.errors import Invalid, NotFound, RangeNotSatisfiable, StoreFull, Unavailable

BLOCK = 1 << 20
LEFTOVER_AGE = 8 * 86_400  # seconds; longer than any signed URL lives
_KEY = re.compile(r"(objs/[a-z0-9_]+|staging/[a-z0-9_]+/[a-z0-9_]+)/([0-9a-f]{64})")


def is_key(key: str) -> bool:
    """Whether an object may have this key."""
    return _KEY.fullmatch(key) is not None


class Directory:
    """The keys below one directory."""

    def __init__(self, root: Path):
        self.root = root.absolute()

    def prepare(self) -> None:
        """Make the directory, and remove what uploads that were cut off, and pushes that never came, left behind."""
        uploads = self.root / "uploads"
        uploads.mkdir(parents=True, exist_ok=True)
        old = time.time() - LEFTOVER_AGE
        for leftover in [*uploads.iterdir(), *self.root.glob("staging/*/*/*")]:
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < old:
                    leftover.unlink()

    def probe(self) -> None:
        """Raises Unavailable if nothing can be written."""
        try:
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise Unavailable(f"The object store cannot be read: {error.strerror}.") from error
        if not os.access(self.root / "uploads", os.W_OK | os.X_OK) or free == 0:
            raise Unavailable("The object store cannot be written to, or is full.")

    def path(self, key: str) -> Path:
        """The file of a key. Raises NotFound for anything that is not a key."""
        if not is_key(key):
            raise NotFound("There is no such object.")
        return self.root / key

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """The sizes in bytes of those objects that are there."""
        found = {}
        root, stat = f"{self.root}/", os.stat
        for key in keys:
            try:
                found[key] = stat(root + key).st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unavailable(f"The object store cannot be read: {error.strerror}.") from error
        return found

    async def receive(self, key: str, chunks: AsyncIterator[bytes], length: int | None) -> None:
        """Store the bytes of an upload, durably, if they are what the key says.

        Raises Invalid if their SHA-256 is another, StoreFull if there is no room.
        """
        target = self.path(key)
        upload = _Upload(self.root / "uploads" / secrets.token_hex(16))
        try:
            if length is not None and length > shutil.disk_usage(self.root).free:
                raise StoreFull("The registry has no room left for this object.")
            buffer = bytearray()
            async for chunk in chunks:
                buffer += chunk
                if len(buffer) >= BLOCK:
                    await asyncio.to_thread(upload.write, bytes(buffer))
                    buffer.clear()
            await asyncio.to_thread(upload.finish, bytes(buffer), target)
        except OSError as error:
            raise _refusal(error) from error
        finally:
            upload.discard()

    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to, not with, `stop`."""
        with self.open(key) as file:
            file.seek(start)
            while start < stop:
                block = await asyncio.to_thread(file.read, min(BLOCK, stop - start))
                if not block:
                    raise Unavailable("The object ends before its size.")
                start += len(block)
                yield block

    def listing(self, owner: str | None = None) -> Iterator[tuple[str, int, float]]:
        """Every file below `objs`, of one owner or of all: its key, size in bytes, when it was changed (seconds)."""
        for folder in self.root.glob(f"objs/{owner or '*'}/"):
            with os.scandir(folder) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):  # removed since
                        stat = file.stat()
                        yield f"objs/{folder.name}/{file.name}", stat.st_size, stat.st_mtime

    def sha256(self, key: str) -> str:
        """The SHA-256 of an object's bytes. Raises FileNotFoundError."""
        with (self.root / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def open(self, key: str) -> BinaryIO:
        try:
            return self.path(key).open("rb")
        except FileNotFoundError:
            raise NotFound("There is no such object.") from None

    def promote(self, staged: str, key: str) -> None:
        """Give a staged object, whose bytes were checked when they came, its final name as well."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path(staged), target)
        except FileExistsError:
            pass
        except OSError as error:
            raise _refusal(error) from error

    def fsync(self, folder: str) -> None:
        """Make the names in a folder (such as `objs/anna`) durable; their bytes are already."""
        try:
            descriptor = os.open(self.root / folder, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.path(key).unlink(missing_ok=True)


class _Upload:
    """A file on its way in."""

    def __init__(self, path: Path):
        self.path = path
        self.file: BinaryIO | None = None
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> None:
        if self.file is None:
            self.file = self.path.open("xb", buffering=0)
        self.hash.update(data)
        view = memoryview(data)
        while view:
            view = view[self.file.write(view) :]

    def finish(self, data: bytes, target: Path) -> None:
        self.write(data)
        assert self.file is not None
        found = self.hash.hexdigest()
        if found != target.name:
            raise Invalid(f"The bytes sent have the SHA-256 {found}, but this URL is for {target.name}.")
        os.fsync(self.file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.path, target)

    def discard(self) -> None:
        """Close the file, and remove it unless it got its final name."""
        if self.file is not None:
            self.file.close()
            self.path.unlink(missing_ok=True)


def _refusal(error: OSError) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull("The registry has no room left for objects. Nothing was stored.")
    return Unavailable(f"The object store cannot be written: {error.strerror}.")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The start and stop (exclusive) that a `Range` header asks for of an object of `size` bytes.

    None without a header, and for forms that a server may ignore (RFC 9110 §14.2). Raises RangeNotSatisfiable.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", header.strip()) if header else None
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(size - int(last), 0), size
    else:
        start, stop = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    if start >= stop:
        raise RangeNotSatisfiable(size)
    return start, stop
