"""Search for a page: filters, orders, totals, and excerpts of READMEs with the matches in them.

Words are found as `packages/search.py` finds them. Without words, all readable packages are found, even those without
the tag `latest`. A package whose full name is the query comes first, even if it has no such tag.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from quilt_registry.database import Database
from quilt_registry.packages import access, listing, search
from quilt_registry.packages.access import Caller
from quilt_registry.packages.listing import PackageRow

Order = Literal["best", "pushed", "name", "size"]
Scope = Literal["mine", "shared", "team", "public"]

PAGE_SIZE = 25
MAX_PAGE = 400  # 10,000 packages
MAX_FILE_TYPES = 8  # that are offered as filters
MAX_COUNTED = 1000  # packages whose file types are counted
EXCERPT_WORDS = 36

_ORDERS: dict[str, str] = {"best": "p.weight DESC, p.owner, p.name, p.id", **listing.ORDERS}
# Conditions on packages `p`; `me` is the caller's name.
_SCOPES: dict[Scope, str] = {
    "mine": "p.owner = asked.me",
    "shared": "p.owner <> asked.me AND asked.me IN (SELECT a.grantee FROM access a WHERE a.package_id = p.id)",
    "team": "'team' IN (SELECT a.grantee FROM access a WHERE a.package_id = p.id)",
    "public": "'public' IN (SELECT a.grantee FROM access a WHERE a.package_id = p.id)",
}
_FULL_NAME = re.compile(r"(?:[a-z]+:)?(\w+)/(\w+)")
_START, _STOP = "\x02", "\x03"  # around matches in excerpts; taken out of texts


class Filters(Struct, frozen=True):
    """Conditions on the packages found. `file_types` are extensions such as `.csv`, of which a package has any."""

    scope: Scope | None = None
    owner: str = ""
    file_types: tuple[str, ...] = ()
    days: int | None = None


class Found(Struct, frozen=True):
    """A page of the packages found, and numbers of all of them.

    `file_types` are the most frequent extensions with the number of packages that have them, whatever file types are
    asked for. If very many packages are found, they are those of the packages pushed last, without numbers. `exact` is
    whether the first row is the package whose full name is the query.
    """

    rows: list[PackageRow]
    total: int
    file_types: list[tuple[str, int | None]]
    exact: bool


async def find(
    db: Database, caller: Caller, query: str, filters: Filters, *, order: Order = "best", page: int = 1
) -> Found:
    """Return a page of the readable packages that contain all words of the query and meet all filters."""
    owner, name = full_name(query)
    async with db.public.connection() as connection:
        words = await search.parse(connection, query) if query else []
        finds_nothing = bool(query) and not words  # for example of `the`
        row = await connection.fetchrow(
            f"""
            WITH asked AS MATERIALIZED (
                SELECT $2::text[] AS queries, $3::text AS me, $4::text AS owner, $5::bytea[] AS types, $6::int AS days
            ), exact AS MATERIALIZED (
                SELECT p.id FROM package p WHERE p.owner = $7 AND p.name = $8 AND {access.READABLE}
            ), hit AS MATERIALIZED (
                SELECT id, max(weight) AS weight FROM (
                    SELECT id, weight FROM ({search.select_hits(words)}) h WHERE NOT $9
                    UNION ALL SELECT id, 0 FROM exact) h
                GROUP BY id
            ), found AS MATERIALIZED (
                SELECT p.id, p.owner, p.name, p.updated_at, h.weight FROM asked, hit h JOIN package p USING (id)
                WHERE (asked.owner = '' OR p.owner = asked.owner)
                  AND (asked.days IS NULL OR p.updated_at >= now() - make_interval(days => asked.days))
                  AND {_SCOPES[filters.scope] if filters.scope else "true"}
            ), typed AS MATERIALIZED ({_typed(filters, order)})
            SELECT (SELECT count(*) FROM typed),
                   ARRAY(SELECT p.id FROM typed p ORDER BY p.id IN (SELECT id FROM exact) DESC, {_ORDERS[order]}
                         LIMIT {PAGE_SIZE} OFFSET $10),
                   ARRAY(SELECT ROW(type, count(*))
                         FROM (SELECT * FROM found ORDER BY updated_at DESC LIMIT {MAX_COUNTED}) p
                         {listing.SHOWN_INSTANCE}
                         CROSS JOIN jsonb_object_keys(convert_from(i.file_types, 'UTF8')::jsonb) type
                         WHERE type <> '' GROUP BY type ORDER BY count(*) DESC, type LIMIT {MAX_FILE_TYPES}),
                   (SELECT count(*) FROM found) > {MAX_COUNTED},
                   EXISTS (SELECT FROM typed WHERE id IN (SELECT id FROM exact))
            """,
            caller.grants, search.hit_queries(words), caller.name or "", filters.owner,
            [f'"{each}":'.encode() for each in filters.file_types], filters.days, owner, name, finds_nothing,
            (page - 1) * PAGE_SIZE,
        )  # fmt: skip
    assert row is not None
    total, ids, file_types, has_more, exact = row
    counts = [(extension, None if has_more else count) for extension, count in file_types]
    return Found(await listing.load_rows(db, caller, ids), total, counts, exact and page == 1)


def _typed(filters: Filters, order: Order) -> str:
    """Return SQL for those of the packages found that have any of the file types asked for, with their size.

    Instances are looked up only if the filter or the order needs them. Their JSON is compared as text, because parsing
    that of thousands would take longer than all else. An extension has one dot, so no part of another looks like it.
    """
    if not filters.file_types and order != "size":
        return "SELECT p.*, NULL::bigint AS size FROM found p"
    condition = "EXISTS (SELECT FROM unnest(asked.types) type WHERE position(type IN i.file_types) > 0)"
    return f"""
        SELECT p.*, i.size FROM asked, found p {listing.SHOWN_INSTANCE}
        WHERE {condition if filters.file_types else "true"}"""


def full_name(query: str) -> tuple[str, str]:
    """Return owner and name if the query is a package's full name, with or without a team; otherwise two blanks."""
    match = _FULL_NAME.fullmatch(query.strip())
    return (match[1], match[2]) if match else ("", "")


async def mark(db: Database, query: str, texts: list[str]) -> list[list[tuple[str, bool]]]:
    """Return an excerpt of each text, about the words of the query, in pieces: text, and whether it matches.

    An excerpt is the start of its text if nothing in it matches.
    """
    cleaned = [text.translate({ord(_START): None, ord(_STOP): None}) for text in texts]
    async with db.public.connection() as connection:
        words = await search.parse(connection, query)
        rows = await connection.fetch(
            f"""
            SELECT ts_headline('english', text, $2::tsquery,
                'StartSel="{_START}", StopSel="{_STOP}", MaxWords={EXCERPT_WORDS}, MinWords={EXCERPT_WORDS - 6}')
            FROM unnest($1::text[]) WITH ORDINALITY AS t (text, place) ORDER BY place
            """,
            cleaned, " | ".join(f"({word.any})" for word in words),
        )  # fmt: skip
    return [_pieces(text, excerpt) for text, (excerpt,) in zip(cleaned, rows, strict=True)]


def _pieces(text: str, excerpt: str) -> list[tuple[str, bool]]:
    plain = excerpt.replace(_START, "").replace(_STOP, "")
    before = "" if text.startswith(plain) else "… "
    after = "" if text.endswith(plain) else " …"
    pieces = re.split(f"({_START}[^{_STOP}]*{_STOP})", f"{before}{excerpt}{after}")
    return [(piece.strip(_START + _STOP), piece.startswith(_START)) for piece in pieces if piece]
