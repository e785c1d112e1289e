"""Where an object lies; is it there; a signed URL to it.

An object of a package of *owner* lies at `objs/<owner>/<sha256>`. What somebody else than the owner uploads goes to
`staging/<owner>/<uploader>/<sha256>` first: holding a URL must never be enough to read or to damage what belongs to
another.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum
from itertools import islice

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.store import S3Store

from quilt_registry.errors import Unavailable
from quilt_registry.settings import Settings
from quilt_registry.storage.directory import Directory
from quilt_registry.storage.signed_urls import LocalSigner, S3Signer, Signer

HEADS_AT_ONCE = 32
LISTINGS_AT_ONCE = 16  # one for each first hex digit
BATCH = 1000  # objects of a listing that come together: a page of a bucket's


class ObjectState(IntEnum):
    """What is known of an object that some package names, as the column `object.state` has it."""

    PRESENT = 0  # the store has bytes under its key
    VERIFIED = 1  # these bytes have its SHA-256
    DAMAGED = 2  # they do not


def final_key(owner: str, name: str) -> str:
    """Where an object that counts lies; the owner's own uploads go there directly."""
    return f"objs/{owner}/{name}"


def staging_key(owner: str, uploader: str, name: str) -> str:
    """Where an upload waits for the push that makes it count."""
    return f"staging/{owner}/{uploader}/{name}"


class ObjectStore:
    """The object store: a bucket, or a directory."""

    def __init__(self, settings: Settings):
        self.signer: Signer
        self.directory: Directory | None = None
        self._bucket: S3Store | None = None
        if settings.package_bucket_name:
            secret = settings.aws_secret_access_key
            self.signer = S3Signer(
                settings.package_bucket_name,
                settings.s3_endpoint,
                settings.aws_region,
                settings.aws_access_key_id or "",
                secret.get_secret_value() if secret else "",
                settings.package_url_expiration,
            )
            self._bucket = self.signer.store(settings.s3_internal_endpoint)
        else:
            assert settings.quilt_secret_key is not None
            key = hashlib.sha256(b"objects " + settings.quilt_secret_key.get_secret_value().encode()).digest()
            self.signer = LocalSigner(settings.registry_url, key, settings.package_url_expiration)
            self.directory = Directory(settings.objects_directory)

    def prepare(self) -> None:
        """Make ready at start. Raises OSError if the directory cannot be made."""
        if self.directory:
            self.directory.prepare()

    def state(self, *, staged: bool) -> ObjectState:
        """What is known of objects that a push found: a directory takes no wrong bytes, staged ones were read."""
        return ObjectState.VERIFIED if self.directory or staged else ObjectState.PRESENT

    async def sizes(self, keys: Sequence[str], among: int = 0) -> dict[str, int]:
        """The sizes in bytes of those objects that are there; `among` says about how many lie beside them.

        A few are asked for one by one; for many, what lies there is listed, in parallel.
        """
        if self.directory:
            return await asyncio.to_thread(self.directory.sizes, keys)
        async with _answering():
            if len(keys) <= LISTINGS_AT_ONCE * 8 or len(keys) < (len(keys) + among) / 1000:
                return await self._heads(keys)
            return await self._listings(keys)

    async def _heads(self, keys: Sequence[str]) -> dict[str, int]:
        found: dict[str, int] = {}
        waiting = iter(keys)

        async def work() -> None:
            for key in waiting:
                try:
                    found[key] = (await obstore.head_async(self._s3, key))["size"]
                except FileNotFoundError:
                    continue

        await asyncio.gather(*(work() for _ in range(min(HEADS_AT_ONCE, len(keys)))))
        return found

    async def _listings(self, keys: Sequence[str]) -> dict[str, int]:
        """List the folders of the keys, sixteen stretches of each at once."""
        wanted = set(keys)
        found: dict[str, int] = {}

        async def stretch(folder: str, digit: int) -> None:
            # "/" sorts before every digit, ":" after "9", "g" after "f": the ends of a stretch of hex names.
            offset, end = f"{folder}/{digit:x}", f"{folder}/{digit:x}g"
            async for chunk in obstore.list(self._s3, folder, offset=offset, chunk_size=1000):
                found.update((each["path"], each["size"]) for each in chunk if each["path"] in wanted)
                if chunk[-1]["path"] > end:
                    return

        folders = {key.rpartition("/")[0] for key in keys}
        await asyncio.gather(*(stretch(folder, digit) for folder in folders for digit in range(16)))
        return found

    async def beginning(self, key: str, limit: int) -> bytes | None:
        """The first bytes of an object, at most `limit`; None if it is not there.

        Old clients stored gzip objects, which are unpacked by the caller: they begin with 1f 8b.
        """
        if self.directory:
            return await asyncio.to_thread(self._read_file, key, limit)
        async with _answering():
            try:
                size = (await obstore.head_async(self._s3, key))["size"]
                if size == 0:  # some stores refuse a range of nothing
                    return b""
                return bytes(await obstore.get_range_async(self._s3, key, start=0, end=min(size, limit)))
            except FileNotFoundError:
                return None

    def _read_file(self, key: str, limit: int) -> bytes | None:
        assert self.directory is not None
        if not self.directory.sizes([key]):
            return None
        with self.directory.open(key) as file:
            return file.read(limit)

    async def promote(self, owner: str, uploader: str, names: Sequence[str], taken: set[str]) -> None:
        """Let staged uploads count: check their bytes, and put those not in `taken` under their final names.

        In a bucket the uploader could still overwrite what was staged, so a private copy is made, read and hashed,
        and moved on. Raises Unavailable; Damaged with the names of those whose bytes are others.
        """
        if self.directory:
            for name in names:
                if name not in taken:
                    self.directory.promote(staging_key(owner, uploader, name), final_key(owner, name))
            return
        wrong: list[str] = []
        waiting = iter(names)

        async def work() -> None:
            for name in waiting:
                private = f"adopting/{secrets.token_hex(16)}"
                await obstore.copy_async(self._s3, staging_key(owner, uploader, name), private)
                try:
                    if await self._sha256(private) != name:
                        wrong.append(name)
                    elif name not in taken:
                        await obstore.copy_async(self._s3, private, final_key(owner, name))
                finally:
                    await obstore.delete_async(self._s3, private)

        async with _answering():
            await asyncio.gather(*(work() for _ in range(min(HEADS_AT_ONCE // 2, len(names)))))
        if wrong:
            raise DigestMismatch(wrong)

    async def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        async for chunk in (await obstore.get_async(self._s3, key)).stream():
            await asyncio.to_thread(digest.update, memoryview(chunk))
        return digest.hexdigest()

    async def is_intact(self, key: str, name: str) -> bool:
        """Whether an object is there and has the SHA-256 that it is named by."""
        async with _answering():
            try:
                if self.directory:
                    return await asyncio.to_thread(self.directory.sha256, key) == name
                return await self._sha256(key) == name
            except FileNotFoundError:
                return False

    async def listing(self, owner: str | None = None) -> AsyncIterator[list[tuple[str, int, float]]]:
        """What lies under final names, of one owner or of all, in batches: key, size, when it was changed (seconds).

        Raises Unavailable.
        """
        async with _answering():
            if self.directory:
                listed = self.directory.listing(owner)
                while batch := await asyncio.to_thread(lambda: list(islice(listed, BATCH))):
                    yield batch
            else:
                folder = f"objs/{owner}" if owner else "objs"
                async for page in obstore.list(self._s3, folder, chunk_size=BATCH):
                    yield [(each["path"], each["size"], each["last_modified"].timestamp()) for each in page]

    async def fsync(self, owner: str) -> None:
        """Make sure that what was found under an owner's final names survives a power cut. A bucket always does."""
        if self.directory:
            await asyncio.to_thread(self.directory.fsync, f"objs/{owner}")

    async def remove(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        if self.directory:
            await asyncio.to_thread(self.directory.remove, keys)
        elif keys:
            async with _answering():
                await obstore.delete_async(self._s3, keys)

    async def self_test(self) -> None:
        """Write, read and remove a small object. Raises Unavailable with the store's reason."""
        key = f"check/{secrets.token_hex(8)}"
        if self.directory:
            try:
                self.directory.prepare()
                path = self.directory.root / "uploads" / key.rpartition("/")[2]
                path.write_bytes(b"check")
                path.unlink()
            except OSError as error:
                raise Unavailable(f"{error.strerror}: {error.filename}") from error
            return
        async with _answering():
            await obstore.put_async(self._s3, key, b"check")
            await obstore.get_async(self._s3, key)
            await obstore.delete_async(self._s3, key)

    async def probe(self) -> None:
        """Look, as cheaply as can be, whether the store answers and may be written to. Raises Unavailable."""
        if self.directory:
            await asyncio.to_thread(self.directory.probe)
            return
        async with _answering():
            async for _ in obstore.list(self._s3, "check"):  # nothing lies there for longer than a moment
                return

    @property
    def _s3(self) -> S3Store:
        assert self._bucket is not None
        return self._bucket


class DigestMismatch(Exception):
    """Objects whose bytes do not have the SHA-256 that they are named by."""

    def __init__(self, names: list[str]):
        super().__init__(", ".join(names))
        self.names = names


@asynccontextmanager
async def _answering() -> AsyncIterator[None]:
    """Turn the store's failures into Unavailable. The library's messages go on with request details: one line does."""
    try:
        yield
    except (StoreError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Unavailable(f"The object store does not answer: {str(error).splitlines()[0][:200]}") from error
