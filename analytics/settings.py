"""Settings of the ledger: the section [ledger] and its list [[ledger.instances]]."""

from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field

ANY_MODEL = "*"


class InstanceRate(BaseModel):
    """What one kind of self-hosted replica costs; the first that matches a replica holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str = Field(description="service name or glob of the replicas that cost this")
    replica: str = Field(default="*", description="replica name or glob (service.instance.id, else host.name)")
    model: str = Field(
        default=ANY_MODEL,
        description="model name or glob of the calls that share the replica's cost; "
        "* means those whose model has no price of its own",
    )
    instance_type: str = Field(default="", description="name of the instance type, shown in reports")
    instance_cost_per_hour_usd: Decimal = Field(
        ge=0, le=10_000, max_digits=18, decimal_places=12, description="price of one replica, dollars an hour"
    )


class LedgerSettings(BaseModel):
    """How spans become calls and dollars."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spans_per_chunk_max: int = Field(
        default=100_000,
        ge=1_000,
        le=5_000_000,
        description="spans read at once, which bounds the memory of a recomputation (about 5 KB a span); "
        "a single hour with more is read whole",
    )
    instances: tuple[InstanceRate, ...] = Field(
        default=(), description="rates of self-hosted replicas; the first match holds"
    )
