"""Settings, read once from environment variables. docs/operating.md documents them for operators."""

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
    """A setting is invalid. The message names the variable and the problem, and never contains a secret."""


def _url(value: str) -> str:
    parts = urlsplit(value.rstrip("/"))
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query or parts.fragment:
        raise ValueError("must be an http(s) URL without a path, such as https://quilt.example.com")
    return value.rstrip("/")


def _team_id(value: str) -> str:
    if value and not (value.isascii() and value.isalpha() and value.islower() and len(value) <= 24):
        raise ValueError("must be 1 to 24 lower-case letters, as old clients require, or empty for open mode")
    return value


def _domains(value: str) -> str:
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if any("@" in name or not name.isascii() or " " in name for name in names):
        raise ValueError("must be email domains separated by commas, such as acme.org,acme.example")
    return ",".join(names)


def _sender(value: str) -> str:
    try:
        header = Parser(policy=policy.default).parsestr(f"From: {value}").get("From")
        is_valid = header is not None and len(header.addresses) == 1 and not header.defects and "@" in value
    except (ValueError, HeaderParseError):
        is_valid = False
    if not is_valid or not value.isprintable():
        raise ValueError("must be one email address, such as quilt@acme.org or Quilt <quilt@acme.org>")
    return value


Url = Annotated[str, AfterValidator(_url)]

# For each of these, NAME_FILE can give the path of a file that contains the value.
SECRETS = (
    "DATABASE_URL",
    "SQLALCHEMY_DATABASE_URI",
    "AWS_SECRET_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "QUILT_SECRET_KEY",
    "SMTP_PASSWORD",
    "METRICS_TOKEN",
)
# Variables of the original registry that have no counterpart. They are ignored, so that its settings files still work.
IGNORED_VARIABLES = (
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
    """All settings. A field's name in capitals is the name of its variable, unless it has an alias."""

    model_config = SettingsConfigDict(env_ignore_empty=False, extra="ignore", frozen=True, populate_by_name=True)

    quilt_home: Path = Path("quilt-data")
    """Data directory in embedded mode: `postgres/`, `objects/`, `secret`."""
    database_url: SecretStr | None = Field(
        None, validation_alias=AliasChoices("DATABASE_URL", "SQLALCHEMY_DATABASE_URI")
    )
    """URL of PostgreSQL, postgresql://…. Not set: embedded PostgreSQL."""
    database_pool: int = Field(10, ge=2, le=200)
    """Maximum number of database connections per worker."""

    package_bucket_name: str | None = None
    """Bucket for objects. Not set: the directory QUILT_HOME/objects."""
    s3_endpoint: Url | None = None
    """URL of an S3-compatible store as clients reach it. Not set: AWS."""
    s3_internal_endpoint: Url | None = None
    """URL of the same store as the registry reaches it. Default: S3_ENDPOINT."""
    aws_region: str = Field("us-east-1", validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    """Region of the bucket."""
    aws_access_key_id: str | None = None
    """Access key that signs URLs."""
    aws_secret_access_key: SecretStr | None = Field(
        None, validation_alias=AliasChoices("AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    """Its secret. AWS_SECRET_KEY takes precedence if both are set."""
    package_url_expiration: int = Field(86_400, ge=60, le=604_800)
    """Lifetime of presigned URLs in seconds."""

    registry_url: Url = "http://localhost:5000"
    """Public URL of the registry."""
    catalog_url: Url = "http://localhost:5000"
    """Public URL of the web pages. Default: REGISTRY_URL."""

    team_id: Annotated[str, AfterValidator(_team_id)] = "local"
    """The team's name in commands. Set but empty: open mode."""
    team_name: str = ""
    """The team's name on pages. Default: TEAM_ID."""
    allow_team_access: bool = True
    """Whether packages can be shared with the whole team. Default: on in team mode."""
    allow_anonymous_access: bool = False
    """Whether public packages can be read without signing in. Default: on in open mode."""

    enable_user_endpoints: bool = True
    """Whether admins can manage accounts through the API. Default: on in team mode."""
    signup: Literal["open", "invited", "closed"] = "invited"
    """Who can create an account. `open`: everyone; `invited`: email addresses that were invited to a package, and those
    of SIGNUP_DOMAINS; `closed`: only admins create accounts. Default: `open` in open mode, and `invited` in team mode,
    because every account can read and push all team packages."""
    disable_signup: bool | None = None
    """The name in the original registry: true is SIGNUP=closed, false is SIGNUP=open. Ignored if SIGNUP is set."""
    signup_domains: Annotated[str, AfterValidator(_domains)] = ""
    """Email domains whose users can sign up, separated by commas."""
    rate_limits: bool = True
    """Whether sign-ins, sign-ups, password resets, invitations and comments are limited. Turn off only for tests."""

    smtp_host: str | None = None
    """Mail server. Not set: emails are written to the log."""
    smtp_port: int = Field(587, ge=1, le=65_535)
    """Its port. On 465 and 2465 the connection uses TLS from the start."""
    smtp_username: str | None = None
    """Username for the mail server."""
    smtp_password: SecretStr | None = None
    """Password for the mail server."""
    smtp_use_tls: bool | None = None
    """True: require encryption (STARTTLS, except on the ports above). False: never encrypt. Not set: require encryption
    if there is a username, otherwise use it if the server offers it."""
    quilt_default_sender: Annotated[str, AfterValidator(_sender)] = "quilt@localhost"
    """Sender of emails. Default: quilt@ the host of REGISTRY_URL."""

    quilt_secret_key: SecretStr | None = None
    """Signs cookies and local URLs. In embedded mode it is generated once and stored in QUILT_HOME/secret."""

    max_body_bytes: int = Field(100_000_000, ge=1_000_000)
    """Maximum size of an uncompressed request body."""
    max_unpacked_bytes: int = Field(512 * 1024 * 1024, ge=1_000_000)
    """Maximum size of a gzip request body after decompression."""
    max_nodes: int = Field(2_000_000, ge=1)
    """Maximum number of nodes in a package."""
    max_depth: int = Field(72, ge=1, le=200)
    """Maximum nesting depth of groups in a package."""
    max_name_length: int = Field(255, ge=1, le=4_096)
    """Maximum length of a node name in characters."""

    metrics_token: SecretStr | None = None
    """Bearer token for /metrics. Not set: /metrics does not exist."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of log lines."""
    log_format: Literal["json", "text"] | None = None
    """JSON lines or human-readable text. Default: text if standard output is a terminal."""
    slow_query_ms: int = Field(500, ge=1)
    """Database statements that take at least this many milliseconds are logged."""
    deployment_id: str = ""
    """Name of this deployment, a field of every log line."""
    forwarded_allow_ips: str = "127.0.0.1"
    """IPs of proxies whose X-Forwarded-* headers are trusted, separated by commas."""

    @model_validator(mode="before")
    @classmethod
    def _set_defaults(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Set defaults that depend on other settings. Empty values count as not set, except for TEAM_ID."""
        values = {name: value for name, value in values.items() if value != "" or name.lower() == "team_id"}
        team_mode = values.get("team_id", "local") != ""
        values.setdefault("allow_team_access", team_mode)
        values.setdefault("allow_anonymous_access", not team_mode)
        values.setdefault("enable_user_endpoints", team_mode)
        values.setdefault("signup", _default_signup(values.get("disable_signup"), team_mode=team_mode))
        registry_url = values.get("registry_url", "http://localhost:5000")
        values.setdefault("catalog_url", registry_url)
        values.setdefault("quilt_default_sender", f"quilt@{urlsplit(registry_url).hostname or 'localhost'}")
        return values

    @model_validator(mode="after")
    def _check_combinations(self) -> Settings:
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
        """Read the environment only, not a file that happens to be in the working directory."""
        return init_settings, env_settings

    @property
    def signup_domain_list(self) -> list[str]:
        """The email domains whose users can sign up."""
        return [name for name in self.signup_domains.split(",") if name]

    @property
    def objects_directory(self) -> Path:
        """The directory of the objects if there is no bucket."""
        return self.quilt_home / "objects"

    @property
    def team_title(self) -> str:
        """The title of the registry on pages and in emails."""
        return self.team_name or self.team_id or "Quilt Registry"


def _default_signup(disabled: Any, *, team_mode: bool) -> str:
    """Return the value of SIGNUP from DISABLE_SIGNUP of the original registry, or the default of the mode."""
    if disabled is None:
        return "invited" if team_mode else "open"
    return "closed" if str(disabled).lower() in ("1", "true", "yes", "on", "t", "y") else "open"


def load() -> Settings:
    """Read the settings from the environment, and secrets also from files. Raise SettingsError."""
    secrets = _secrets_in_files()
    if aws_secret_key := os.environ.get("AWS_SECRET_KEY"):  # takes precedence over AWS_SECRET_ACCESS_KEY_FILE too
        secrets.setdefault("AWS_SECRET_KEY", aws_secret_key)
    try:
        return Settings(**secrets)
    except ValidationError as error:
        raise SettingsError("\n".join(map(_message, error.errors(include_input=False, include_url=False)))) from None


def warnings() -> list[str]:
    """Return a sentence about each setting that is probably a mistake. Raise SettingsError."""
    environment = {**os.environ, **_secrets_in_files()}
    messages = []
    old, new = environment.get("AWS_SECRET_KEY"), environment.get("AWS_SECRET_ACCESS_KEY")
    if old and new and old != new:
        messages.append("AWS_SECRET_KEY and AWS_SECRET_ACCESS_KEY differ; AWS_SECRET_KEY is used. Unset one of them.")
    if ignored := [name for name in IGNORED_VARIABLES if environment.get(name)]:
        messages.append(f"These variables have no effect: {', '.join(ignored)}. Unset them.")
    for name in ("REGISTRY_URL", "CATALOG_URL"):
        url = urlsplit(environment.get(name) or "")
        if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1"):
            messages.append(f"{name} uses http, so passwords and tokens are sent unencrypted. Use https.")
    return messages


def variables() -> set[str]:
    """Return the names of all known variables, including ignored ones."""
    names = {*IGNORED_VARIABLES, *SECRETS, *(f"{name}_FILE" for name in SECRETS)}
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
                raise SettingsError(f"{name}_FILE: cannot read {file}: it is not UTF-8 text") from None
    return secrets


def _message(error: Any) -> str:
    variable = ".".join(map(str, error["loc"])).upper()
    message = error["msg"].removeprefix("Value error, ")
    return f"{variable}: {message}" if variable else message
