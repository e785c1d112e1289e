"""Settings, read once from environment variables. docs/operating.md documents them for operators."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from email import policy
from email.errors import HeaderParseError
from email.parser import Parser
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class SettingsError(Exception):
    """A setting is invalid. The message names the variable and the problem, and never contains a secret."""


_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_DOMAIN = re.compile(r"([A-Za-z0-9-]+\.)*[A-Za-z][A-Za-z0-9-]*")  # no IP, whose last part is a number


def _url(value: str) -> str:
    value = value.rstrip("/")
    try:
        parts = urlsplit(value)
        is_valid = parts.port != 0 and _HOST.fullmatch(parts.hostname or "") is not None
    except ValueError:
        is_valid = False
    if not is_valid or value != f"{parts.scheme}://{parts.netloc}" or parts.scheme not in ("http", "https"):
        raise ValueError("must be an http(s) URL without a path, such as https://quilt.example.com")
    if "@" in parts.netloc:
        raise ValueError("must not contain a username or password")
    return value


def _text(value: SecretStr) -> SecretStr:
    try:
        value.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8 text") from None
    return value


def _database_url(value: SecretStr) -> SecretStr:
    try:
        parts = urlsplit(value.get_secret_value())
        is_valid = parts.scheme.partition("+")[0] in ("postgresql", "postgres") and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ValueError(
            "must be the URL of a PostgreSQL database, such as postgresql://user:password@host:5432/name. Write "
            "special characters of the password as %XX"
        )
    return value


def _team_id(value: str) -> str:
    if value and not (value.isascii() and value.isalpha() and value.islower() and len(value) <= 24):
        raise ValueError("must be 1 to 24 lower-case letters, as old clients require, or empty for open mode")
    return value


def _web_address(value: str) -> str:
    if urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname:
        raise ValueError("must be an http(s) URL")
    return value


def _logo(value: Path) -> Path:
    if value.suffix.lower() not in (".svg", ".png"):
        raise ValueError("must be an SVG or PNG file")
    if not value.is_file():
        raise ValueError(f"there is no file {value}")
    if value.stat().st_size > MAX_LOGO_BYTES:
        raise ValueError(f"the file must not exceed {MAX_LOGO_BYTES:,} bytes")
    return value


def _domains(value: str) -> str:
    names = [name.strip().lower() for name in value.split(",") if name.strip()]
    if any("@" in name or not name.isascii() or " " in name for name in names):
        raise ValueError("must be email domains separated by commas, such as acme.org,acme.example")
    return ",".join(names)


def _secret_key(value: SecretStr) -> SecretStr:
    if len(value.get_secret_value()) < MIN_SECRET_KEY_LENGTH:
        raise ValueError(
            f"must have at least {MIN_SECRET_KEY_LENGTH} random characters, such as those of `openssl rand -hex 32`"
        )
    return value


def _sender(value: str) -> str:
    try:
        header = Parser(policy=policy.default).parsestr(f"From: {value}").get("From")
        is_valid = header is not None and len(header.addresses) == 1 and not header.defects and "@" in value
    except (ValueError, HeaderParseError):
        is_valid = False
    if not is_valid or not value.isprintable():
        raise ValueError("must be one email address, such as quilt@acme.org or Quilt <quilt@acme.org>")
    return value


def _default_sender(registry_url: str) -> str:
    """Return quilt@ the host of the registry, if that can be the domain of an email address."""
    host = urlsplit(registry_url).hostname or ""
    return f"quilt@{host if _DOMAIN.fullmatch(host) else 'localhost'}"


MIN_SECRET_KEY_LENGTH = 16  # characters
MAX_LOGO_BYTES = 64_000
DEFAULT_PORTS = {"http": ":80", "https": ":443"}

Url = Annotated[str, AfterValidator(_url)]
Secret = Annotated[SecretStr, AfterValidator(_text)]
WORKERS = "WEB_CONCURRENCY"  # no setting: here `serve` tells each worker how many there are
DEFAULT_URL = "http://localhost:5000"

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


def _is_team_mode(values: Mapping[str, Any]) -> bool:
    return values.get("team_id") != ""


def _default_signup(values: Mapping[str, Any]) -> Literal["open", "invited", "closed"]:
    """Return SIGNUP as DISABLE_SIGNUP of the original registry says it, or the default of the mode."""
    disabled = values.get("disable_signup")
    if disabled is None:
        return "invited" if _is_team_mode(values) else "open"
    return "closed" if disabled else "open"


class DatabaseSettings(BaseSettings):
    """The settings of commands that use the database only.

    A field's name in capitals is the name of its variable, unless it has an alias. A default that depends on other
    settings is a function of the valid ones above it.
    """

    model_config = SettingsConfigDict(env_ignore_empty=False, extra="ignore", frozen=True, populate_by_name=True)

    quilt_home: Path = Path("quilt-data")
    """Data directory in embedded mode: `postgres/`, `objects/`, `secret`."""
    database_url: Annotated[Secret, AfterValidator(_database_url)] | None = Field(
        None, validation_alias=AliasChoices("DATABASE_URL", "SQLALCHEMY_DATABASE_URI")
    )
    """URL of PostgreSQL, postgresql://…. Not set: embedded PostgreSQL."""
    quilt_secret_key: Annotated[Secret, AfterValidator(_secret_key)] | None = None
    """Signs the URLs of objects in a directory. In embedded mode it is generated once and stored in QUILT_HOME/secret.
    Sessions do not depend on it: `quilt-registry sign-out` ends them."""

    @property
    def objects_directory(self) -> Path:
        """The directory of the objects if there is no bucket."""
        return self.quilt_home / "objects"

    @model_validator(mode="before")
    @classmethod
    def _drop_empty(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Empty values count as not set, except for TEAM_ID."""
        return {name: value for name, value in values.items() if value != "" or name.lower() == "team_id"}

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


class StorageSettings(DatabaseSettings):
    """The settings of commands that use the database and the object store."""

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
    aws_secret_access_key: Secret | None = Field(
        None, validation_alias=AliasChoices("AWS_SECRET_KEY", "AWS_SECRET_ACCESS_KEY")
    )
    """Its secret. AWS_SECRET_KEY takes precedence if both are set."""
    package_url_expiration: int = Field(86_400, ge=60, le=604_800)
    """Lifetime of presigned URLs in seconds."""

    registry_url: Url = DEFAULT_URL
    """Public URL of the registry."""

    @model_validator(mode="after")
    def _check_bucket(self) -> Self:
        if self.package_bucket_name and not (self.aws_access_key_id and self.aws_secret_access_key):
            raise ValueError("PACKAGE_BUCKET_NAME needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        return self


class Settings(StorageSettings):
    """All settings."""

    database_pool: int = Field(10, ge=2, le=200)
    """Maximum number of database connections per worker."""
    catalog_url: Url = Field(default_factory=lambda values: values.get("registry_url", DEFAULT_URL))
    """Public URL of the web pages. Default: REGISTRY_URL."""

    team_id: Annotated[str, AfterValidator(_team_id)] = "local"
    """The team's name in commands. Set but empty: open mode."""
    team_name: str = ""
    """The team's name on pages. Default: TEAM_ID."""
    team_tagline: str = Field("", max_length=200)
    """A line about the team under its name on the home page."""
    team_logo: Annotated[Path, AfterValidator(_logo)] | None = None
    """Path of the team's logo, an SVG or PNG file of at most 64 kB."""
    support_email: str = Field("", max_length=320)
    """Email address to which pages send users who need help."""
    docs_url: Annotated[str, AfterValidator(_web_address)] | None = None
    """URL of the team's own documentation, linked at the foot of each page."""
    allow_team_access: bool = Field(default_factory=_is_team_mode)
    """Whether packages can be shared with the whole team. Default: on in team mode."""
    allow_anonymous_access: bool = Field(default_factory=lambda values: not _is_team_mode(values))
    """Whether public packages can be read without signing in. Default: on in open mode."""

    enable_user_endpoints: bool = Field(default_factory=_is_team_mode)
    """Whether admins can manage accounts, on pages and through the API. Default: on in team mode."""
    disable_signup: bool | None = None
    """The name in the original registry: true is SIGNUP=closed, false is SIGNUP=open. Ignored if SIGNUP is set."""
    signup: Literal["open", "invited", "closed"] = Field(default_factory=_default_signup)
    """Who can create an account. `open`: everyone; `invited`: email addresses that were invited to a package, and those
    of SIGNUP_DOMAINS; `closed`: only admins create accounts. Default: `open` in open mode, and `invited` in team mode,
    because every account can read and push all team packages."""
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
    smtp_password: Secret | None = None
    """Password for the mail server."""
    smtp_use_tls: bool | None = None
    """True: require encryption (STARTTLS, except on the ports above). False: never encrypt. Not set: require encryption
    if there is a username, otherwise use it if the server offers it."""
    quilt_default_sender: Annotated[str, AfterValidator(_sender)] = Field(
        default_factory=lambda values: _default_sender(values.get("registry_url", DEFAULT_URL))
    )
    """Sender of emails. Default: quilt@ the host of REGISTRY_URL, or quilt@localhost if that is an IP."""

    max_body_bytes: int = Field(100_000_000, ge=1_000_000)
    """Maximum size of a request body as it is sent, compressed or not."""
    max_unpacked_bytes: int = Field(512 * 1024 * 1024, ge=1_000_000)
    """Maximum size of a gzip request body after decompression."""
    max_object_bytes: int = Field(100_000_000_000, ge=1_000_000)
    """Maximum size of an object in a directory. A bucket has a limit of its own."""
    max_nodes: int = Field(2_000_000, ge=1)
    """Maximum number of nodes in a package."""
    max_depth: int = Field(72, ge=1, le=200)
    """Maximum nesting depth of groups in a package."""
    max_name_length: int = Field(255, ge=1, le=4_096)
    """Maximum length of a node name in characters."""

    metrics_token: Secret | None = None
    """Bearer token for /metrics. Not set: /metrics does not exist."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Minimum level of log lines."""
    log_format: Literal["json", "text"] | None = None
    """JSON lines or human-readable text. Default: text if standard output is a terminal, or with
    the embedded database."""
    slow_query_ms: int = Field(500, ge=1)
    """Database statements that take at least this many milliseconds are logged."""
    deployment_id: str = ""
    """Name of this deployment, a field of every log line."""
    forwarded_allow_ips: str = "127.0.0.1"
    """IPs of proxies whose X-Forwarded-* headers are trusted, separated by commas."""

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if not (self.allow_team_access or self.allow_anonymous_access):
            raise ValueError("ALLOW_TEAM_ACCESS or ALLOW_ANONYMOUS_ACCESS must be on")
        if self.database_url and not self.package_bucket_name and not self.quilt_secret_key:
            raise ValueError("DATABASE_URL without PACKAGE_BUCKET_NAME needs QUILT_SECRET_KEY, which signs local URLs")
        return self

    @property
    def is_https(self) -> bool:
        """Whether browsers reach the pages over https."""
        return urlsplit(self.catalog_url).scheme == "https"

    @property
    def is_https_only(self) -> bool:
        """Whether all of the registry is reached over https. Its two URLs may be two ports of one host."""
        return self.is_https and urlsplit(self.registry_url).scheme == "https"

    @property
    def origins(self) -> set[str]:
        """The origins of the registry's own pages, as browsers write them."""
        return {_origin(self.catalog_url), _origin(self.registry_url)}

    @property
    def catalog_host(self) -> str:
        """The host of the web pages."""
        return urlsplit(self.catalog_url).netloc

    @property
    def signup_domain_list(self) -> list[str]:
        """The email domains whose users can sign up."""
        return [name for name in self.signup_domains.split(",") if name]

    @property
    def team_title(self) -> str:
        """The title of the registry on pages and in emails."""
        return self.team_name or self.team_id or "Quilt Registry"


def _origin(url: str) -> str:
    """Return the origin of a URL: without the scheme's own port, and in lower case."""
    parts = urlsplit(url.lower())
    return f"{parts.scheme}://{parts.netloc.removesuffix(DEFAULT_PORTS[parts.scheme])}"


Kind = TypeVar("Kind", bound=DatabaseSettings)


def load() -> Settings:
    """Read all settings. Raise SettingsError."""
    return load_only(Settings)


def load_only(kind: type[Kind]) -> Kind:
    """Read some settings from the environment, and secrets also from files. Raise SettingsError."""
    secrets = _secrets_in_files()
    if aws_secret_key := os.environ.get("AWS_SECRET_KEY"):  # takes precedence over AWS_SECRET_ACCESS_KEY_FILE too
        secrets.setdefault("AWS_SECRET_KEY", aws_secret_key)
    try:
        return kind(**secrets)
    except ValidationError as error:
        raise SettingsError("\n".join(_messages(error))) from None


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
        if url.scheme == "http" and url.hostname not in ("localhost", "127.0.0.1", "::1"):
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


def _messages(error: ValidationError) -> Iterator[str]:
    """Return a line about each invalid variable. It does not contain the value, which may be secret."""
    for each in error.errors(include_input=False, include_url=False):
        if each["type"] == "default_factory_not_called":  # a default that depends on a variable of another line
            continue
        variable, message = ".".join(map(str, each["loc"])).upper(), _describe(each)
        yield f"{variable}: {message}" if variable else message


def _describe(error: ErrorDetails) -> str:
    limits = error.get("ctx", {})
    match error["type"]:
        case "value_error":
            return error["msg"].removeprefix("Value error, ")
        case "int_parsing" | "int_parsing_size" | "int_from_float":
            return "must be a whole number"
        case "greater_than_equal":
            return f"must be at least {limits['ge']:,}"
        case "less_than_equal":
            return f"must be at most {limits['le']:,}"
        case "bool_parsing":
            return "must be on or off (1, true, yes or on; 0, false, no or off)"
        case "literal_error":
            return f"must be {limits['expected'].replace(chr(39), '')}"
        case "string_unicode":
            return "must be UTF-8 text"
    return "has a value that cannot be used"
