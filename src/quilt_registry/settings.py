"""The settings: environment variables, read once. docs/operating.md lists them for operators."""

from __future__ import annotations

import os
from email import policy
from email.errors import HeaderParseError
from email.parser import Parser
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class SettingsError(Exception):
    """A setting is wrong. The message names the variable, says what is wrong, and never shows a secret."""


def _address(value: str) -> str:
    parts = urlsplit(value.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("must be an http(s) address without a path, such as https://quilt.example.com")
    return value.rstrip("/")


def _signup(disabled: Any, team_mode: bool) -> str:
    """SIGNUP where it is absent, from the original's DISABLE_SIGNUP."""
    if disabled is None:
        return "invited" if team_mode else "open"
    return "closed" if str(disabled).lower() in ("1", "true", "yes", "on", "t", "y") else "open"


def _team_id(value: str) -> str:
    if value and not (value.isascii() and value.isalpha() and value.islower() and len(value) <= 24):
        raise ValueError("must be 1 to 24 lower-case letters (old clients take nothing else), or empty for open mode")
    return value


def _domains(value: str) -> str:
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if any("@" in name or not name.isascii() or " " in name for name in names):
        raise ValueError("must be mail domains separated by commas, such as acme.org,acme.example")
    return ",".join(names)


def _mail_address(value: str) -> str:
    try:
        parsed = Parser(policy=policy.default).parsestr(f"From: {value}").get("From")
        fine = parsed is not None and len(parsed.addresses) == 1 and not parsed.defects and "@" in value
    except (ValueError, HeaderParseError):
        fine = False
    if not fine or not value.isprintable():
        raise ValueError("must be one mail address, such as quilt@acme.org or Quilt <quilt@acme.org>")
    return value


Address = Annotated[str, AfterValidator(_address)]

# Variables whose value a file may hold: NAME_FILE is its path.
SECRETS = (
    "DATABASE_URL",
    "SQLALCHEMY_DATABASE_URI",
    "AWS_SECRET_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "QUILT_SECRET_KEY",
    "SMTP_PASSWORD",
    "METRICS_TOKEN",
)
# Variables of the original registry that have no counterpart here; an old file of settings still starts.
IGNORED = (
    "QUILT_SERVER_CONFIG",
    "STRIPE_KEY",
    "STRIPE_SECRET_KEY",
    "MIXPANEL_PROJECT_TOKEN",
    "ALLOW_INSECURE_CATALOG_ACCESS",
    "UWSGI_HOST",
    "UWSGI_PORT",
    "NGINX_PORT",
)


class Settings(BaseSettings):
    """All settings, typed. Field names in capitals are the names of the variables, unless an alias is given."""

    model_config = SettingsConfigDict(env_ignore_empty=False, extra="ignore", frozen=True, populate_by_name=True)

    quilt_home: Path = Path("quilt-data")
    """Data directory of the embedded set-up: `postgres/`, `objects/`, `secret`."""
    database_url: SecretStr | None = Field(
        None, validation_alias=AliasChoices("DATABASE_URL", "SQLALCHEMY_DATABASE_URI")
    )
    """PostgreSQL, as postgresql://…; absent: the embedded one."""
    database_pool: int = Field(10, ge=2, le=200)
    """Database connections of each worker, at most."""

    package_bucket_name: str | None = None
    """Bucket of the object store; absent: the directory QUILT_HOME/objects."""
    s3_endpoint: Address | None = None
    """Address of an S3-compatible store, as clients reach it; absent: AWS."""
    s3_internal_endpoint: Address | None = None
    """The same store as the registry itself reaches it, where that differs."""
    aws_region: str = Field("us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    """Region of the bucket."""
    aws_access_key_id: str | None = None
    """Access key that signs URLs."""
    aws_secret_access_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    """Its secret. AWS_SECRET_KEY wins when both are set."""
    package_url_expiration: int = Field(86_400, ge=60, le=604_800)
    """Seconds that a signed URL lives."""

    registry_url: Address = "http://localhost:5000"
    """Public address of the registry; what clients are told."""
    catalog_url: Address = "http://localhost:5000"
    """Public address of the catalog pages; REGISTRY_URL when absent."""

    team_id: Annotated[str, AfterValidator(_team_id)] = "local"
    """The team's name in client commands. Empty: open mode."""
    team_name: str = ""
    """The team's name on pages; TEAM_ID when absent."""
    allow_team_access: bool = True
    """Packages may be shared with the whole team. Default: on in team mode."""
    allow_anonymous_access: bool = False
    """People who are not signed in may read public packages. Default: on in open mode."""

    enable_user_endpoints: bool = True
    """Admins may manage accounts through the API. Default: on in team mode."""
    signup: Literal["open", "invited", "closed"] = "invited"
    """Who may make an account: anybody; invited addresses and those of SIGNUP_DOMAINS; nobody. Default: `invited` in
    team mode, where every member reads and pushes team packages, `open` in open mode."""
    disable_signup: bool | None = None
    """The original's name: true is SIGNUP=closed, false is SIGNUP=open. Not looked at when SIGNUP is set."""
    signup_domains: Annotated[str, AfterValidator(_domains)] = ""
    """Mail domains whose people may sign up by themselves, separated by commas."""
    rate_limits: bool = True
    """Sign-ins, sign-ups, resets, invitations and comments are limited in number. Off only for tests."""

    smtp_host: str | None = None
    """Mail server. Absent: letters are printed to the log."""
    smtp_port: int = Field(587, ge=1, le=65_535)
    """Its port; on 465 and 2465 TLS begins with the first byte."""
    smtp_username: str | None = None
    """Name to sign in to the mail server with."""
    smtp_password: SecretStr | None = None
    """Its password."""
    smtp_use_tls: bool | None = None
    """Whether the connection to the mail server is encrypted: must be, must not be, or, by default, is if the server
    offers it, and must be when there is a user name."""
    quilt_default_sender: Annotated[str, AfterValidator(_mail_address)] = "quilt@localhost"
    """Sender of letters. Default: quilt@ the host of REGISTRY_URL."""

    quilt_secret_key: SecretStr | None = None
    """Signs cookies and local URLs. Embedded: made once and kept in QUILT_HOME/secret."""

    max_body_bytes: int = Field(100_000_000, ge=1_000_000)
    """Largest request body, sent plain."""
    max_unpacked_bytes: int = Field(512 * 1024 * 1024, ge=1_000_000)
    """Largest request body sent as gzip, after unpacking."""
    max_nodes: int = Field(2_000_000, ge=1)
    """Most nodes in a package."""
    max_depth: int = Field(72, ge=1, le=200)
    """Most groups below each other in a package."""
    max_name_length: int = Field(255, ge=1, le=4_096)
    """Most characters in a node's name."""

    metrics_token: SecretStr | None = None
    """Bearer token that /metrics asks for. Absent: there is no /metrics."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    log_format: Literal["json", "text"] | None = None
    """Lines of JSON or text for people. Absent: text if standard output is a terminal."""
    slow_query_ms: int = Field(500, ge=1)
    """Milliseconds from which on a statement is logged."""
    deployment_id: str = ""
    """Name of this deployment, a field of each line of the log."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Addresses of proxies whose X-Forwarded-* headers are believed, separated by commas."""

    @model_validator(mode="before")
    @classmethod
    def _modes(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Fill in what depends on other settings. Empty texts count as absent, but for TEAM_ID."""
        values = {name: value for name, value in values.items() if value != "" or name.lower() == "team_id"}
        team_mode = values.get("team_id", "local") != ""
        values.setdefault("allow_team_access", team_mode)
        values.setdefault("allow_anonymous_access", not team_mode)
        values.setdefault("enable_user_endpoints", team_mode)
        values.setdefault("signup", _signup(values.get("disable_signup"), team_mode))
        registry_url = values.get("registry_url", "http://localhost:5000")
        values.setdefault("catalog_url", registry_url)
        values.setdefault("quilt_default_sender", f"quilt@{urlsplit(registry_url).hostname or 'localhost'}")
        return values

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if not (self.allow_team_access or self.allow_anonymous_access):
            raise ValueError("ALLOW_TEAM_ACCESS or ALLOW_ANONYMOUS_ACCESS must be on")
        if self.package_bucket_name and not (self.aws_access_key_id and self.aws_secret_access_key):
            raise ValueError("PACKAGE_BUCKET_NAME needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if self.database_url and not self.package_bucket_name and not self.quilt_secret_key:
            raise ValueError("DATABASE_URL without PACKAGE_BUCKET_NAME needs QUILT_SECRET_KEY, which signs local URLs")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment alone: no file that happens to lie in the working directory."""
        return init_settings, env_settings

    @property
    def signup_domain_list(self) -> list[str]:
        """The mail domains whose people may sign up."""
        return [name for name in self.signup_domains.split(",") if name]

    @property
    def objects_directory(self) -> Path:
        """Where the directory store keeps objects."""
        return self.quilt_home / "objects"

    @property
    def team_title(self) -> str:
        """What pages call the team."""
        return self.team_name or self.team_id or "Quilt Registry"


def load() -> Settings:
    """Read the environment. NAME_FILE names a file to read a secret from. Raises SettingsError."""
    secrets = _secrets_in_files()
    if winner := os.environ.get("AWS_SECRET_KEY"):  # over a file with the other name, too
        secrets.setdefault("AWS_SECRET_KEY", winner)
    try:
        return Settings(**secrets)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_sentence, error.errors(include_input=False, include_url=False)))) from None


def warnings() -> list[str]:
    """What is set and probably not meant, a sentence each. Raises SettingsError."""
    given = {**os.environ, **_secrets_in_files()}
    found = []
    old, new = given.get("AWS_SECRET_KEY"), given.get("AWS_SECRET_ACCESS_KEY")
    if old and new and old != new:
        found.append("AWS_SECRET_KEY and AWS_SECRET_ACCESS_KEY differ; AWS_SECRET_KEY is used. Unset one of them.")
    if ignored := [name for name in IGNORED if given.get(name)]:
        found.append(f"Set, but without any effect: {', '.join(ignored)}. Unset them.")
    for name in ("REGISTRY_URL", "CATALOG_URL"):
        address = urlsplit(given.get(name) or "")
        if address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1"):
            found.append(f"{name} begins with http: passwords and tokens can be read on their way. Put TLS before it.")
    return found


def variables() -> set[str]:
    """The names of all variables that may be set, those without effect included."""
    names = {*IGNORED, *SECRETS, *(f"{name}_FILE" for name in SECRETS)}
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        names |= {str(each) for each in alias.choices} if isinstance(alias, AliasChoices) else {name.upper()}
    return names


def _secrets_in_files() -> dict[str, Any]:
    secrets = {}
    for name in SECRETS:
        if file := os.environ.get(name + "_FILE"):
            try:
                secrets[name] = Path(file).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{name}_FILE: cannot read {file}: {error.strerror}") from None
            except UnicodeDecodeError:
                raise SettingsError(f"{name}_FILE: cannot read {file}: it is not text in UTF-8") from None
    return secrets


def _sentence(error: Any) -> str:
    where = ".".join(map(str, error["loc"])).upper()
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
