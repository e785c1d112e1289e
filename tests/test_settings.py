"""Settings: defaults, modes, and error messages that name the wrong setting and never show a secret."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices

from quilt_registry import settings as settings_module
from quilt_registry.settings import Settings, SettingsError

OPERATING = Path(__file__).parent.parent / "docs" / "operating.md"
SECRET = "hunter2-hunter2-hunter2"
KEY = "k" * 16


def _variables() -> dict[str, list[str]]:
    """Return the variable names of each setting."""
    found = {}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        found[name] = [str(each) for each in alias.choices] if isinstance(alias, AliasChoices) else [name.upper()]
    return found


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for names in _variables().values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name + "_FILE", raising=False)


def load(**environment: str) -> Settings:
    os.environ.update(environment)
    try:
        return settings_module.load()
    finally:
        for name in environment:
            del os.environ[name]


def refusal(**environment: str) -> str:
    with pytest.raises(SettingsError) as refused:
        load(**environment)
    return str(refused.value)


def test_nothing_needs_to_be_set() -> None:
    given = load()
    assert given.quilt_home == Path("quilt-data")
    assert given.objects_directory == Path("quilt-data/objects")
    assert given.database_url is given.package_bucket_name is given.quilt_secret_key is None
    assert given.registry_url == given.catalog_url == "http://localhost:5000"
    assert given.package_url_expiration == 86_400
    assert given.aws_region == "us-east-1"


# ------------------------------------------------------------------------------------------------ modes


@pytest.mark.parametrize(
    ("environment", "team", "anonymous", "title"),
    [
        ({}, True, False, "local"),
        ({"TEAM_ID": "acme"}, True, False, "acme"),
        ({"TEAM_ID": "acme", "TEAM_NAME": "Acme Inc."}, True, False, "Acme Inc."),
        ({"TEAM_ID": ""}, False, True, "Quilt Registry"),
        ({"TEAM_ID": "acme", "ALLOW_ANONYMOUS_ACCESS": "yes"}, True, True, "acme"),
        ({"TEAM_ID": "acme", "ALLOW_ANONYMOUS_ACCESS": ""}, True, False, "acme"),
        ({"TEAM_ID": "", "ALLOW_TEAM_ACCESS": "on"}, True, True, "Quilt Registry"),
        ({"ALLOW_TEAM_ACCESS": "off", "ALLOW_ANONYMOUS_ACCESS": "1"}, False, True, "local"),
    ],
)
def test_a_team_or_everyone_may_read(environment: dict[str, str], team: bool, anonymous: bool, title: str) -> None:
    given = load(**environment)
    assert (given.allow_team_access, given.allow_anonymous_access, given.team_title) == (team, anonymous, title)


def test_access_must_be_open_to_a_team_or_to_everyone() -> None:
    message = refusal(ALLOW_TEAM_ACCESS="false")
    assert "ALLOW_TEAM_ACCESS" in message
    assert "ALLOW_ANONYMOUS_ACCESS" in message


@pytest.mark.parametrize(("text", "value"), [*((t, True) for t in ("1", "true", "TRUE", "Yes", "on")),
                                             *((t, False) for t in ("0", "false", "False", "no", "OFF"))])  # fmt: skip
def test_booleans_are_words(text: str, value: bool) -> None:
    assert load(ALLOW_ANONYMOUS_ACCESS=text).allow_anonymous_access is value


def test_the_catalog_url_defaults_to_that_of_the_registry() -> None:
    assert load(REGISTRY_URL="https://q.example.com/").catalog_url == "https://q.example.com"
    given = load(REGISTRY_URL="https://r.example.com", CATALOG_URL="https://c.example.com:8443")
    assert (given.registry_url, given.catalog_url) == ("https://r.example.com", "https://c.example.com:8443")


@pytest.mark.parametrize(
    ("url", "sender"),
    [
        ("https://quilt.acme.org", "quilt@quilt.acme.org"),
        ("http://localhost:5000", "quilt@localhost"),
        ("http://[::1]:5000", "quilt@localhost"),
        ("http://[2001:db8::7]", "quilt@localhost"),
        ("http://192.0.2.7:8080", "quilt@localhost"),
        ("http://my_laptop:5000", "quilt@localhost"),
    ],
)
def test_the_sender_is_derived_from_any_url(url: str, sender: str) -> None:
    given = load(REGISTRY_URL=url)
    assert (given.registry_url, given.catalog_url, given.quilt_default_sender) == (url, url, sender)
    assert load(QUILT_DEFAULT_SENDER=sender).quilt_default_sender == sender


def test_a_default_derived_from_a_wrong_value_is_not_reported() -> None:
    assert refusal(REGISTRY_URL="nonsense").count("\n") == 0
    assert refusal(TEAM_ID="Not Valid", DISABLE_SIGNUP="perhaps").count("\n") == 1


def test_empty_counts_as_absent() -> None:
    given = load(DATABASE_URL="", PACKAGE_BUCKET_NAME="", S3_ENDPOINT="", CATALOG_URL="", MAX_NODES="")
    assert given == load()


# ------------------------------------------------------------------------------------------------ invalid values


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_POOL", "many"),
        ("DATABASE_POOL", "1"),
        ("DATABASE_POOL", "1000"),
        ("S3_ENDPOINT", "localhost:9000"),
        ("S3_INTERNAL_ENDPOINT", "s3://bucket"),
        ("PACKAGE_URL_EXPIRATION", "59"),
        ("PACKAGE_URL_EXPIRATION", "604801"),
        ("PACKAGE_URL_EXPIRATION", "1d"),
        ("REGISTRY_URL", "quilt.example.com"),
        ("REGISTRY_URL", "https://quilt.example.com/path"),
        ("REGISTRY_URL", "https://quilt.example.com?x=1"),
        ("REGISTRY_URL", "https://"),
        ("REGISTRY_URL", "ftp://quilt.example.com"),
        ("REGISTRY_URL", "http://[::1"),
        ("REGISTRY_URL", "http://quilt.example.com:port"),
        ("REGISTRY_URL", "http://quilt.example.com:99999"),
        ("REGISTRY_URL", "http://anna:secret@quilt.example.com"),
        ("REGISTRY_URL", "http://quilt example.com"),
        ("REGISTRY_URL", "http://quilt.example.com\r\nX: 1"),
        ("DATABASE_URL", "mysql://quilt@db/quilt"),
        ("DATABASE_URL", "db.example.com"),
        ("DATABASE_URL", "postgresql://quilt:a/b@db:5432/quilt"),
        ("SMTP_PORT", "smtp"),
        ("SIGNUP", "maybe"),
        ("LOG_FORMAT", "xml"),
        ("TEAM_ID", "\udcff"),
        ("QUILT_SECRET_KEY", "\udcff"),
        ("CATALOG_URL", "https://quilt.example.com#x"),
        ("TEAM_ID", "Acme"),
        ("TEAM_ID", "acme1"),
        ("TEAM_ID", "ac me"),
        ("TEAM_ID", "é"),
        ("TEAM_ID", "a" * 25),
        ("ALLOW_TEAM_ACCESS", "maybe"),
        ("ALLOW_ANONYMOUS_ACCESS", "2"),
        ("MAX_BODY_BYTES", "1MB"),
        ("MAX_BODY_BYTES", "1"),
        ("MAX_UNPACKED_BYTES", "-1"),
        ("MAX_NODES", "0"),
        ("MAX_DEPTH", "201"),
        ("MAX_DEPTH", "0"),
        ("MAX_NAME_LENGTH", "0"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_refused_with_the_variables_name(name: str, value: str) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name}: ")
    assert not re.search("Input|valid (integer|boolean)|parse|validation|Value error", message), "pydantic's words"


def test_all_wrong_values_are_reported_at_once() -> None:
    message = refusal(MAX_NODES="0", TEAM_ID="X", LOG_LEVEL="loud")
    assert [line.partition(":")[0] for line in message.splitlines()] == ["TEAM_ID", "MAX_NODES", "LOG_LEVEL"]


KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.mark.parametrize("lacking", KEYS)
def test_a_bucket_needs_both_keys(lacking: str) -> None:
    message = refusal(PACKAGE_BUCKET_NAME="b", **{name: value for name, value in KEYS.items() if name != lacking})
    assert lacking in message
    assert "PACKAGE_BUCKET_NAME" in message


def test_an_external_database_without_a_bucket_needs_a_secret() -> None:
    url = f"postgresql://quilt:{SECRET}@db/quilt"
    assert "QUILT_SECRET_KEY" in refusal(DATABASE_URL=url)
    assert load(DATABASE_URL=url, QUILT_SECRET_KEY=KEY).database_url is not None
    assert load(DATABASE_URL=url, PACKAGE_BUCKET_NAME="b", **KEYS).database_url is not None


def test_a_short_key_is_refused_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("k" * 15 + "\n")
    for given in ({"QUILT_SECRET_KEY": "k" * 15}, {"QUILT_SECRET_KEY_FILE": str(file)}):
        message = refusal(**given)
        assert message.startswith("QUILT_SECRET_KEY: must have at least 16 random characters")
        assert "openssl rand -hex 32" in message
        assert "kkk" not in message
    assert load(QUILT_SECRET_KEY="").quilt_secret_key is None


def test_origins_are_as_browsers_write_them() -> None:
    given = load(REGISTRY_URL="https://Registry.example.com:443", CATALOG_URL="http://[::1]:5000")
    assert given.origins == {"https://registry.example.com", "http://[::1]:5000"}
    assert load(REGISTRY_URL="http://quilt.example.com:80").origins == {"http://quilt.example.com"}


# ------------------------------------------------------------------------------------------------ secrets

SECRETS = ["DATABASE_URL", "SQLALCHEMY_DATABASE_URI", "AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "QUILT_SECRET_KEY"]


def _value(name: str, given: Settings) -> Any:
    field = next(field for field, names in _variables().items() if name in names)
    secret = getattr(given, field)
    return secret and secret.get_secret_value()


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_be_in_a_file(name: str, tmp_path: Path) -> None:
    file, secret = tmp_path / "secret", f"postgresql://{SECRET}" if "DATABASE" in name else SECRET
    file.write_text(secret + "\n")
    with_key = {} if name == "QUILT_SECRET_KEY" else {"QUILT_SECRET_KEY": KEY}
    given = load(**{name + "_FILE": str(file)}, **with_key)
    assert _value(name, given) == secret


@pytest.mark.parametrize("name", SECRETS)
def test_a_file_that_cannot_be_read_is_named(name: str, tmp_path: Path) -> None:
    message = refusal(**{name + "_FILE": str(tmp_path / "nowhere")})
    assert message.startswith(f"{name}_FILE: cannot read")
    assert "nowhere" in message


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"\xff\xfe")
    assert refusal(QUILT_SECRET_KEY_FILE=str(file)).startswith("QUILT_SECRET_KEY_FILE: cannot read")


def test_the_older_names_of_the_secrets_are_known() -> None:
    assert _value("DATABASE_URL", load(SQLALCHEMY_DATABASE_URI="postgresql:///x", QUILT_SECRET_KEY=KEY))
    assert _value("AWS_SECRET_KEY", load(AWS_SECRET_KEY="old", AWS_SECRET_ACCESS_KEY="new")) == "old"
    assert _value("AWS_SECRET_KEY", load(AWS_SECRET_ACCESS_KEY="new")) == "new"


def test_two_different_aws_secrets_cause_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("old " + SECRET)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "new " + SECRET)
    for name, value in (("AWS_SECRET_KEY", "old " + SECRET), ("AWS_SECRET_KEY_FILE", str(file))):
        with monkeypatch.context() as one_of_two:
            one_of_two.setenv(name, value)
            assert _value("AWS_SECRET_KEY", settings_module.load()) == "old " + SECRET
            (doubt,) = settings_module.warnings()
            assert "AWS_SECRET_KEY" in doubt.split()
            assert "AWS_SECRET_ACCESS_KEY" in doubt.split()
            assert SECRET not in doubt


def test_only_urls_that_leave_the_machine_need_https(monkeypatch: pytest.MonkeyPatch) -> None:
    for url, doubts in {
        "http://[::1]:5000": 0,
        "http://localhost": 0,
        "http://[2001:db8::7]": 1,
        "https://q.org": 0,
    }.items():
        monkeypatch.setenv("REGISTRY_URL", url)
        assert len(settings_module.warnings()) == doubts


def test_two_equal_aws_secrets_or_one_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_KEY", SECRET)
    assert settings_module.warnings() == []
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert settings_module.warnings() == []


def test_aws_secret_key_wins_over_a_file_of_the_other(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("new")
    given = load(AWS_SECRET_KEY="old", AWS_SECRET_ACCESS_KEY_FILE=str(file))
    assert _value("AWS_SECRET_KEY", given) == "old"


def test_no_error_and_no_display_shows_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    environment = {
        "DATABASE_URL": f"postgresql://quilt:{SECRET}@db/quilt",
        "AWS_SECRET_KEY": SECRET,
        "QUILT_SECRET_KEY_FILE": str(file),
    }
    assert SECRET not in refusal(**environment, PACKAGE_BUCKET_NAME="b")
    assert SECRET not in refusal(**environment, MAX_NODES="0", TEAM_ID="X")
    given = load(**environment)
    assert SECRET not in f"{given!r} {given}"
    assert SECRET not in str(given.model_dump())


# ------------------------------------------------------------------------------------------------ documents


def test_operating_md_names_every_setting() -> None:
    named = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", OPERATING.read_text()))
    missing = [name for names in _variables().values() for name in names if name not in named]
    assert not missing, f"docs/operating.md does not name {', '.join(missing)}"
