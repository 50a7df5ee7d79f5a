"""What the demo's endpoints look like, from published figures.

Token lengths (mean, coefficient of variation) come from
- Azure LLM inference traces 2023 (Patel et al., Splitwise, ISCA 2024): conversation 1155 in / 211 out,
  code 2048 in / 28 out;
- ServeGen (Xiang et al., 2025), deepseek-r1, request-weighted: 1268 in / 1527 out;
- Mooncake traces (Qin et al., FAST 2025): conversation 12035 in / 343 out with 40 % of the prompt cached,
  tool and agent 8596 in / 182 out with 59 % cached.
The daily swing (the night has about a third of the peak) and the quieter weekend follow ServeGen and the Azure
traces. The instance is an AWS g5.xlarge (one A10G) at its on-demand price in
us-east-1. Which services exist, and the two incidents, are invented.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal

WEEKS = 5


@dataclass(frozen=True)
class Tokens:
    """A log-normal number of tokens."""

    mean: float
    variation: float


@dataclass(frozen=True)
class Incident:
    """A deploy that made an endpoint dearer: from `before_now` on, until now."""

    before_now: timedelta
    version: str
    prompt_growth: float = 1.0
    cached_share: float | None = None


@dataclass(frozen=True)
class Endpoint:
    """Traffic of one endpoint.

    cached_share: share of the prompt read from the provider's prompt cache.
    answered_share: share of requests that the application's own response cache answers.
    retried_share: share of requests whose first attempt fails.
    """

    service: str
    version: str
    route: str
    provider: str
    model: str
    requests_per_hour: float
    input_tokens: Tokens
    output_tokens: Tokens
    operation: str = "chat"
    cached_share: float = 0.0
    answered_share: float = 0.0
    retried_share: float = 0.004
    replica: str = ""
    incident: Incident | None = None
    tenants: tuple[str, ...] = field(default=("acme", "globex", "initech"))


CONVERSATION_IN, CONVERSATION_OUT = Tokens(1155, 0.96), Tokens(211, 0.77)
CODE_IN, CODE_OUT = Tokens(2048, 0.96), Tokens(28, 2.1)
LONG_IN, LONG_OUT = Tokens(12035, 1.31), Tokens(343, 0.73)
AGENT_IN, AGENT_OUT = Tokens(8596, 0.9), Tokens(182, 1.2)
REASONING_IN, REASONING_OUT = Tokens(1268, 0.64), Tokens(1527, 0.66)

SELF_HOSTED = "reasoner"
INSTANCE_TYPE = "g5.xlarge"
INSTANCE_COST_PER_HOUR_USD = Decimal("1.006")
GPU_MODEL = "NVIDIA A10G"
GPU_MEMORY_BYTES = 24 * 10**9

PROMPT_GREW = Incident(timedelta(hours=60), "2.4.1", prompt_growth=1.83)
CACHE_BROKE = Incident(timedelta(hours=84), "3.2.0", cached_share=0.02)

ENDPOINTS = (
    Endpoint("assistant", "1.9.0", "/chat", "openai", "gpt-4.1-mini", 18, CONVERSATION_IN, CONVERSATION_OUT),
    Endpoint(
        "assistant",
        "1.9.0",
        "/faq",
        "openai",
        "gpt-4.1-nano",
        14,
        CONVERSATION_IN,
        CONVERSATION_OUT,
        answered_share=0.6,
    ),
    Endpoint("documents", "2.4.0", "/summarize", "openai", "gpt-4.1", 14, LONG_IN, LONG_OUT, incident=PROMPT_GREW),
    Endpoint(
        "agent",
        "3.1.4",
        "/agent/step",
        "anthropic",
        "claude-sonnet-4-5",
        12,
        AGENT_IN,
        AGENT_OUT,
        cached_share=0.59,
        incident=CACHE_BROKE,
    ),
    Endpoint("support", "5.0.2", "/reply", "anthropic", "claude-haiku-4-5", 12, LONG_IN, LONG_OUT, cached_share=0.40),
    Endpoint("support", "5.0.2", "/triage", "google", "gemini-2.5-flash", 14, CONVERSATION_IN, Tokens(12, 0.5)),
    Endpoint(
        SELF_HOSTED,
        "0.7.3",
        "/solve",
        "self-hosted",
        "deepseek-r1-distill-qwen-7b",
        20,
        REASONING_IN,
        REASONING_OUT,
        replica="reasoner-0",
    ),
    Endpoint("codegen", "0.4.1", "/complete", "openai", "gpt-4.1-mini", 12, CODE_IN, CODE_OUT),
    Endpoint(
        "search",
        "4.2.0",
        "/index",
        "openai",
        "text-embedding-3-small",
        12,
        Tokens(420, 0.5),
        Tokens(0, 0),
        operation="embeddings",
    ),
    # No price book knows this model and no instance rate is given: its calls show up as unpriced, not as free.
    Endpoint("search", "4.2.0", "/rerank", "self-hosted", "house-reranker-2", 2, Tokens(900, 0.4), Tokens(1, 0)),
)
