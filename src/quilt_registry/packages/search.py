"""Finding packages by words: in names, node names, user metadata and README of what the tag `latest` points at.

(Protocol §15.) All words must occur, each anywhere. English words count in all their forms; the last word, which is
perhaps still being typed, also counts as the beginning of one.

A word counts by the best place that it has in a package (`_worth`), however often it is there, and a package by the
mean of its words. Cover density, which counts every occurrence, lets a README that repeats a word outrank the package
of that name; and it reads the whole vector of every hit, while places are told from small vectors and from indexes.
"""

from __future__ import annotations

import asyncio
import base64
import re

import asyncpg
import msgspec
from msgspec import UNSET, Struct, UnsetType

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Invalid
from quilt_registry.manifests import words
from quilt_registry.manifests.pushed import SEARCHED
from quilt_registry.packages import access
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.instances import LATEST

README_SHOWN = 1024  # characters of a README in a hit
LONGEST = 16_384  # characters of a query that are looked at
MOST_WORDS, RANKED_WORDS = 100, 8  # distinct words of a query that must occur; that count for the rank
SHORTEST_BEGINNING = 2  # characters
MOST_HITS, USUAL_HITS = 1000, 100  # of a page of hits


class Hit(Struct):
    """A package that was found; `rank` is below 1, and 0 where no words were asked for."""

    owner: str
    name: str
    is_public: bool
    is_team: bool
    readme_preview: str | None
    rank: float


class Cursor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a page of hits ends. Ranks fall, then owners and names rise."""

    rank: float
    owner: str
    name: str


class SearchPage(Struct, frozen=True):
    """A page of hits to be shown: at most `limit`, those after a place."""

    limit: int
    after: Cursor | None = None


class SearchResult(Struct):
    """Hits; where a page was asked for, also the `after` of the next one, None at the end."""

    packages: list[Hit]
    next: str | UnsetType | None = UNSET


class Word(Struct, frozen=True):
    """A word of a query as PostgreSQL matches it: in all its forms, and also as a beginning if it is the last."""

    whole: str
    any: str


# ------------------------------------------------------------------------------------------------ making findable


def _vector(text: str) -> str:
    return f"(to_tsvector('english', {text}) || to_tsvector('unstemmed', {text}))"


async def index(connection: Connection, package_id: int, owner: str, name: str) -> None:
    """Make a package findable by what its tag `latest` points at now; without that tag it is not found.

    The caller holds the package's row.
    """
    row = await connection.fetchrow(
        f"""
        SELECT i.names, left(r.text, {SEARCHED}) AS readme, left((
            SELECT string_agg(m.text, ' ' ORDER BY n)
            FROM generate_series(1, length(i.metadata) / 32) n
            JOIN metadata m ON m.owner_id = p.owner_id AND m.digest = substr(i.metadata, n * 32 - 31, 32)
            ), {SEARCHED}) AS metadata
        FROM tag t JOIN instance i ON i.id = t.instance_id JOIN package p ON p.id = i.package_id
        LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
        WHERE t.package_id = $1 AND t.name = '{LATEST}'
        """,
        package_id,
    )
    if row is None:
        return
    texts = await asyncio.to_thread(_texts, owner, name, row)
    # Each vector stays below the 1 MB that PostgreSQL allows: two forms of a word, three texts of 100 kB.
    await connection.execute(
        f"""
        INSERT INTO package_search (package_id, names, nodes, words)
        SELECT $1, v.names, v.nodes, strip(v.names) || v.nodes || v.readme || v.metadata
        FROM (SELECT setweight({_vector("$2")}, 'A') || setweight({_vector("$3")}, 'B') AS names,
                     strip({_vector("$4")}) AS nodes, strip({_vector("$5")}) AS readme,
                     strip({_vector("$6")}) AS metadata) v
        ON CONFLICT (package_id) DO UPDATE
        SET names = excluded.names, nodes = excluded.nodes, words = excluded.words
        WHERE (package_search.names, package_search.nodes, package_search.words)
              IS DISTINCT FROM (excluded.names, excluded.nodes, excluded.words)
        """,
        package_id, *texts,
    )  # fmt: skip


def _texts(owner: str, name: str, row: asyncpg.Record) -> list[str]:
    """The words of names, pieces, nodes, README and metadata."""
    pieces = f"{words.pieces(owner)} {words.pieces(name)}"
    names = [" ".join(words.of(f"{owner} {name}")), pieces]
    return names + [words.distinct(row[text] or "", SEARCHED) for text in ("names", "readme", "metadata")]


# ------------------------------------------------------------------------------------------------ finding


async def search(db: Database, caller: Caller, query: str, span: SearchPage | None = None) -> SearchResult:
    """Packages that the caller may read and that hold all words of the query; all of them for an empty one."""
    async with db.connection() as connection:
        asked = await _read(connection, query) if query else []
        if query and not asked:
            return SearchResult([], UNSET if span is None else None)
        rows = await _find(connection, caller, asked, span)
    hits = [_hit(caller, Package(*row[:7]), row[7], row[8]) for row in rows]
    if span is None:
        return SearchResult(hits)
    shown = hits[: span.limit]
    return SearchResult(shown, _encode(shown[-1]) if len(hits) > len(shown) else None)


async def _read(connection: Connection, query: str) -> list[Word]:
    """The words of a query, the last one first, but for those that search leaves out (`the`)."""
    asked = list(dict.fromkeys(reversed(words.of(query[:LONGEST]))))[:MOST_WORDS]
    rows = await connection.fetch("SELECT plainto_tsquery('english', unnest($1::text[]))::text", asked)
    found = [Word(row[0], row[0]) for row in rows]
    if found and len(asked[0]) >= SHORTEST_BEGINNING:
        found[0] = Word(found[0].whole, f"{found[0].whole} | '{asked[0]}':*")
    return [word for word in found if word.whole]


async def _find(
    connection: Connection, caller: Caller, asked: list[Word], span: SearchPage | None
) -> list[asyncpg.Record]:
    """One row a hit, in order; one more than a page holds, if there are more.

    The rank is r / (r + 1), where r is the mean worth of the words. What may be read is asked hit by hit (LIMIT makes
    it so): the time goes with the hits, however many packages there are.
    """
    after = span.after if span else None
    ranked = asked[:RANKED_WORDS]
    worths = [_worth(_query(2 * number), _query(2 * number + 1)) for number in range(1, len(ranked) + 1)]
    all_of_them = " & ".join(f"({word.any})" for word in asked)
    return await connection.fetch(
        f"""
        WITH hit AS MATERIALIZED (
            SELECT p.id, p.owner, p.name, ({" + ".join(worths) or 0})::float8 AS worth
            FROM package_search s
            CROSS JOIN LATERAL (SELECT p.id, p.owner, p.name FROM package p
                                WHERE p.id = s.package_id AND {access.READABLE} LIMIT 1) p
            WHERE {f"s.words @@ {_query(1)}" if asked else "true"}
        ), ranked AS (
            SELECT id, owner, name, worth / (worth + {max(1, len(ranked))}) AS rank FROM hit
        ), shown AS (
            SELECT * FROM ranked WHERE $3::float8 IS NULL OR (-rank, owner, name) > (-$3::float8, $4::text, $5::text)
            ORDER BY rank DESC, owner, name LIMIT $6
        )
        SELECT {access.COLUMNS}, left(r.text, {README_SHOWN}), shown.rank
        FROM shown JOIN package p ON p.id = shown.id AND $2::text[] IS NOT NULL
        LEFT JOIN tag t ON t.package_id = p.id AND t.name = '{LATEST}'
        LEFT JOIN instance i ON i.id = t.instance_id
        LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
        ORDER BY shown.rank DESC, p.owner, p.name
        """,
        caller.grants, [all_of_them, *(query for word in ranked for query in (word.whole, word.any))],
        after and after.rank, after and after.owner, after and after.name, span and span.limit + 1,
    )  # fmt: skip


def _worth(whole: str, any: str) -> str:
    """What a word is worth by the best of its places, with the weights of the protocol; all hits have it somewhere.

    As the beginning of an owner's or package's name it is worth less than as all of it.
    """
    return f"""
        CASE WHEN s.names @@ {any} THEN
            CASE WHEN ts_filter(s.names, '{{a}}') @@ {whole} THEN 1.0
                 WHEN ts_filter(s.names, '{{a}}') @@ {any} THEN 0.9 ELSE 0.4 END
        WHEN s.package_id IN (SELECT n.package_id FROM package_search n WHERE n.nodes @@ {any}) THEN 0.2
        ELSE 0.1 END"""


def _query(number: int) -> str:
    """One of the queries in $2. As a subquery: a planner that knows it may read all vectors instead of the index."""
    return f"(SELECT ($2::text[])[{number}]::tsquery)"


def _hit(caller: Caller, package: Package, readme: str | None, rank: float) -> Hit:
    public, team = access.is_public(caller, package), access.is_team(caller, package)
    return Hit(package.owner, package.name, public, team, readme, rank)


# ------------------------------------------------------------------------------------------------ pages of hits


def parse_page(limit: str | None, after: str | None) -> SearchPage | None:
    """The page that a request asks for; None if it asks for none. Raises Invalid."""
    if limit is None and after is None:
        return None
    if limit is not None and not (re.fullmatch("[0-9]{1,4}", limit) and 1 <= int(limit) <= MOST_HITS):
        raise Invalid(f"limit must be a whole number from 1 to {MOST_HITS}.")
    return SearchPage(int(limit or USUAL_HITS), None if after is None else _decode(after))


def _encode(hit: Hit) -> str:
    place = msgspec.json.encode(Cursor(hit.rank, hit.owner, hit.name))
    return base64.urlsafe_b64encode(place).decode().rstrip("=")


def _decode(after: str) -> Cursor:
    try:
        data = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        place = msgspec.json.decode(data, type=Cursor)
        if "\0" in place.owner + place.name:
            raise ValueError
    except ValueError:  # of base64, UTF-8 and msgspec
        raise Invalid("after must be the value of `next` in an answer to this search, as it came.") from None
    return place
