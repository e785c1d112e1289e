"""Detection of a database server that logs the values of statements.

The values contain password hashes, digests of tokens, and emails with their links.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quilt_registry.database import Database

_NAMES = (
    "log_min_duration_statement",
    "log_min_duration_sample",
    "log_statement_sample_rate",
    "log_transaction_sample_rate",
    "log_statement",
    "log_parameter_max_length",
    "log_parameter_max_length_on_error",
    "auto_explain.log_min_duration",
    "auto_explain.log_parameter_max_length",
    "pgaudit.log",
    "pgaudit.log_parameter",
)


async def query(db: Database) -> dict[str, str]:
    """Return the settings of this session by name. Those of extensions that are not loaded are absent."""
    rows = await db.fetch("SELECT name, setting FROM pg_settings WHERE name = ANY($1::text[])", list(_NAMES))
    return {row["name"]: row["setting"] for row in rows}


def warnings(settings: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each way in which the server logs values, with the setting that ends it."""
    for causes, remedy in (
        (list(_causes_of_statements(settings)), "log_parameter_max_length = 0"),
        (list(_causes_of_errors(settings)), "log_parameter_max_length_on_error = 0"),
        (list(_causes_of_plans(settings)), "auto_explain.log_parameter_max_length = 0"),
        (list(_causes_of_audits(settings)), "pgaudit.log_parameter = off"),
    ):
        if causes:
            yield (
                f"The database server logs the values of statements ({', '.join(causes)}), among them password hashes "
                f"and links of emails. Set {remedy} on the server, and delete its old logs."
            )


def _causes_of_statements(settings: Mapping[str, str]) -> Iterator[str]:
    if settings.get("log_parameter_max_length") == "0":
        return
    yield from _durations(settings, "log_min_duration_statement")
    if _number(settings, "log_statement_sample_rate") > 0:
        yield from _durations(settings, "log_min_duration_sample")
    if _number(settings, "log_transaction_sample_rate") > 0:
        yield f"log_transaction_sample_rate = {settings['log_transaction_sample_rate']}"
    # `ddl` logs migrations only, which have no values.
    if settings.get("log_statement") in ("mod", "all"):
        yield f"log_statement = {settings['log_statement']}"


def _causes_of_errors(settings: Mapping[str, str]) -> Iterator[str]:
    if settings.get("log_parameter_max_length_on_error", "0") != "0":
        yield f"log_parameter_max_length_on_error = {settings['log_parameter_max_length_on_error']}"


def _causes_of_plans(settings: Mapping[str, str]) -> Iterator[str]:
    if settings.get("auto_explain.log_parameter_max_length") != "0":
        yield from _durations(settings, "auto_explain.log_min_duration")


def _causes_of_audits(settings: Mapping[str, str]) -> Iterator[str]:
    if settings.get("pgaudit.log", "none") not in ("", "none") and settings.get("pgaudit.log_parameter") == "on":
        yield f"pgaudit.log = {settings['pgaudit.log']}"


def _durations(settings: Mapping[str, str], name: str) -> Iterator[str]:
    """Yield the setting unless it is -1, which turns it off."""
    if _number(settings, name) >= 0:
        yield f"{name} = {settings[name]}"


def _number(settings: Mapping[str, str], name: str) -> float:
    return float(settings.get(name, "-1"))
