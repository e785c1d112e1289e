"""What happened, who did it: the audit trail. Rows are only ever added; the database refuses anything else."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal, Protocol, get_args

from quilt_registry.database import Connection, Database

# What clients of the original know. The older audit calls list these only.
PackageKind = Literal["PUSH", "INSTALL", "PREVIEW", "DELETE"]
Kind = Literal[
    PackageKind,
    "TAG_SET",
    "TAG_DELETE",
    "VERSION_SET",
    "ACCESS_GRANT",
    "ACCESS_REVOKE",
    "INVITE",
    "INVITE_CANCEL",
    "INVITE_CLAIM",
    "COMMENT",
    "COMMENT_DELETE",
    "SIGN_IN",
    "SIGN_IN_FAILED",
    "SIGN_OUT",
    "TOKEN_CREATE",
    "TOKEN_REVOKE",
    "ACCOUNT_REGISTER",
    "ACCOUNT_LAPSE",
    "ACCOUNT_ACTIVATE",
    "ACCOUNT_CREATE",
    "ACCOUNT_DISABLE",
    "ACCOUNT_ENABLE",
    "ADMIN_GRANT",
    "ADMIN_REVOKE",
    "PASSWORD_RESET",
    "PASSWORD_CHANGE",
]
PACKAGE_KINDS: tuple[str, ...] = get_args(PackageKind)
KINDS: tuple[str, ...] = get_args(Kind)

recorded = Counter[str]()  # events of each kind that this process has recorded, for the metrics


class SomePackage(Protocol):
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
    package: SomePackage | None = None,
    top_hash: bytes | None = None,
    extra: dict[str, Any] | None = None,
    subject: str | None = None,
) -> None:
    """Add an event. Durable when this returns, or with the transaction.

    `account` is who did it, None for people who are not signed in; `subject` is the account it was done to.
    """
    about = (package.owner, package.name, package.id) if package else (None, None, None)
    await db.execute(
        """
        INSERT INTO event (kind, account, owner, package, package_id, top_hash, extra, subject)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        kind, account, *about, top_hash, extra, subject,
    )  # fmt: skip
    recorded[kind] += 1
