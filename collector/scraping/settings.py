"""Settings of the Prometheus scraper: the list [[scrape.targets]]."""

from __future__ import annotations

from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

MIB = 1 << 20


class ScrapeTarget(BaseModel):
    """One page of Prometheus metrics and what its series belong to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(description="address of the metrics page, http(s)://host:port/metrics, without credentials")
    service: str = Field(min_length=1, description="service.name of its series, as in the engine's spans")
    resource: dict[str, str] = Field(
        default_factory=dict,
        description="more resource attributes, such as service.instance.id (the replica; host:port of the URL if not "
        "given) and deployment.environment.name",
    )
    tenant: str = Field(default="", description="tenant of its series")
    interval_s: float = Field(default=15, ge=1, le=3600, description="seconds between two scrapes")
    timeout_s: float = Field(default=5, gt=0, le=60, description="seconds that one scrape may take; at most interval_s")
    bearer_token: SecretStr = Field(default=SecretStr(""), description="sent as Authorization: Bearer; empty: none")
    body_bytes_max: int = Field(
        default=16 * MIB, ge=1024, le=64 * MIB, description="largest page, unpacked, in bytes; a larger one is not read"
    )

    @field_validator("url")
    @classmethod
    def _is_page(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
            raise ValueError("expected http(s)://host:port/path without credentials (there is bearer_token)")
        return url

    @model_validator(mode="after")
    def _ends_before_the_next(self) -> Self:
        if self.timeout_s > self.interval_s:
            raise ValueError(f"expected timeout_s of at most interval_s ({self.interval_s:g}), got {self.timeout_s:g}")
        return self

    @property
    def address(self) -> str:
        """The URL as it may be shown: without its query, in which some exporters want a token."""
        return urlsplit(self.url)._replace(query="", fragment="").geturl()

    @property
    def path(self) -> str:
        """What is asked of the host: path and query."""
        return urlsplit(self.url)._replace(scheme="", netloc="", fragment="").geturl() or "/"

    @property
    def resource_attributes(self) -> dict[str, str]:
        """service.name, service.instance.id and what else was given."""
        instance = urlsplit(self.url).netloc
        return {"service.instance.id": instance, **self.resource, "service.name": self.service}


class ScrapeSettings(BaseModel):
    """Metrics that are fetched from engines which only offer them to Prometheus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    targets: tuple[ScrapeTarget, ...] = Field(default=(), max_length=1000, description="pages that are scraped")
