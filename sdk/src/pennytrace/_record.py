"""What observed code says about its own call: usage, a cached answer, the tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pennytrace import _usage
from pennytrace._call import CALL_KEY, Observed, current_call
from pennytrace._context import get_current
from pennytrace._errors import PennytraceError
from pennytrace._guard import Guard
from pennytrace._names import INPUT_TOKENS, OUTPUT_TOKENS, RESPONSE_ID
from pennytrace._shape import Request
from pennytrace._statement import as_answer, statement
from pennytrace._usage import Usage

if TYPE_CHECKING:
    from pennytrace._usage import Answer

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
    rows: int | None = None,
    model: str | None = None,
    provider: str | None = None,
    response_id: str | None = None,
) -> None:
    """State the usage of the observed call that runs here, by a response, a usage object or counts.

    `input_tokens` includes cache reads and writes; `rows` are the predictions of a model without tokens. Counts are
    the call's totals: a later statement replaces an earlier one, unless the response ids differ; then they are two
    model calls, and both are booked.
    Never raises: a value that cannot be read is counted and logged once.
    """
    try:
        call = get_current().get(CALL_KEY)
        if (
            answer
            is cache_read_tokens
            is cache_write_5m_tokens
            is cache_write_1h_tokens
            is reasoning_tokens
            is rows
            is None
            and type(input_tokens) is int
            and type(output_tokens) is int
            and input_tokens >= 0 <= output_tokens
            and type(call) is Call
            and call.statement is None
            and call.stated is None
        ):  # what most calls state, in a tenth of the time
            said: dict[str, Any] = {INPUT_TOKENS: input_tokens, OUTPUT_TOKENS: output_tokens}
            if response_id:
                said[RESPONSE_ID] = response_id
            call.statement = model, provider, said
            if call.delegated:
                call.is_plain = False
            return
        counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens)
        usage = _usage_of(*counts, reasoning_tokens, rows)
        _state(current_call() or _nowhere("record_usage"), answer, usage, (model, provider, response_id))
    except Exception as error:  # noqa: BLE001 # nothing of ours raises into serving code
        _stating.caught(error)


def record_cached(answer: object = None, *, model: str | None = None, provider: str | None = None) -> None:
    """Say that the application's own cache answered, so no model was called; writes a cache span.

    `answer` is the cached response or its usage: what the model call would have used, hence what was saved.
    What the observed function returns is then not read as a paid answer. Never raises.
    """
    with _caching:
        _cached(current_call() or _nowhere("record_cached"), answer, model, provider)


def set_tenant(tenant: str) -> None:
    """Name the tenant of the observed request that runs here, where the decorator could not know it. Never raises."""
    with _naming:
        (current_call() or _nowhere("set_tenant")).belongs_to(str(tenant))


class Call(Observed):
    """An observed call in your hands: what `start` returns, and `with observe(…) as call:` gives.

    End it with `end(error=None)`. `chunk(part)` tells of one part of a streamed answer. `with call.active():`
    makes its span current for what runs inside. `span` is the OpenTelemetry span. No method raises.
    """

    def record_usage(
        self,
        answer: object = None,
        *,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        cache_read_tokens: int | None = None,
        cache_write_5m_tokens: int | None = None,
        cache_write_1h_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        rows: int | None = None,
        model: str | None = None,
        provider: str | None = None,
        response_id: str | None = None,
    ) -> None:
        """As `pennytrace.record_usage`, for this call."""
        counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_5m_tokens, cache_write_1h_tokens)
        with _stating:
            _state(self, answer, _usage_of(*counts, reasoning_tokens, rows), (model, provider, response_id))

    def record_cached(self, answer: object = None, *, model: str | None = None, provider: str | None = None) -> None:
        """As `pennytrace.record_cached`, for this call."""
        with _caching:
            _cached(self, answer, model, provider)

    def set_tenant(self, tenant: str) -> None:
        """As `pennytrace.set_tenant`, for this call."""
        with _naming:
            self.belongs_to(str(tenant))


def _state(call: Observed, answer: object, usage: Usage, told: tuple[str | None, str | None, str | None]) -> None:
    said = statement(usage, *told)
    if answer is not None or usage.rows is not None:
        call.state(_understood(usage if answer is None else answer, call).merged(as_answer(said)))
    elif usage.known:
        call.say(said)
    else:
        raise PennytraceError("expected a response, a usage object or counts, got none; give at least one count")


def _usage_of(
    input_tokens: object,
    output_tokens: object,
    cache_read_tokens: object,
    cache_write_5m_tokens: object,
    cache_write_1h_tokens: object,
    reasoning_tokens: object,
    rows: object,
) -> Usage:
    return Usage(
        input_tokens=_whole(input_tokens),
        output_tokens=_whole(output_tokens),
        cache_read_tokens=_whole(cache_read_tokens),
        cache_write_5m_tokens=_whole(cache_write_5m_tokens),
        cache_write_1h_tokens=_whole(cache_write_1h_tokens),
        reasoning_tokens=_whole(reasoning_tokens),
        rows=_whole(rows),
    )


def _whole(count: Any) -> int | None:  # noqa: ANN401 # whatever the user passed, such as a number of numpy's
    if count is None:
        return None
    if isinstance(count, bool | str) or not hasattr(count, "__int__") or int(count) != count or count < 0:
        raise PennytraceError(f"expected token counts as whole numbers of at least 0, got {count!r}; leave it out")
    return int(count)


def _cached(call: Observed, answer: object, model: str | None, provider: str | None) -> None:
    reused = None if answer is None else _understood(answer, call)
    request = Request(model or call.request.model, provider or call.request.provider)
    call.answer_from_cache(reused, request)


def _nowhere(function: str) -> Observed:
    raise PennytraceError(
        f"expected {function} to run inside an observed call, got none; decorate the calling function with @observe"
    )


def _understood(answer: object, call: Observed) -> Answer:
    previous = call.stated[-1].usage if call.stated else None
    if call.statement is not None:
        previous = as_answer(call.statement).usage
    found = _usage.read_given(answer, previous)
    if found is None:
        raise PennytraceError(
            f"expected a response with usage, a usage object or counts, got {type(answer).__name__}; "
            "give the counts by name, for example input_tokens=12"
        )
    return found
