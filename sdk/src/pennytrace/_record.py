"""What observed code says about its own call: usage, a cached answer, the tenant."""

from __future__ import annotations

from pennytrace import _usage
from pennytrace._call import Call, Request, current_call
from pennytrace._errors import PennytraceError
from pennytrace._guard import Guard
from pennytrace._usage import Answer, Usage

_stating = Guard("record_usage")
_caching = Guard("record_cached")
_naming = Guard("set_tenant")


def record_usage(
    answer: object = None,
    *,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cache_read_tokens: int | None = None,
    cache_write_5m_tokens: int | None = None,
    cache_write_1h_tokens: int | None = None,
    reasoning_tokens: int | None = None,
    model: str | None = None,
    provider: str | None = None,
    response_id: str | None = None,
) -> None:
    """State the usage of the observed call that runs here, by a response, a usage object or counts.

    `input_tokens` includes cache reads and writes. Counts are the call's totals: a later statement replaces
    an earlier one, unless the response ids differ; then they are two model calls, and both are booked.
    Never raises: a value that cannot be read is counted and logged once.
    """
    with _stating:
        call = _inside("record_usage")
        counts = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=cache_read_tokens,
            cache_write_5m_tokens=cache_write_5m_tokens,
            cache_write_1h_tokens=cache_write_1h_tokens,
            reasoning_tokens=reasoning_tokens,
        )
        if answer is None and not counts.known:
            raise PennytraceError("expected a response, a usage object or counts, got none; give at least one count")
        stated = Answer(usage=counts, key=response_id, model=model, provider=provider, response_id=response_id)
        call.state(stated if answer is None else _understood(answer, call).merged(stated))


def record_cached(answer: object = None, *, model: str | None = None, provider: str | None = None) -> None:
    """Say that the application's own cache answered, so no model was called; writes a cache span.

    `answer` is the cached response or its usage: what the model call would have used, hence what was saved.
    What the observed function returns is then not read as a paid answer. Never raises.
    """
    with _caching:
        call = _inside("record_cached")
        reused = None if answer is None else _understood(answer, call)
        request = Request(model or call.request.model, provider or call.request.provider)
        call.answer_from_cache(reused, request)


def set_tenant(tenant: str) -> None:
    """Name the tenant of the observed request that runs here, where the decorator could not know it. Never raises."""
    with _naming:
        _inside("set_tenant").belongs_to(str(tenant))


def _inside(function: str) -> Call:
    call = current_call()
    if call is None:
        raise PennytraceError(
            f"expected {function} to run inside an observed call, got none; decorate the calling function with @observe"
        )
    return call


def _understood(answer: object, call: Call) -> Answer:
    found = _usage.read_given(answer, call.stated[-1].usage if call.stated else None)
    if found is None:
        raise PennytraceError(
            f"expected a response with usage, a usage object or counts, got {type(answer).__name__}; "
            "give the counts by name, for example input_tokens=12"
        )
    return found
