"""What happened, who did it: the audit trail. Rows are only ever added."""

from __future__ import annotations

from typing import Any, Literal, Protocol

from quilt_registry.database import Connection, Database

Kind = Literal["PUSH", "INSTALL", "PREVIEW", "DELETE"]


class Subject(Protocol):
    """The package that something was done to."""

    @property
    def id(self) -> int: ...
    @property
    def owner(self) -> str: ...
    @property
    def name(self) -> str: ...


async def record(
    db: Connection | Database,
    kind: Kind,
    account: str | None,
    package: Subject,
    top_hash: bytes | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """Add an event; `account` is None for people who are not signed in. Durable when this returns."""
    await db.execute(
        """
        INSERT INTO event (kind, account, owner, package, package_id, top_hash, extra)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        """,
        kind, account, package.owner, package.name, package.id, top_hash, extra,
    )  # fmt: skip
