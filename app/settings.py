"""Every setting of the server in one tree: pennytrace.toml, or the environment, or an argument.

Precedence: argument, environment, file, default. A setting `name` in the section `[part]` of the file is
PENNYTRACE_PART_NAME in the environment.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
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
from collector.settings import CollectorSettings
from storage import EmbeddedLocation, Location, ServerLocation

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

    @property
    def location(self) -> Location:
        """The store's location; a server's URL wins over the directory."""
        url = self.clickhouse.get_secret_value()
        return ServerLocation(url) if url else EmbeddedLocation(self.data)


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
        description="allow addresses other than loopback; there are no API keys yet, so whoever reaches the ports "
        "can read and write: keep them behind a firewall or a proxy that authenticates",
    )

    @field_validator("http", "grpc", "ui", "sql")
    @classmethod
    def _is_address(cls, text: str) -> str:
        Address.parse(text)
        return text


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
    schedule: ScheduleSettings = ScheduleSettings()
    ledger: LedgerSettings = LedgerSettings()
    findings: FindingsSettings = FindingsSettings()
    alerts: AlertSettings = AlertSettings()
    slack: SlackSettings = SlackSettings()
    sql: SqlSettings = SqlSettings()

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
        variable = "_".join(["PENNYTRACE", section, *names]).upper()
        origin = f"{file} or {variable}" if file else variable
        if problem["type"] == "extra_forbidden":
            yield f"unknown setting {setting} in {file or 'the environment'}: 'pennytrace settings' lists them all"
        else:
            yield f"setting {setting} ({origin}): {problem['msg']}, got {problem['input']!r}"
