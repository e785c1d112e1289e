"""Objects in a directory, with the features of S3 that released clients need.

A file gets its final name only after its bytes are on disk and their SHA-256 matches the name. Uploads and downloads
use about BLOCK_SIZE bytes of memory, whatever the size of the object.
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

BLOCK_SIZE = 1 << 20  # bytes
MAX_UPLOAD_AGE = 8 * 86_400  # seconds; longer than the lifetime of any presigned URL
_KEY = re.compile(r"(objs/[a-z0-9_]+|staging/[a-z0-9_]+/[a-z0-9_]+)/([0-9a-f]{64})")


def is_key(key: str) -> bool:
    """Return whether a key is valid."""
    return _KEY.fullmatch(key) is not None


class Directory:
    """An object store in a directory. The path of each object below it is the object's key."""

    def __init__(self, root: Path):
        self.root = root.absolute()

    def prepare(self) -> None:
        """Create the directory. Delete remains of interrupted uploads, and uploads whose push never came."""
        uploads = self.root / "uploads"
        uploads.mkdir(parents=True, exist_ok=True)
        oldest = time.time() - MAX_UPLOAD_AGE
        for leftover in [*uploads.iterdir(), *self.root.glob("staging/*/*/*")]:
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def probe(self) -> None:
        """Raise Unavailable if objects cannot be written."""
        try:
            free = shutil.disk_usage(self.root).free
        except OSError as error:
            raise Unavailable(f"The object store cannot be read: {error.strerror}.") from error
        if not os.access(self.root / "uploads", os.W_OK | os.X_OK) or free == 0:
            raise Unavailable("The object store is full or cannot be written.")

    def path(self, key: str) -> Path:
        """Return the path of an object. Raise NotFound for an invalid key."""
        if not is_key(key):
            raise NotFound("There is no such object.")
        return self.root / key

    def sizes(self, keys: Iterable[str]) -> dict[str, int]:
        """Return the sizes in bytes of those objects that exist."""
        sizes = {}
        root, stat = f"{self.root}/", os.stat  # because a Path for each of many keys takes long
        for key in keys:
            try:
                sizes[key] = stat(root + key).st_size
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unavailable(f"The object store cannot be read: {error.strerror}.") from error
        return sizes

    async def receive(self, key: str, chunks: AsyncIterator[bytes], length: int | None) -> None:
        """Store an upload durably. `length` is the expected size in bytes, if known.

        Raise Invalid if its SHA-256 does not match the key, StoreFull if there is no space.
        """
        target = self.path(key)
        upload = _Upload(self.root / "uploads" / secrets.token_hex(16))
        try:
            if length is not None and length > shutil.disk_usage(self.root).free:
                raise StoreFull("The registry has no space left for this object.")
            buffer = bytearray()
            async for chunk in chunks:
                buffer += chunk
                if len(buffer) >= BLOCK_SIZE:
                    await asyncio.to_thread(upload.write, bytes(buffer))
                    buffer.clear()
            await asyncio.to_thread(upload.finish, bytes(buffer), target)
        except OSError as error:
            raise _unavailable(error) from error
        finally:
            upload.close()

    async def stream(self, key: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to `stop`, which is exclusive."""
        with self.open(key) as file:
            file.seek(start)
            while start < stop:
                block = await asyncio.to_thread(file.read, min(BLOCK_SIZE, stop - start))
                if not block:
                    raise Unavailable("The object is shorter than expected.")
                start += len(block)
                yield block

    def listing(self, owner: str | None = None) -> Iterator[tuple[str, int, float]]:
        """Yield key, size in bytes and time of modification in seconds of all final objects, or of one owner's."""
        for directory in self.root.glob(f"objs/{owner or '*'}/"):
            with os.scandir(directory) as files:
                for file in files:
                    with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                        stat = file.stat()
                        yield f"objs/{directory.name}/{file.name}", stat.st_size, stat.st_mtime

    def sha256(self, key: str) -> str:
        """Return the SHA-256 of an object's contents. Raise FileNotFoundError."""
        with (self.root / key).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading. Raise NotFound."""
        try:
            return self.path(key).open("rb")
        except FileNotFoundError:
            raise NotFound("There is no such object.") from None

    def promote(self, staged: str, key: str) -> None:
        """Give a staged object its final name. Its SHA-256 was checked when it was uploaded."""
        target = self.path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(self.path(staged), target)
        except FileExistsError:
            pass
        except OSError as error:
            raise _unavailable(error) from error

    def fsync(self, directory: str) -> None:
        """Make the file names in a directory such as `objs/anna` durable. The contents of the files already are."""
        try:
            descriptor = os.open(self.root / directory, os.O_RDONLY)
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
    """A temporary file that receives an object."""

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
        sha256 = self.hash.hexdigest()
        if sha256 != target.name:
            raise Invalid(f"The uploaded bytes have the SHA-256 {sha256}, but this URL is for {target.name}.")
        os.fsync(self.file.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        os.rename(self.path, target)

    def close(self) -> None:
        """Close the file, and delete it unless it got its final name."""
        if self.file is not None:
            self.file.close()
            self.path.unlink(missing_ok=True)


def _unavailable(error: OSError) -> Unavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFull("The registry has no space left for objects. Nothing was stored.")
    return Unavailable(f"The object store cannot be written: {error.strerror}.")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and stop (exclusive) of the byte range that a `Range` header requests from `size` bytes.

    Return None without a header, and for forms that a server may ignore (RFC 9110 §14.2). Raise RangeNotSatisfiable.
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
