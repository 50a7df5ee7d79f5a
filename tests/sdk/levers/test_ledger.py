"""What the ledger makes of the levers' spans: the real ones, in the real store."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

import pennytrace
from analytics.ledger import recompute
from analytics.settings import LedgerSettings
from pennytrace import observe
from pennytrace.levers import BudgetExceededError, Limits, Tier, batch, budget, cache, cascade, variant
from storage import EmbeddedLocation, Store
from tests.analytics.spans import Span, insert_spans


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store.open(EmbeddedLocation(tmp_path_factory.mktemp("store")))
    yield store
    store.close()


@pytest.fixture
def calls(store, spans):
    """Put what was recorded into the store, run the job, and give the calls of this test's traces."""

    def stored(span):
        started_at = datetime.fromtimestamp(span.start_time / 1e9, UTC)
        return Span(
            id=f"{span.context.span_id:x}",
            attributes=span.attributes,
            trace=f"{span.context.trace_id:x}",
            parent=f"{span.parent.span_id:x}" if span.parent else "",
            name=span.name,
            started_at=started_at,
            duration=timedelta(microseconds=(span.end_time - span.start_time) / 1000),
            is_error=not span.status.is_ok,
        )

    def run():
        store.execute("TRUNCATE TABLE spans")
        insert_spans(store, [stored(span) for span in spans.all()])
        recompute(store, LedgerSettings(), lambda: datetime.now(UTC), everything=True)
        return store.frame_of("SELECT * FROM calls ORDER BY started_at, input_tokens")

    return run


def test_levers_are_no_calls_and_all_that_was_paid_or_saved_under_them_is_booked(calls, model):
    words = 3

    @cascade(Tier("faq", lambda _: None), Tier("small", lambda q: model(q, input_tokens=10), lambda _: False))
    def tiered(question):
        return model(question)

    @observe(endpoint="/chat", provider="openai", tenant="acme")
    @variant("rollout", {"int8": 1}, subject=lambda question: question)
    @budget(Limits(tokens_per_call=50), max_output_tokens=20, count_tokens=lambda q: words * len(q))
    @cache()
    def chat(question):
        return tiered(question)

    chat("q")
    chat("q")
    with pytest.raises(BudgetExceededError):
        chat("a long question")
    found = calls()
    assert found["input_tokens"].to_list() == [10, 100, 10, 100]
    assert found["response_cache_hit"].to_list() == [False, False, True, True]
    assert found["billable"].to_list() == [True, True, False, False]
    assert set(found["endpoint"]) == {"/chat"}
    assert set(found["tenant"]) == {"acme"}
    assert set(found["variant"]) == {"int8"}
    assert set(found["provider"]) == {"openai"}
    assert found["cost_usd"][:2].sum() == found["saved_usd"].sum() > 0


def test_an_answer_that_no_model_gave_and_a_refusal_are_no_calls(calls, model):
    @observe(endpoint="/chat", model="gpt-4o", provider="openai")
    @budget(Limits(tokens_per_call=5), max_output_tokens=0, count_tokens=len)
    @cascade(Tier("faq", {"hours": "9 to 5"}.get, calls_model=False))
    def chat(question):
        return model(question)

    assert chat("hours") == "9 to 5"
    with pytest.raises(BudgetExceededError):
        chat("too long")
    assert calls().height == 0
    chat("else")
    assert calls()["input_tokens"].to_list() == [100]


def test_a_batchs_call_is_billed_once_and_callers_are_none(calls):
    @batch()
    async def embed(texts):
        pennytrace.record_usage(input_tokens=8, output_tokens=0, model="text-embedding-3-small", provider="openai")
        return texts

    @observe(endpoint="/search", model="text-embedding-3-small", provider="openai")
    async def search(text):
        return await embed(text)

    async def main():
        await asyncio.gather(search("a"), search("b"), search("c"))

    asyncio.run(main())
    found = calls()
    assert found.select("endpoint", "input_tokens", "billable").rows() == [("/search", 8, True)]


def test_a_classic_models_prediction_is_a_call_without_tokens(calls):
    @observe(endpoint="/score", model="fraud-v7", provider="sklearn", usage=pennytrace.rows)
    def predict(rows):
        return [0] * len(rows)

    predict([[1.0], [2.0]])
    found = calls()
    assert found.select("model", "operation", "input_tokens", "billable").rows() == [
        ("fraud-v7", "predict", None, True)
    ]
