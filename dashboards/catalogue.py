"""Every panel and the boards that show them. Grafana and the page render the same entries."""

from __future__ import annotations

from dashboards.panel import Board, Column, Panel, Placed, Threshold

SPEND = Panel(
    "spend",
    "Spend",
    "What the model calls in the range cost, to the last digit. Calls without a known price are not in it: "
    "see Unpriced calls. Idle GPUs are not in it either: see Idle GPUs.",
    "usd",
    "stat",
    compared=True,
)
COST_PER_1K = Panel(
    "cost_per_1k_requests",
    "Cost per 1,000 requests",
    "Spend divided by requests. It moves when prompts, answers, models, prices or caches change, "
    "and stays still when only traffic grows. With unpriced calls it is at least this. "
    "Not narrowed by model: a request may call several.",
    "usd",
    "stat",
    compared=True,
)
REQUESTS = Panel(
    "requests",
    "Requests",
    "Requests to your endpoints, those that the response cache answered included. "
    "Not narrowed by model: a request may call several.",
    "count",
    "stat",
    compared=True,
)
UNPRICED = Panel(
    "unpriced_share",
    "Unpriced calls",
    "Share of model calls whose model has no known price. Their cost is missing from every dollar on this board.",
    "ratio",
    "stat",
    thresholds=(Threshold(0.000001, "warning"), Threshold(0.05, "critical")),
)
OPEN_INCIDENTS = Panel(
    "open_incidents",
    "Open incidents",
    "Incidents that nobody and nothing has resolved, whenever they opened. The table below says why each opened.",
    "count",
    "stat",
    thresholds=(Threshold(1, "critical"),),
)
PROMPT_CACHE = Panel(
    "prompt_cache_hit_ratio",
    "Prompt cache hits",
    "Share of input tokens that the provider read from its prompt cache, at a fraction of the price. "
    "Only calls that say how many they read count.",
    "ratio",
    "stat",
    compared=True,
)
SAVED = Panel(
    "saved_by_response_cache",
    "Saved by response cache",
    "What the calls that your own cache answered would have cost. Answers of unknown worth are not in it.",
    "usd",
    "stat",
    compared=True,
)
GPU_IDLE = Panel(
    "gpu_idle",
    "Idle GPUs",
    "Dollars paid for self-hosted replicas while no request ran on them. Comes on top of Spend.",
    "usd",
    "stat",
    compared=True,
)
SPEND_BY_ENDPOINT = Panel(
    "spend_by_endpoint",
    "Spend by endpoint",
    "Dollars in each interval, stacked: the height is the whole. "
    "The eight dearest endpoints have a name, the others are together. Unpriced calls are not in it.",
    "usd",
    "timeseries",
    stacked=True,
)
COST_PER_1K_BY_ENDPOINT = Panel(
    "cost_per_1k_requests_by_endpoint",
    "Cost per 1,000 requests by endpoint",
    "A step up is a change in what a request costs: look for a deploy, longer prompts or a colder cache. "
    "Traffic alone does not move it. With unpriced calls it is at least this. Not narrowed by model.",
    "usd",
    "timeseries",
)
TOKENS = Panel(
    "tokens",
    "Tokens",
    "Tokens in each interval. Fresh input, cache reads and cache writes together are all input; "
    "reasoning is part of output.",
    "tokens",
    "timeseries",
    stacked=True,
)
CACHE_HIT_RATIO = Panel(
    "cache_hit_ratio",
    "Cache hit ratio",
    "Prompt cache: share of input tokens read from the provider's cache, over the calls that say how many they read. "
    "Response cache: share of answers that your own cache gave instead of a call. A fall costs money at once.",
    "ratio",
    "timeseries",
)
INVOCATIONS = Panel(
    "invocation_rate_by_model",
    "Invocation rate by model",
    "Model calls a minute, over the time that each interval covers. "
    "Traffic that moves from one model to another shows as one line falling and one rising.",
    "per_minute",
    "timeseries",
)
GPU_UTILIZATION = Panel(
    "gpu_utilization",
    "GPU utilisation",
    "Mean of the hourly means of the GPUs that report it, by service. "
    "A gap is an hour without readings, not an idle hour.",
    "ratio",
    "timeseries",
)
GPU_IDLE_BY_SERVICE = Panel(
    "gpu_idle_by_service",
    "Idle GPU dollars",
    "Dollars in each interval for replicas that were paid for and ran nothing: candidates for fewer replicas.",
    "usd",
    "timeseries",
    stacked=True,
)
SPEND_TABLE = Panel(
    "spend_table",
    "Where the money goes",
    "The twenty dearest pairs of endpoint and model in the range. Rates are per call, since a request may call "
    "several models; where some calls are unpriced, dollars are at least this.",
    "usd",
    "table",
    columns=(
        Column("endpoint", "Endpoint", "text"),
        Column("model", "Model", "text"),
        Column("spend_usd", "Spend", "usd"),
        Column("cost_per_1k_calls_usd", "Per 1,000 calls", "usd"),
        Column("calls", "Calls", "count"),
        Column("unpriced_calls", "Unpriced", "count"),
        Column("cache_hit_ratio", "Prompt cache hits", "ratio"),
    ),
)
INCIDENTS = Panel(
    "incidents",
    "Incidents",
    "Incidents that were open at some time in the range. Impact is what the change has cost since it began.",
    "usd",
    "table",
    columns=(
        Column("state", "State", "state"),
        Column("opened_at", "Opened (UTC)", "time"),
        Column("service", "Service", "text"),
        Column("endpoint", "Endpoint", "text"),
        Column("title", "What moved", "text"),
        Column("cause", "Cause", "text"),
        Column("deploy", "Deploy", "text"),
        Column("impact_usd", "Impact", "usd"),
        Column("resolved_at", "Resolved (UTC)", "time"),
    ),
)

OVERVIEW = Board(
    "overview",
    "Overview",
    "What model inference costs, where the money goes, and what changed.",
    (
        Placed(SPEND, 0, 0, 6, 4),
        Placed(COST_PER_1K, 6, 0, 6, 4),
        Placed(REQUESTS, 12, 0, 6, 4),
        Placed(OPEN_INCIDENTS, 18, 0, 6, 4),
        Placed(UNPRICED, 0, 4, 6, 4),
        Placed(PROMPT_CACHE, 6, 4, 6, 4),
        Placed(SAVED, 12, 4, 6, 4),
        Placed(GPU_IDLE, 18, 4, 6, 4),
        Placed(INCIDENTS, 0, 8, 24, 8),
        Placed(SPEND_BY_ENDPOINT, 0, 16, 12, 9),
        Placed(COST_PER_1K_BY_ENDPOINT, 12, 16, 12, 9),
        Placed(SPEND_TABLE, 0, 25, 24, 9),
        Placed(TOKENS, 0, 34, 12, 9),
        Placed(CACHE_HIT_RATIO, 12, 34, 12, 9),
        Placed(INVOCATIONS, 0, 43, 8, 9),
        Placed(GPU_UTILIZATION, 8, 43, 8, 9),
        Placed(GPU_IDLE_BY_SERVICE, 16, 43, 8, 9),
    ),
)
BOARDS = (OVERVIEW,)


def all_panels() -> tuple[Panel, ...]:
    """Every panel that some board shows, once."""
    return tuple({placed.panel.name: placed.panel for board in BOARDS for placed in board.panels}.values())


def panel_named(name: str) -> Panel | None:
    """The panel of that name, or None."""
    return next((panel for panel in all_panels() if panel.name == name), None)
