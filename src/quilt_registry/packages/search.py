"""Full-text search for packages: in names, node names, user metadata and README of the instance tagged `latest`.

(Protocol §15.) All words of a query must occur, each anywhere. English words match in all their forms. The last word
also matches as a prefix, because the user may still be typing it.

The weight of a word in a package is that of the best place where it occurs (`_weight`), however often it occurs; the
rank of a package follows from the mean weight. Cover density, the original's rank, counts every occurrence, so that a
README that repeats a word outranks the package of that name. It also reads the whole vector of every hit, whereas
places are known from small vectors and indexes.
"""

from __future__ import annotations

import asyncio
import base64
import re

import asyncpg
import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import astuple

from quilt_registry.database import Connection, Database
from quilt_registry.errors import Invalid
from quilt_registry.manifests import words
from quilt_registry.packages import access, descriptions
from quilt_registry.packages.access import Caller, Package
from quilt_registry.packages.descriptions import Texts
from quilt_registry.packages.instances import LATEST

README_PREVIEW_LENGTH = 1024  # characters
MAX_QUERY_LENGTH = 16_384  # characters; the rest is ignored
MAX_QUERY_WORDS = 100  # distinct words that must occur; the others are ignored
MAX_RANKED_WORDS = 8
MIN_PREFIX_LENGTH = 2  # characters
MAX_PAGE_SIZE, DEFAULT_PAGE_SIZE = 1000, 100  # hits


class Hit(Struct):
    """A package that matches a query. `rank` is below 1, and 0 for an empty query."""

    owner: str
    name: str
    is_public: bool
    is_team: bool
    readme_preview: str | None
    rank: float


class Cursor(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The last hit of a page. Hits are sorted by falling rank, then by owner and name."""

    rank: float
    owner: str
    name: str


class SearchPage(Struct, frozen=True):
    """A requested page of hits: at most `limit`, those after the cursor."""

    limit: int
    after: Cursor | None = None


class SearchResult(Struct):
    """Hits. If a page was requested, `next` is the `after` of the next page, None for the last page."""

    packages: list[Hit]
    next: str | UnsetType | None = UNSET


class Word(Struct, frozen=True):
    """Two tsqueries for a word: `whole` matches its forms; `any` also matches it as a prefix if it is the last."""

    whole: str
    any: str


# ------------------------------------------------------------------------------------------------ index


class IndexTexts(Struct, frozen=True):
    """The words of a package that are indexed: of its owner and name, their pieces, its nodes, README and metadata."""

    names: str
    pieces: str
    nodes: str
    readme: str
    metadata: str


async def read_texts(db: Database, package: Package, instance_id: int) -> IndexTexts:
    """Return the words of an instance. Raise NotFound if it was just deleted."""
    row = await db.fetchrow("SELECT names, readme, metadata FROM instance WHERE id = $1", instance_id)
    if row is None:
        raise access.instance_not_found()
    texts = await descriptions.load(db, package.owner_id, row["readme"], row["metadata"])
    return await make_texts(package.owner, package.name, row["names"], texts)


async def make_texts(owner: str, name: str, nodes: str, texts: Texts) -> IndexTexts:
    """Return the words of names and texts. It takes long enough to be done before a transaction begins."""
    return await asyncio.to_thread(_make_texts, owner, name, nodes, texts)


def _make_texts(owner: str, name: str, nodes: str, texts: Texts) -> IndexTexts:
    return IndexTexts(
        names=" ".join(words.split(f"{owner} {name}")),
        pieces=f"{words.pieces(owner)} {words.pieces(name)}",
        nodes=words.distinct(nodes, words.MAX_TEXT_BYTES),
        readme=words.distinct((texts.readme or "")[: words.MAX_TEXT_BYTES], words.MAX_TEXT_BYTES),
        metadata=words.distinct(" ".join(texts.metadata.values())[: words.MAX_TEXT_BYTES], words.MAX_TEXT_BYTES),
    )


async def index(connection: Connection, package_id: int, texts: IndexTexts) -> None:
    """Index a package by the words of the instance that its tag `latest` points at. The caller holds its row."""
    # Three texts of 100 kB with two forms of each word keep the vectors below PostgreSQL's limit of 1 MB.
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
        package_id, *astuple(texts),
    )  # fmt: skip


def _vector(text: str) -> str:
    return f"(to_tsvector('english', {text}) || to_tsvector('unstemmed', {text}))"


# ------------------------------------------------------------------------------------------------ queries


async def search(db: Database, caller: Caller, query: str, page: SearchPage | None = None) -> SearchResult:
    """Return the readable packages that contain all words of the query; all readable ones for an empty query."""
    async with db.public.connection() as connection:
        query_words = await parse(connection, query) if query else []
        if query and not query_words:
            return SearchResult([], UNSET if page is None else None)
        rows = await _find(connection, caller, query_words, page)
    hits = [_hit(caller, Package(*row[:7]), row[7], row[8]) for row in rows]
    if page is None:
        return SearchResult(hits)
    page_hits = hits[: page.limit]
    return SearchResult(page_hits, _encode(page_hits[-1]) if len(hits) > len(page_hits) else None)


async def parse(connection: Connection, query: str) -> list[Word]:
    """Return the words of a query without stop words (`the`), the last one first."""
    texts = list(dict.fromkeys(reversed(words.split(query[:MAX_QUERY_LENGTH]))))[:MAX_QUERY_WORDS]
    rows = await connection.fetch("SELECT plainto_tsquery('english', unnest($1::text[]))::text", texts)
    parsed = [Word(row[0], row[0]) for row in rows]
    if parsed and len(texts[0]) >= MIN_PREFIX_LENGTH:
        parsed[0] = Word(parsed[0].whole, f"{parsed[0].whole} | '{texts[0]}':*")
    return [word for word in parsed if word.whole]


async def _find(
    connection: Connection, caller: Caller, query_words: list[Word], page: SearchPage | None
) -> list[asyncpg.Record]:
    """Return a row for each hit, in order: those of the page and one more, if there are more.

    The rank is r / (r + 1), where r is the mean weight of the words.
    """
    after = page.after if page else None
    return await connection.fetch(
        f"""
        WITH hit AS MATERIALIZED ({select_hits(query_words)}), ranked AS (
            SELECT id, owner, name, weight / (weight + {max(1, len(query_words[:MAX_RANKED_WORDS]))}) AS rank FROM hit
        ), shown AS (
            SELECT * FROM ranked WHERE $3::float8 IS NULL OR (-rank, owner, name) > (-$3::float8, $4::text, $5::text)
            ORDER BY rank DESC, owner, name LIMIT $6
        )
        SELECT {access.COLUMNS}, left(r.text, {README_PREVIEW_LENGTH}), shown.rank
        FROM shown JOIN package p ON p.id = shown.id AND $2::text[] IS NOT NULL
        LEFT JOIN tag t ON t.package_id = p.id AND t.name = '{LATEST}'
        LEFT JOIN instance i ON i.id = t.instance_id
        LEFT JOIN readme r ON r.owner_id = p.owner_id AND r.digest = i.readme
        ORDER BY shown.rank DESC, p.owner, p.name
        """,
        caller.grants, hit_queries(query_words),
        after and after.rank, after and after.owner, after and after.name, page and page.limit + 1,
    )  # fmt: skip


# Packages without the tag `latest` are not in the index.
_ALL = f"SELECT p.id, p.owner, p.name, 0::float8 AS weight FROM package p WHERE {access.READABLE}"


def select_hits(query_words: list[Word]) -> str:
    """Return SQL for the packages with all words of a query, and their weight: the sum over the ranked words.

    $1 is caller.grants, $2 is `hit_queries`.

    LIMIT in the lateral query makes PostgreSQL check access hit by hit, so that the time depends on the number of hits,
    not of packages.
    """
    if not query_words:
        return _ALL
    ranked = range(1, len(query_words[:MAX_RANKED_WORDS]) + 1)
    weights = [_weight(_query(2 * number), _query(2 * number + 1)) for number in ranked]
    return f"""
        SELECT p.id, p.owner, p.name, ({" + ".join(weights)})::float8 AS weight
        FROM package_search s
        CROSS JOIN LATERAL (SELECT p.id, p.owner, p.name FROM package p
                            WHERE p.id = s.package_id AND {access.READABLE} LIMIT 1) p
        WHERE s.words @@ {_query(1)}"""


def hit_queries(query_words: list[Word]) -> list[str]:
    """Return the parameter $2 of `select_hits`: a tsquery for all words, and two for each ranked word."""
    conjunction = " & ".join(f"({word.any})" for word in query_words)
    ranked = query_words[:MAX_RANKED_WORDS]
    return [conjunction, *(query for word in ranked for query in (word.whole, word.any))]


def _weight(whole: str, any: str) -> str:
    """Return SQL for the weight of a word in a hit, by the best place where it occurs (weights of protocol §15).

    A prefix of a word in an owner's or package's name weighs less than the word itself.
    """
    return f"""
        CASE WHEN s.names @@ {any} THEN
            CASE WHEN ts_filter(s.names, '{{a}}') @@ {whole} THEN 1.0
                 WHEN ts_filter(s.names, '{{a}}') @@ {any} THEN 0.9 ELSE 0.4 END
        WHEN s.package_id IN (SELECT n.package_id FROM package_search n WHERE n.nodes @@ {any}) THEN 0.2
        ELSE 0.1 END"""


def _query(number: int) -> str:
    """Return SQL for a tsquery of $2: a subquery, because a planner that sees its value may avoid the index."""
    return f"(SELECT ($2::text[])[{number}]::tsquery)"


def _hit(caller: Caller, package: Package, readme: str | None, rank: float) -> Hit:
    public, team = access.is_public(caller, package), access.is_team(caller, package)
    return Hit(package.owner, package.name, public, team, readme, rank)


# ------------------------------------------------------------------------------------------------ pages of hits


def parse_page(limit: str | None, after: str | None) -> SearchPage | None:
    """Return the page that the query parameters request, or None for all hits. Raise Invalid."""
    if limit is None and after is None:
        return None
    if limit is not None and not (re.fullmatch("[0-9]{1,4}", limit) and 1 <= int(limit) <= MAX_PAGE_SIZE):
        raise Invalid(f"limit must be a whole number from 1 to {MAX_PAGE_SIZE}.")
    return SearchPage(int(limit or DEFAULT_PAGE_SIZE), None if after is None else _decode(after))


def _encode(hit: Hit) -> str:
    cursor = msgspec.json.encode(Cursor(hit.rank, hit.owner, hit.name))
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def _decode(after: str) -> Cursor:
    try:
        data = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True)
        cursor = msgspec.json.decode(data, type=Cursor)
        if "\0" in cursor.owner + cursor.name:
            raise ValueError
    except ValueError:  # of base64, UTF-8 and msgspec
        raise Invalid("after must be the value of `next` in a response to this search.") from None
    return cursor
