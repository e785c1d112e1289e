"""Objects in a directory, with the features of S3 that released clients need.

A file gets its final name only after its bytes are on disk and their SHA-256 matches the name. Uploads and downloads
use about BLOCK_SIZE bytes of memory, whatever the size of the object. Only the user who runs the registry can open the
directories and files.
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
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from quilt_registry.errors import Invalid, NotFound, RangeNotSatisfiable, StoreFull, TooLarge, Unavailable

BLOCK_SIZE = 1 << 20  # bytes
# Uploads never use this much of the disk: a gigabyte, or a twentieth of a small disk. An embedded PostgreSQL on the
# same disk stops if it cannot write its log, and operators need room to repair anything.
RESERVED_BYTES, RESERVED_SHARE = 1_000_000_000, 20
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
        """Create the directory, or close an existing one to other users. Delete uploads that were never completed."""
        uploads = self.root / "uploads"
        make_directory(uploads)
        # Data of earlier releases may have open directories below. Closing this one suffices, and takes no time.
        make_private(self.root)
        oldest = time.time() - MAX_UPLOAD_AGE
        for leftover in [*uploads.iterdir(), *self.root.glob("staging/*/*/*")]:
            with contextlib.suppress(FileNotFoundError):
                if leftover.stat().st_mtime < oldest:
                    leftover.unlink()

    def probe(self) -> None:
        """Raise Unavailable if objects cannot be written."""
        try:
            free = _free_bytes(self.root)
        except OSError as error:
            raise Unavailable(f"The object store cannot be read: {error.strerror}.") from error
        if not os.access(self.root / "uploads", os.W_OK | os.X_OK) or free <= 0:
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

    async def receive(self, key: str, chunks: AsyncIterator[bytes], length: int | None, limit: int) -> None:
        """Store an upload of at most `limit` bytes durably. `length` is the expected size in bytes, if known.

        Raise Invalid if its SHA-256 does not match the key, TooLarge, StoreFull if there is no space.
        """
        target = self.path(key)
        upload = _Upload(self.root / "uploads" / secrets.token_hex(16), limit)
        try:
            upload.check_room(length or 0)
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

    async def stream(self, key: str, start: int, stop: int) -> AsyncGenerator[bytes]:
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
        """Return the SHA-256 of an object's contents, or "" if the disk cannot read them. Raise FileNotFoundError."""
        try:
            with (self.root / key).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            if error.errno == errno.EIO:
                return ""
            raise

    def set_aside(self, key: str) -> bool:
        """Move an object to `quarantine/` unless its contents have its SHA-256. Return whether it was moved."""
        path, target = self.path(key), self.root / "quarantine" / key.partition("/")[2]
        with contextlib.suppress(FileNotFoundError):
            if self.sha256(key) == path.name:
                return False
            make_directory(target.parent, inherit_owner=True)
            os.replace(path, target)
            if self.sha256(str(target)) != path.name:
                return True
            os.replace(target, path)  # because an upload has replaced the damaged object in between
        return False

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading. Raise NotFound."""
        try:
            return self.path(key).open("rb")
        except FileNotFoundError:
            raise NotFound("There is no such object.") from None

    def promote(self, keys: Iterable[tuple[str, str]]) -> None:
        """Give staged objects final names. Each pair is a staging key and a final key.

        Their SHA-256 was checked when they were uploaded. Raise FileNotFoundError if one was removed, Unavailable.
        """
        try:
            for staged, key in keys:
                target, link = self.path(key), self.root / "uploads" / secrets.token_hex(16)
                make_directory(target.parent, inherit_owner=True)
                os.link(self.path(staged), link)
                os.replace(link, target)  # because there may be a damaged object
                link.unlink(missing_ok=True)  # which remains if both names are links to one file
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unavailable(error) from error

    def fsync(self, directory: str) -> None:
        """Make the file names in a directory such as `objs/anna` durable. The contents of the files already are."""
        with contextlib.suppress(FileNotFoundError):
            fsync(self.root / directory)
            fsync(self.root / directory / "..")  # because another process may be creating the directory

    def remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.path(key).unlink(missing_ok=True)


class _Upload:
    """A temporary file that receives an object of at most `limit` bytes."""

    def __init__(self, path: Path, limit: int):
        self.path, self.limit = path, limit
        self.file: BinaryIO | None = None
        self.hash = hashlib.sha256()
        self.size = 0

    def check_room(self, more: int) -> None:
        """Raise TooLarge or StoreFull if there is no room for more bytes."""
        if self.size + more > self.limit:
            raise TooLarge(
                f"This registry stores objects of at most {self.limit:,} bytes. Split the file into smaller ones, or "
                "ask the registry's operator to raise MAX_OBJECT_BYTES."
            )
        if _free_bytes(self.path.parent) < more:
            raise StoreFull(
                "The registry has no space left for this object. Ask the registry's operator for space, then try again."
            )

    def write(self, data: bytes) -> None:
        self.check_room(len(data))
        self.size += len(data)
        if self.file is None:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self.file = os.fdopen(descriptor, "wb", buffering=0)
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
        make_directory(target.parent, inherit_owner=True)
        replaces = target.exists()
        os.rename(self.path, target)
        if replaces:  # an object that was damaged; the push may have no new objects, and sync no directory
            fsync(target.parent)

    def close(self) -> None:
        """Close the file, and delete it unless it got its final name."""
        if self.file is not None:
            self.file.close()
            self.path.unlink(missing_ok=True)


def make_directory(path: Path, *, inherit_owner: bool = False) -> None:
    """Create a directory and its parents, durably, for the current user alone.

    `inherit_owner`: if root creates them, they belong to the owner of the directory that they are in.
    """
    if path.is_dir():
        return
    make_directory(path.parent, inherit_owner=inherit_owner)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
        if inherit_owner:
            give_to_owner_of_directory(path)
    fsync(path.parent)


def give_to_owner_of_directory(path: Path) -> None:
    """If root runs a command, give what it created to the owner of the directory, because the registry must read it."""
    if os.geteuid() != 0:
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        owner = os.fstat(directory)
        with contextlib.suppress(PermissionError):  # a root that may not give files away, as in some containers
            # By the open directory, because its owner could put a link to another file in its place.
            os.chown(path.name, owner.st_uid, owner.st_gid, dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(directory)


def make_private(path: Path) -> None:
    """Close a directory to other users, if it belongs to the current user and can be changed."""
    stat = path.stat()
    if stat.st_uid == os.geteuid() and stat.st_mode & 0o077:
        with contextlib.suppress(OSError):
            path.chmod(0o700)


def fsync(path: Path) -> None:
    """Make a file or the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _free_bytes(directory: Path) -> int:
    """Return how many more bytes uploads may use."""
    disk = shutil.disk_usage(directory)
    return disk.free - min(RESERVED_BYTES, disk.total // RESERVED_SHARE)


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
