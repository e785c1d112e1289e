"""Comments on packages, stored unchanged. The catalog shows them as Markdown."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator

from msgspec import Struct

from quilt_registry import audit, rate_limits
from quilt_registry.database import Connection, Database
from quilt_registry.errors import Invalid, NotFound
from quilt_registry.mail import emails
from quilt_registry.mail.site import Site
from quilt_registry.packages import access, locks
from quilt_registry.packages.access import Caller, Member, Package
from quilt_registry.services import Services

MAX_COMMENT_LENGTH = 10_240  # characters
MAX_COMMENTS_PER_PAGE = 100


class Comment(Struct):
    """A comment. `id` is 16 hex digits, `created` is Unix time, `contents` is Markdown."""

    id: str
    author: str
    created: float
    contents: str


class CommentPage(Struct):
    """A page of comments, oldest first. `next` is the `after` of the next page, None for the last page."""

    comments: list[Comment]
    next: int | None


async def post(services: Services, member: Member, owner: str, name: str, contents: str) -> Comment:
    """Comment on a package that the member may read, and notify its owner by email.

    Raise Invalid, NotFound, TooMany.
    """
    check(contents)
    package = await access.get_readable(services.db, member, owner, name)
    await services.limits.hit(rate_limits.COMMENT, member.name)
    notify = member.name != owner and await services.limits.allows(rate_limits.COMMENT_EMAIL, str(package.id))
    async with locks.shared(services.db, member, package) as connection:
        comment = await _insert(connection, package, member.name, contents)
        await audit.record(connection, "COMMENT", member.name, package, id=comment.id)
        if notify:
            await _notify_owner(connection, services.site, package, comment)
    return comment


def check(contents: str) -> None:
    """Raise Invalid for a text that cannot be a comment."""
    if not contents.strip():
        raise Invalid("A comment must not be blank.")
    if len(contents) > MAX_COMMENT_LENGTH:
        raise Invalid(f"A comment has at most {MAX_COMMENT_LENGTH:,} characters; this one has {len(contents):,}.")
    if "\0" in contents:
        raise Invalid("A comment must not contain NUL characters.")


async def _insert(connection: Connection, package: Package, author: str, contents: str) -> Comment:
    row = await connection.fetchrow(
        f"INSERT INTO comment (key, package_id, author, contents) VALUES ($1, $2, $3, $4) RETURNING {_COLUMNS}",
        secrets.token_hex(8), package.id, author, contents,
    )  # fmt: skip
    assert row is not None
    return Comment(*row)


async def _notify_owner(connection: Connection, site: Site, package: Package, comment: Comment) -> None:
    email = await connection.fetchval("SELECT email FROM account WHERE id = $1 AND is_active", package.owner_id)
    if email:
        await emails.comment(connection, site, email, package, comment.author, comment.contents)


async def get_page(
    db: Database, caller: Caller, owner: str, name: str, *, limit: int, after: int
) -> tuple[Package, CommentPage]:
    """Return a package and at most `limit` comments on it, after the page whose `next` is `after`; 0 for the first.

    Raise NotFound.
    """
    package, rows = await access.get_readable_with(
        db.public, caller, owner, name,
        """
        SELECT ROW(c.id, c.key, c.author, extract(epoch FROM c.created_at)::float8, c.contents)
        FROM comment c WHERE c.package_id = p.id AND c.id > $4 ORDER BY c.id LIMIT $5
        """,
        after, limit + 1,
    )  # fmt: skip
    page = rows[:limit]
    return package, CommentPage([Comment(*row[1:]) for row in page], page[-1][0] if len(rows) > limit else None)


async def iterate(db: Database, caller: Caller, owner: str, name: str) -> AsyncIterator[list[Comment]]:
    """Yield all comments on a package in batches, because together they may be large. Raise NotFound."""
    after: int | None = 0
    while after is not None:
        _, page = await get_page(db, caller, owner, name, limit=MAX_COMMENTS_PER_PAGE, after=after)
        if page.comments:
            yield page.comments
        after = page.next


async def list_range(db: Database, package: Package, *, offset: int, limit: int) -> list[Comment]:
    """Return at most `limit` comments on a package, oldest first, without the oldest `offset`."""
    rows = await db.public.fetch(
        f"SELECT {_COLUMNS} FROM comment WHERE package_id = $1 ORDER BY id OFFSET $2 LIMIT $3",
        package.id, offset, limit,
    )  # fmt: skip
    return [Comment(*row) for row in rows]


async def find(db: Database, package: Package, key: str) -> Comment:
    """Return a comment on a package. Raise NotFound."""
    row = await db.fetchrow(f"SELECT {_COLUMNS} FROM comment WHERE package_id = $1 AND key = $2", package.id, key)
    if row is None:
        raise _not_found()
    return Comment(*row)


async def position(db: Database, package: Package, key: str) -> int:
    """Return how many comments on a package are older than one; 0 if there is no such comment."""
    return await db.value(
        int,
        """
        SELECT count(*) FROM comment
        WHERE package_id = $1 AND id < (SELECT id FROM comment WHERE package_id = $1 AND key = $2)
        """,
        package.id, key,
    )  # fmt: skip


_COLUMNS = "key, author, extract(epoch FROM created_at)::float8, contents"


def _not_found() -> NotFound:
    return NotFound("There is no such comment.")


async def delete(db: Database, member: Member, owner: str, name: str, key: str) -> None:
    """Delete a comment, as its author or as the package's owner. Raise NotFound, Forbidden."""
    package = await access.get_readable(db, member, owner, name)
    async with locks.shared(db, member, package) as connection:
        author = await connection.fetchval(
            "SELECT author FROM comment WHERE package_id = $1 AND key = $2 FOR UPDATE", package.id, key
        )
        if author is None:
            raise _not_found()
        access.check_remove_comment(member, package, author)
        await connection.execute("DELETE FROM comment WHERE key = $1", key)
        await audit.record(connection, "COMMENT_DELETE", member.name, package, subject=author, id=key)
