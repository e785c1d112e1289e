"""Search among many packages: `python -m benchmarks search`.

The database is filled directly, always with the same packages: names, node names, README and metadata of words that
are as unevenly frequent as in English. Then one client sends one request after the other.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Iterator

import asyncpg
from tests.registry import Person, Registry, run_sql

from benchmarks.table import row
from quilt_registry.manifests import words
from quilt_registry.packages import search
from quilt_registry.packages.descriptions import Texts

BUDGET = 0.020  # seconds within which 95 % of requests must finish
OWNERS = 200
PAGE_SIZE = 25  # hits on one page of the catalog
MANY_HITS = ("beginning of a word", "two letters", "word in all packages", "empty query")  # responses of megabytes

_WORDS = list(words.english_words().costs)  # 80,000 words, most frequent first


def run(registry: Registry, person: Person, packages: int, requests: int) -> None:
    """Fill the database, then measure each kind of query."""
    url = f"postgresql://postgres@/quilt?host={registry.home}/postgres"
    began = time.perf_counter()
    asyncio.run(_fill(url, packages))
    row("packages made and indexed", packages, f"{time.perf_counter() - began:.0f} s")
    random_ = random.Random(1)
    queries = _queries(url, packages, random_)
    for kind, texts in queries.items():
        judged = kind not in MANY_HITS
        sample = [random_.choice(texts) for _ in range(requests if judged else requests // 5)]
        _measure(person, kind, sample, {}, judged)
        _measure(
            person, f"{kind}, {PAGE_SIZE} a page", sample, {"limit": str(PAGE_SIZE)}, judged or kind == MANY_HITS[0]
        )


def _measure(person: Person, kind: str, queries: list[str], more: dict[str, str], judged: bool) -> None:
    for query in queries[:10]:
        person.get("/api/search/", params={"q": query, **more}).raise_for_status()
    seconds, hits = [], 0
    for query in queries:
        began = time.perf_counter()
        answer = person.get("/api/search/", params={"q": query, **more}).raise_for_status()
        seconds.append(time.perf_counter() - began)
        hits += len(answer.json()["packages"])
    seconds.sort()
    p50, p95, p99 = (seconds[int(len(seconds) * part)] for part in (0.5, 0.95, 0.99))
    shown = f"{p50 * 1000:.1f} / {p95 * 1000:.1f} / {p99 * 1000:.1f} ms"
    good, budget = (p95 <= BUDGET, "p95 ≤ 20 ms") if judged else (None, None)
    row(kind, f"{hits / len(queries):,.1f}", shown, good, budget)


def _queries(url: str, packages: int, random_: random.Random) -> dict[str, list[str]]:
    """Return query texts by kind. The number of packages that contain a word is counted in the database."""
    counted = {
        each["word"]: each["ndoc"]
        for each in run_sql(url, "SELECT word, ndoc FROM ts_stat('SELECT words FROM package_search')")
        if each["word"].isalpha() and len(each["word"]) > 3
    }

    def between(low: float, high: float) -> list[str]:
        return sorted(word for word, count in counted.items() if low <= count <= high)

    def found_in(low: float, high: float) -> list[str]:
        """Return words that find `low` to `high` packages, by other forms and as a prefix too."""
        some = [word for word in between(low / 5, high) if random_.random() < 0.3][:5000]
        rows = run_sql(
            url,
            """
            SELECT word FROM unnest($1::text[]) word WHERE (
                SELECT count(*) FROM package_search
                WHERE words @@ (SELECT plainto_tsquery('english', word) || (word || ':*')::tsquery)) BETWEEN $2 AND $3
            """,
            some, low, high,
        )  # fmt: skip
        return [each["word"] for each in rows]

    one = found_in(packages * 0.008, packages * 0.012)
    few = between(packages * 0.01, packages * 0.05)
    names = [each["name"] for each in run_sql(url, "SELECT name FROM package ORDER BY id LIMIT 1000")]
    return {
        "rare word": found_in(1, 5),
        "word in 1% of packages": one,
        "beginning of a word": [random_.choice(one)[: random_.randint(4, 6)] for _ in range(300)],
        "two words": [f"{random_.choice(few)} {random_.choice(few)}" for _ in range(300)],
        "rare word and frequent word": [f"{word} data" for word in between(1, 20)],
        "name": names,
        "two letters": [random_.choice(one)[:2] for _ in range(300)],
        "word in all packages": ["data"],
        "empty query": [""],
    }


async def _fill(url: str, packages: int) -> None:
    connection = await asyncpg.connect(url)
    random_ = random.Random(0)
    for number in range(OWNERS):
        await connection.execute(
            "INSERT INTO account (name, email) VALUES ($1, $1 || '@example.com')", f"{_WORDS[1000 + number]}{number}"
        )
    owners = await connection.fetch("SELECT id, name FROM account WHERE email LIKE '%@example.com' ORDER BY id")
    for number in range(packages):
        owner = random_.choice(owners)
        async with connection.transaction():
            await _package(connection, random_, owner["id"], owner["name"], number)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()


async def _package(connection: asyncpg.Connection, random_: random.Random, owner_id: int, owner: str, n: int) -> None:
    """Insert a package with its instance, README, metadata and access. One in ten is private, the rest are shared."""
    name = "_".join([*_zipf(random_, 2), str(random_.randint(1990, 2026)), str(n)])
    digest = hashlib.sha256(name.encode()).digest()
    leaves = [f"{word}_{i:04}.csv" for i, word in enumerate(_zipf(random_, random_.randint(20, 200)))]
    nodes = words.distinct_in_names(_zipf(random_, 10), leaves, words.MAX_TEXT_BYTES)
    package_id = await connection.fetchval(
        "INSERT INTO package (owner_id, owner, name) VALUES ($1, $2, $3) RETURNING id", owner_id, owner, name
    )
    grantees = [owner] if n % 10 == 0 else [owner, "team"]
    await connection.execute("INSERT INTO access SELECT $1, unnest($2::text[])", package_id, grantees)
    text = "Data. " + " ".join(_zipf(random_, random_.randint(100, 800)))
    await connection.execute("INSERT INTO readme VALUES ($1, $2, $3)", owner_id, digest, text)
    metadata = " ".join(_zipf(random_, 20))
    await connection.execute("INSERT INTO metadata VALUES ($1, $2, $3)", owner_id, digest, metadata)
    instance_id = await connection.fetchval(
        """
        INSERT INTO instance (package_id, top_hash, pages, entries, size, preview, file_types, readme, names, metadata,
                              created_by, updated_by)
        VALUES ($1, $2, '', 1, 1, '[]', '{}', $2, $3, $2, $4, $4) RETURNING id
        """,
        package_id, digest, nodes, owner,
    )  # fmt: skip
    await connection.execute("INSERT INTO tag VALUES ($1, 'latest', $2)", package_id, instance_id)
    texts = await search.make_texts(owner, name, nodes, Texts(text, {digest: metadata}))
    await search.index(connection, package_id, texts)


def _zipf(random_: random.Random, count: int) -> Iterator[str]:
    """Yield words; the n-th of the list is about 1/n as frequent as the first."""
    for _ in range(count):
        yield _WORDS[int(len(_WORDS) ** random_.random()) - 1]
