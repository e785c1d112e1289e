"""The object store and its keys.

The objects of an owner's packages have keys `objs/<owner>/<sha256>`. Uploads by other users get a key
`staging/<owner>/<uploader>/<sha256>` first, so that a presigned URL never lets them read or overwrite the owner's
objects.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import zlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from enum import IntEnum
from itertools import islice
from pathlib import Path

import obstore
from obstore.exceptions import BaseError as StoreError
from obstore.store import S3Store

from quilt_registry.errors import Unavailable
from quilt_registry.settings import StorageSettings
from quilt_registry.storage.directory import BLOCK_SIZE, Directory, make_directory
from quilt_registry.storage.signed_urls import LocalSigner, S3Signer, Signer
from quilt_registry.turns import Turns

CONCURRENT_HEADS = 32
HEX_DIGITS = range(16)  # of the SHA-256 that a key ends with; each listing covers the keys with one first digit
CONCURRENT_PROMOTIONS = 16
LISTING_PAGE_SIZE = 1000  # objects in one response of a bucket
MIN_PART_SIZE, MAX_PARTS = 8 << 20, 10_000  # of an upload: bytes, and the limit of S3
CONCURRENT_PARTS = 2
MAX_HEADS = 128  # up to this many keys, one HEAD for each is faster than listings
GZIP_OVERHEAD = 10_000  # bytes by which gzip may make the beginning of an object longer


class ObjectState(IntEnum):
    """The value of the column `object.state` of an object that a package references."""

    PRESENT = 0  # the store has an object with its key
    VERIFIED = 1  # the contents have its SHA-256
    DAMAGED = 2  # the contents have another SHA-256


def final_key(owner: str, sha256: str) -> str:
    """Return the key of an object of an owner's packages. The owner uploads to it directly."""
    return f"objs/{owner}/{sha256}"


def staging_key(owner: str, uploader: str, sha256: str) -> str:
    """Return the key of an upload by another user, before the push that promotes it."""
    return f"staging/{owner}/{uploader}/{sha256}"


class ObjectStore:
    """An object store in a bucket or a directory."""

    def __init__(self, settings: StorageSettings):
        self.signer: Signer
        self.directory: Directory | None = None
        self._bucket: S3Store | None = None
        self._hashing = Turns(1)
        self._suspects: dict[str, asyncio.Task[bool]] = {}  # by key; each hashes an object and may set it aside
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
            # Commands that give no URLs to anybody do not need QUILT_SECRET_KEY.
            secret = settings.quilt_secret_key
            text = secret.get_secret_value() if secret else secrets.token_hex()
            key = hashlib.sha256(b"objects " + text.encode()).digest()
            self.signer = LocalSigner(settings.registry_url, key, settings.package_url_expiration)
            self.directory = Directory(settings.objects_directory)

    def prepare(self) -> None:
        """Create the directory of a directory store. Raise OSError if that fails."""
        if self.directory:
            self.directory.prepare()

    def state(self, *, staged: bool) -> ObjectState:
        """Return the state of objects after a push.

        A directory store verifies every upload, and promotion verifies staged objects.
        """
        return ObjectState.VERIFIED if self.directory or staged else ObjectState.PRESENT

    async def sizes(self, keys: Sequence[str], among: int = 0) -> dict[str, int]:
        """Return the sizes in bytes of those objects that exist. Raise Unavailable.

        `among` is the approximate number of other objects with the same prefix. It decides whether a bucket gets one
        HEAD for each key or parallel listings of the prefixes.
        """
        if self.directory:
            return await asyncio.to_thread(self.directory.sizes, keys)
        async with _translate_errors():
            if len(keys) <= MAX_HEADS or len(keys) < (len(keys) + among) / LISTING_PAGE_SIZE:
                return await self._sizes_by_head(keys)
            return await self._sizes_by_listing(keys)

    async def _sizes_by_head(self, keys: Sequence[str]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        waiting = iter(keys)

        async def work() -> None:
            for key in waiting:
                try:
                    sizes[key] = (await obstore.head_async(self._s3, key))["size"]
                except FileNotFoundError:
                    continue

        await asyncio.gather(*(work() for _ in range(min(CONCURRENT_HEADS, len(keys)))))
        return sizes

    async def _sizes_by_listing(self, keys: Sequence[str]) -> dict[str, int]:
        """List the prefixes of the keys, in parallel by the first hex digit."""
        wanted = set(keys)
        sizes: dict[str, int] = {}

        async def list_range(prefix: str, digit: int) -> None:
            # All keys with this digit are between these two, because "g" sorts after "f".
            offset, end = f"{prefix}/{digit:x}", f"{prefix}/{digit:x}g"
            async for page in obstore.list(self._s3, prefix, offset=offset, chunk_size=LISTING_PAGE_SIZE):
                sizes.update((each["path"], each["size"]) for each in page if each["path"] in wanted)
                if page[-1]["path"] > end:
                    return

        prefixes = {key.rpartition("/")[0] for key in keys}
        await asyncio.gather(*(list_range(prefix, digit) for prefix in prefixes for digit in HEX_DIGITS))
        return sizes

    async def beginning(self, key: str, limit: int) -> bytes | None:
        """Return the first bytes of an object, at most `limit`, or None if it does not exist. Raise Unavailable.

        Old clients stored objects as gzip, which begins with 1f 8b. The caller unpacks it.
        """
        if self.directory:
            return await asyncio.to_thread(self._read_file, key, limit)
        async with _translate_errors():
            try:
                size = (await obstore.head_async(self._s3, key))["size"]
                if size == 0:  # because some stores reject an empty range
                    return b""
                return bytes(await obstore.get_range_async(self._s3, key, start=0, end=min(size, limit)))
            except FileNotFoundError:
                return None

    async def contents(self, key: str, size: int, limit: int) -> bytes | None:
        """Return the first bytes of an object's contents, as `beginning`, but unpacked. `size` is that of the contents.

        Only a bucket has packed objects: a directory refuses what does not have its SHA-256.
        """
        if self.directory or not size:
            return await self.beginning(key, limit)
        async with _translate_errors():
            try:
                answer = await obstore.get_async(self._s3, key, options={"range": (0, limit + GZIP_OVERHEAD)})
                data = bytes(await answer.bytes_async())
            except FileNotFoundError:
                return None
        if answer.attributes.get("Content-Encoding") == "gzip":
            with suppress(zlib.error):
                return zlib.decompressobj(wbits=31).decompress(data, limit)
        return data[:limit]

    def attachment_url(self, key: str, disposition: str, lifetime: int) -> str | None:
        """Return a URL for GET that answers with a header `Content-Disposition`; None for a directory."""
        return self.signer.attachment_url(key, disposition, lifetime) if isinstance(self.signer, S3Signer) else None

    def _read_file(self, key: str, limit: int) -> bytes | None:
        assert self.directory is not None
        if not self.directory.sizes([key]):
            return None
        with self.directory.open(key) as file:
            return file.read(limit)

    async def promote(self, owner: str, uploader: str, sha256s: Sequence[str], existing: set[str]) -> None:
        """Verify staged objects, and give final keys to those that are not in `existing`.

        Raise DigestMismatch for objects with the wrong contents, FileNotFoundError if a staged object was removed,
        Unavailable.
        """
        if self.directory:
            staged, final = staging_key(owner, uploader, ""), final_key(owner, "")
            keys = ((staged + sha256, final + sha256) for sha256 in sha256s if sha256 not in existing)
            await asyncio.to_thread(self.directory.promote, keys)
            return
        wrong: list[str] = []
        waiting = iter(sha256s)

        async def work() -> None:
            for sha256 in waiting:
                # A private copy is hashed, because the uploader can still overwrite the staged object.
                private = f"adopting/{secrets.token_hex(16)}"
                await obstore.copy_async(self._s3, staging_key(owner, uploader, sha256), private)
                try:
                    if await self._sha256(private) != sha256:
                        wrong.append(sha256)
                    elif sha256 not in existing:
                        await obstore.copy_async(self._s3, private, final_key(owner, sha256))
                finally:
                    await obstore.delete_async(self._s3, private)

        async with _translate_errors():
            await asyncio.gather(*(work() for _ in range(min(CONCURRENT_PROMOTIONS, len(sha256s)))))
        if wrong:
            raise DigestMismatch(wrong)

    async def _sha256(self, key: str, *, unpack: bool = False) -> str:
        """Return the SHA-256 of an object's contents. `unpack` those that old clients stored as gzip."""
        answer = await obstore.get_async(self._s3, key)
        is_gzip = answer.attributes.get("Content-Encoding") == "gzip"
        digest = _UnpackedSha256() if unpack and is_gzip else hashlib.sha256()
        async for chunk in answer.stream():
            await asyncio.to_thread(digest.update, memoryview(chunk))
        return digest.hexdigest()

    async def is_intact(self, key: str, sha256: str) -> bool:
        """Return whether an object exists and its contents have this SHA-256. Raise Unavailable."""
        async with _translate_errors():
            try:
                if self.directory:
                    return await asyncio.to_thread(self.directory.sha256, key) == sha256
                return await self._sha256(key, unpack=True) == sha256
            except (FileNotFoundError, zlib.error):
                return False

    async def upload(self, key: str, file: Path, size: int) -> None:
        """Upload a file to the bucket, in parts if it is large. Raise Unavailable.

        The signature of each request covers its bytes, so that the store refuses those that changed on their way.
        """
        part_size = max(MIN_PART_SIZE, -(-size // MAX_PARTS))
        async with _translate_errors():
            await obstore.put_async(self._s3, key, file, chunk_size=part_size, max_concurrency=CONCURRENT_PARTS)

    async def set_aside(self, keys: Sequence[str]) -> list[str]:
        """Take those objects out of the store whose contents do not have their SHA-256. Return their keys.

        A directory moves them to `quarantine/`. A bucket deletes them; a versioned one keeps the bytes as noncurrent
        versions. Only one object is hashed at a time, because any push may ask for it: people take turns. Raise
        Unavailable.
        """
        return [key for key in keys if await self._is_set_aside(key)]

    async def _is_set_aside(self, key: str) -> bool:
        """Set an object aside if it is damaged, and return whether it was. Simultaneous calls for a key share one."""
        if key not in self._suspects:
            # A task of its own, because the thread that hashes works on when the request is cancelled.
            self._suspects[key] = asyncio.create_task(self._set_aside(key))
            self._suspects[key].add_done_callback(lambda _: self._suspects.pop(key))
        return await asyncio.shield(self._suspects[key])

    async def _set_aside(self, key: str) -> bool:
        await self._hashing.take(heavy=False)
        try:
            if self.directory:
                async with _translate_errors():
                    return await asyncio.to_thread(self.directory.set_aside, key)
            if not await self.sizes([key]) or await self.is_intact(key, key[-64:]):
                return False
            await self.remove([key])
            return True
        finally:
            self._hashing.give_back(heavy=False)

    async def staged(self, owner: str, uploader: str) -> dict[str, int]:
        """Return SHA-256 and size in bytes of the objects in a bucket that a user has uploaded to staging keys."""
        prefix = staging_key(owner, uploader, "")
        async with _translate_errors():
            pages = [page async for page in obstore.list(self._s3, prefix, chunk_size=LISTING_PAGE_SIZE)]
        return {each["path"].removeprefix(prefix): each["size"] for page in pages for each in page}

    async def listing(self, owner: str | None = None) -> AsyncIterator[list[tuple[str, int, float]]]:
        """Yield pages of all final objects, or of one owner's. Raise Unavailable.

        Each object is a tuple of key, size in bytes, and time of modification in seconds.
        """
        async with _translate_errors():
            if self.directory:
                files = self.directory.listing(owner)
                while batch := await asyncio.to_thread(lambda: list(islice(files, LISTING_PAGE_SIZE))):
                    yield batch
            else:
                prefix = f"objs/{owner}" if owner else "objs"
                async for page in obstore.list(self._s3, prefix, chunk_size=LISTING_PAGE_SIZE):
                    yield [(each["path"], each["size"], each["last_modified"].timestamp()) for each in page]

    async def fsync(self, owner: str) -> None:
        """Make the final objects of an owner durable. Those in a bucket always are."""
        if self.directory:
            await asyncio.to_thread(self.directory.fsync, f"objs/{owner}")

    async def remove(self, keys: Iterable[str]) -> None:
        keys = list(keys)
        if self.directory:
            await asyncio.to_thread(self.directory.remove, keys)
        elif keys:
            async with _translate_errors():
                await obstore.delete_async(self._s3, keys)

    async def self_test(self) -> None:
        """Write, read and delete a small object. Raise Unavailable with the store's reason."""
        key = f"check/{secrets.token_hex(8)}"
        if self.directory:
            try:
                path = self.directory.root / "uploads" / key.rpartition("/")[2]
                make_directory(path.parent, inherit_owner=True)
                path.write_bytes(b"check")
                path.unlink()
            except OSError as error:
                raise Unavailable(f"{error.strerror}: {error.filename}") from error
            return
        async with _translate_errors():
            await obstore.put_async(self._s3, key, b"check")
            await obstore.get_async(self._s3, key)
            await obstore.delete_async(self._s3, key)

    async def probe(self) -> None:
        """Check cheaply whether the store responds, and whether a directory can be written. Raise Unavailable."""
        if self.directory:
            await asyncio.to_thread(self.directory.probe)
            return
        async with _translate_errors():
            async for _ in obstore.list(self._s3, "check"):  # a short listing, because objects there are temporary
                return

    @property
    def _s3(self) -> S3Store:
        assert self._bucket is not None
        return self._bucket


class DigestMismatch(Exception):
    """The contents of some objects do not have the SHA-256 in their keys."""

    def __init__(self, sha256s: list[str]):
        super().__init__(", ".join(sha256s))
        self.sha256s = sha256s


class _UnpackedSha256:
    """The SHA-256 of what gzip unpacks to."""

    def __init__(self) -> None:
        self._inflater, self._hash = zlib.decompressobj(wbits=31), hashlib.sha256()

    def update(self, data: memoryview) -> None:
        rest: bytes | memoryview = data
        while rest:  # in blocks, because a few bytes may unpack to many
            self._hash.update(self._inflater.decompress(rest, BLOCK_SIZE))
            rest = self._inflater.unconsumed_tail

    def hexdigest(self) -> str:
        self._hash.update(self._inflater.flush())
        return self._hash.hexdigest()


@asynccontextmanager
async def _translate_errors() -> AsyncIterator[None]:
    """Turn errors of the store into Unavailable, with one line of the message: the others are details of requests."""
    try:
        yield
    except (StoreError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise Unavailable(f"The object store does not respond: {str(error).splitlines()[0][:200]}") from error
