"""Every setting of the server in one tree: pennytrace.toml, or the environment, or an argument.

Precedence: argument, environment, file, default. A setting `name` in the section `[part]` of the file is
PENNYTRACE_PART_NAME in the environment.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from alerts.settings import AlertSettings, SlackSettings
from analytics.findings.settings import FindingsSettings
from analytics.settings import LedgerSettings
from app.errors import CommandError
from collector.keys import Key  # noqa: TC001 - pydantic resolves it
from collector.scraping.settings import ScrapeSettings
from collector.settings import CollectorSettings
from storage import EmbeddedLocation, Location, ServerLocation
from storage.settings import RetentionSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_FILE = Path("pennytrace.toml")


@dataclass(frozen=True)
class Address:
    """A host and a port to listen on; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """An address from HOST:PORT or [IPv6]:PORT; raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError(f"expected HOST:PORT, such as 127.0.0.1:4318, got {text!r}")
        return cls(host.strip("[]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of this machine, which is none to connect to."""
        try:
            return ip_address(self.host).is_unspecified
        except ValueError:
            return False

    @property
    def loopback(self) -> str:
        """This machine's own address of the same family."""
        return "::1" if ":" in self.host else "127.0.0.1"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return self.host == "localhost" or ip_address(self.host).is_loopback
        except ValueError:
            return False


class Section(BaseModel):
    """A part of the settings; an unknown name is an error, not a silent nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class StorageSettings(Section):
    """Where the data is."""

    data: Path = Field(
        default=Path("pennytrace-data"), description="directory of the embedded ClickHouse; made if it is missing"
    )
    clickhouse: SecretStr = Field(
        default=SecretStr(""),
        description="URL of a ClickHouse server (26.1 or newer), http://user:password@host:8123; "
        "empty: the embedded engine in `data`",
    )
    cluster: str = Field(
        default="",
        pattern=r"^[\w.-]*$",
        description="name of a cluster in the ClickHouse server's configuration, whose macros say shard and replica: "
        "tables are replicated and distributed on it; empty: one server",
    )
    wait_s: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="how long `serve` waits at its start for a ClickHouse server that does not answer, in seconds; "
        "no port is open meanwhile",
    )

    @property
    def location(self) -> Location:
        """The store's location; a server's URL wins over the directory."""
        url = self.clickhouse.get_secret_value()
        return ServerLocation(url, self.cluster) if url else EmbeddedLocation(self.data)


class ServerSettings(Section):
    """What `pennytrace serve` listens on."""

    http: str = Field(default="127.0.0.1:4318", description="address for OTLP over HTTP")
    grpc: str = Field(default="127.0.0.1:4317", description="address for OTLP over gRPC")
    ui: str = Field(default="127.0.0.1:8900", description="address of the page, the API, health and metrics")
    sql: str = Field(
        default="127.0.0.1:8123", description="address of the read-only ClickHouse endpoint (embedded engine only)"
    )
    trust_network: bool = Field(
        default=False,
        description="allow addresses other than loopback without API keys ([[keys]]): whoever reaches the ports can "
        "read and write, so keep them behind a firewall or a proxy that authenticates",
    )
    tls_certificate: Path | None = Field(
        default=None, description="certificate chain in PEM, shown on all four ports; goes with `tls_key`"
    )
    tls_key: Path | None = Field(default=None, description="the certificate's private key in PEM, unencrypted")
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="origins, such as https://app.example.com, whose pages may send OTLP over HTTP from browsers; "
        "* is any; empty: none",
    )
    connections_max: int = Field(
        default=2000,
        ge=1,
        le=100_000,
        description="open connections of each port; the next one gets a 503, over gRPC and TLS it is closed; fewer "
        "where the system allows too few open files",
    )
    head_timeout_s: int = Field(
        default=10, ge=1, le=600, description="time for a request's head, and for a TLS handshake, in seconds"
    )
    # Exporters send every five seconds (spans) to sixty (metrics): their connections should last.
    idle_timeout_s: int = Field(
        default=75, ge=1, le=3600, description="time that a connection may be open between two requests, in seconds"
    )

    @field_validator("http", "grpc", "ui", "sql")
    @classmethod
    def _is_address(cls, text: str) -> str:
        Address.parse(text)
        return text

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/?#@\s]+", origin):
                raise ValueError(f"expected origins such as https://app.example.com, without a path, got {origin!r}")
        return origins

    @model_validator(mode="after")
    def _has_both_tls_files(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise ValueError("expected both tls_certificate and tls_key, got one of them")
        return self


class SqlSettings(Section):
    """The read-only SQL endpoint."""

    password: SecretStr = Field(
        default=SecretStr(""), description="password of the user `reader`; empty: anyone on loopback may read"
    )


class ScheduleSettings(Section):
    """The job that prices, finds and alerts."""

    interval_s: int = Field(default=60, ge=5, le=86_400, description="seconds between two runs of the job")


class Settings(BaseSettings):
    """All sections."""

    file: ClassVar[Path | None] = None

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_prefix="PENNYTRACE_",
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
    )

    storage: StorageSettings = StorageSettings()
    server: ServerSettings = ServerSettings()
    collector: CollectorSettings = CollectorSettings()
    scrape: ScrapeSettings = ScrapeSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    ledger: LedgerSettings = LedgerSettings()
    findings: FindingsSettings = FindingsSettings()
    alerts: AlertSettings = AlertSettings()
    slack: SlackSettings = SlackSettings()
    sql: SqlSettings = SqlSettings()
    retention: RetentionSettings = RetentionSettings()
    keys: tuple[Key, ...] = Field(default=(), description="API keys; with any, every port asks for one")

    @field_validator("keys")
    @classmethod
    def _are_different(cls, keys: tuple[Key, ...]) -> tuple[Key, ...]:
        for what, values in (("name", [key.name for key in keys]), ("sha256", [key.sha256 for key in keys])):
            twice = [value for value in values if values.count(value) > 1]
            if twice:
                raise ValueError(f"expected a {what} of its own for every key, got {twice[0]!r} twice")
        return keys

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Argument, environment, file, default."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=cls.file)


def load_settings(file: Path | None = None, arguments: dict[str, dict[str, Any]] | None = None) -> Settings:
    """The settings in force. Without `file`, pennytrace.toml of the working directory is read if it is there.

    Raises CommandError naming the setting, what was expected and what came.
    """
    if file is not None and not file.is_file():
        raise CommandError(f"no such configuration file: {file}")
    chosen = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)

    class FromFile(Settings):
        file: ClassVar[Path | None] = chosen

    given: dict[str, Any] = dict(arguments or {})
    try:
        return FromFile(**given)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{chosen} is not valid TOML: {error}") from error
    except ValidationError as error:
        raise CommandError("\n".join(_complaints(error, chosen))) from error
    except SettingsError as error:
        raise CommandError(f"cannot read the settings: {error}") from error


def _complaints(error: ValidationError, file: Path | None) -> Iterator[str]:
    for problem in error.errors():
        section, *names = [str(part) for part in problem["loc"]]
        setting = f"[{section}] {'.'.join(names)}".rstrip()
        variable = _variable(problem["loc"])
        origin = f"{file} or {variable}" if file else variable
        if problem["type"] == "extra_forbidden":
            yield f"unknown setting {setting} in {file or 'the environment'}: 'pennytrace settings' lists them all"
            continue
        came = problem["input"]
        # A table may have a secret in it.
        is_shown = isinstance(came, str | int | float) and not _is_secret(problem["loc"])
        yield f"setting {setting} ({origin}): {problem['msg']}" + (f", got {came!r}" if is_shown else "")


def _variable(location: tuple[int | str, ...]) -> str:
    """The environment variable that holds the setting, maybe as a part of its list."""
    names = takewhile(lambda part: isinstance(part, str), location[:2])
    return "_".join(["PENNYTRACE", *map(str, names)]).upper()


def _is_secret(location: tuple[int | str, ...]) -> bool:
    """Whether the setting, or a table that it is in, is kept secret; what came as the hash of a key may be the key."""
    kind: Any = Settings
    for part in location:
        inner = next((each for each in (kind, *get_args(kind)) if hasattr(each, "model_fields")), None)
        field = inner.model_fields.get(part) if inner and isinstance(part, str) else None
        if field:
            kind = field.annotation
    return location[0] == "keys" or SecretStr in (kind, *get_args(kind))
