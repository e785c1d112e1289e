"""What `check` says about a database server that logs the values of statements."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from quilt_registry.cli import statement_logging
from tests.registry import Registry, run_sql


def database_finding(registry: Registry) -> tuple[str, str]:
    found = json.loads(registry.command("check", "--json").stdout)
    [finding] = [each for each in found if each["part"] == "database"]
    return finding["state"], finding["says"]


def test_a_server_that_logs_values_is_reported(new_database: Callable[[], str], tmp_path: Path) -> None:
    url = new_database()
    name = run_sql(url, "SELECT current_database() AS name")[0]["name"]
    run_sql(url, f"ALTER DATABASE {name} SET log_min_duration_statement = '1s'")
    state, message = database_finding(Registry(tmp_path, url))
    assert state == "warning"
    assert message.startswith("The database server logs the values of statements (log_min_duration_statement = 1000)")
    assert "Set log_parameter_max_length = 0 on the server" in message
    run_sql(url, f"ALTER DATABASE {name} SET log_parameter_max_length = 0")
    assert database_finding(Registry(tmp_path, url))[0] == "ok"


QUIET = {
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_statement_sample_rate": "1",
    "log_transaction_sample_rate": "0",
    "log_statement": "none",
    "log_parameter_max_length": "-1",
    "log_parameter_max_length_on_error": "0",
}


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"log_min_duration_statement": "0"}, "log_parameter_max_length = 0"),
        ({"log_min_duration_sample": "100"}, "log_parameter_max_length = 0"),
        ({"log_transaction_sample_rate": "0.01"}, "log_parameter_max_length = 0"),
        ({"log_statement": "all"}, "log_parameter_max_length = 0"),
        ({"log_statement": "mod", "log_parameter_max_length": "64"}, "log_parameter_max_length = 0"),
        ({"log_parameter_max_length_on_error": "-1"}, "log_parameter_max_length_on_error = 0"),
        (
            {"auto_explain.log_min_duration": "0", "auto_explain.log_parameter_max_length": "-1"},
            "auto_explain.log_parameter_max_length = 0",
        ),
        ({"pgaudit.log": "read, write", "pgaudit.log_parameter": "on"}, "pgaudit.log_parameter = off"),
    ],
)
def test_each_way_to_log_values_has_its_remedy(changed: dict[str, str], remedy: str) -> None:
    [warning] = statement_logging.warnings(QUIET | changed)
    assert all(name in warning for name in changed if "length" not in name and "parameter" not in name)
    assert f"Set {remedy} on the server" in warning


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"log_statement": "ddl"},
        {"log_min_duration_sample": "0", "log_statement_sample_rate": "0"},
        {"log_min_duration_statement": "0", "log_statement": "all", "log_parameter_max_length": "0"},
        {"auto_explain.log_min_duration": "-1", "auto_explain.log_parameter_max_length": "-1"},
        {"auto_explain.log_min_duration": "0", "auto_explain.log_parameter_max_length": "0"},
        {"pgaudit.log": "none", "pgaudit.log_parameter": "on"},
        {"pgaudit.log": "all", "pgaudit.log_parameter": "off"},
    ],
)
def test_a_server_that_logs_no_values_is_not_reported(changed: dict[str, str]) -> None:
    assert list(statement_logging.warnings(QUIET | changed)) == []
