from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from analytics.ledger.lineage import DEPTH_MAX, NO_ROW, Lineage
from tests.analytics.spans import RESOURCE, START, Span, insert_spans

USAGE = {"gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 10}
CHAT = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4.1"}


def test_a_call_inherits_endpoint_tenant_and_variant_from_its_nearest_ancestor_that_has_them(store, ledger):
    outer = {"pennytrace.endpoint": "/outer", "pennytrace.tenant": "acme", "pennytrace.variant": "a"}
    insert_spans(
        store,
        [
            Span("root", outer),
            Span("mid", {"pennytrace.endpoint": "/inner"}, parent="root"),
            Span("step", {}, parent="mid"),
            Span("call", CHAT | USAGE, parent="step"),
        ],
    )
    [call] = ledger().to_dicts()
    assert (call["endpoint"], call["tenant"], call["variant"]) == ("/inner", "acme", "a")


def test_the_tenant_of_the_api_key_stands_above_what_the_span_says(store, ledger):
    insert_spans(store, [Span("call", CHAT | USAGE | {"pennytrace.tenant": "forged"}, tenant="acme")])
    assert ledger()["tenant"].to_list() == ["acme"]


def test_a_call_inherits_nothing_from_another_tenants_span_with_the_ids_of_its_parent(store, ledger):
    forged = {"pennytrace.endpoint": "/forged", "pennytrace.variant": "forged"}
    insert_spans(
        store,
        [
            Span("root", forged, name="GET forged", tenant="rival"),
            Span("root", {"pennytrace.endpoint": "/ask"}, tenant="acme"),
            Span("call", CHAT | USAGE, parent="root", tenant="acme"),
            Span("orphan", CHAT | USAGE, parent="lost", tenant="acme", name="chat"),
            Span("lost", forged, tenant="rival"),
        ],
    )
    found = {(call["endpoint"], call["tenant"], call["variant"]) for call in ledger().to_dicts()}
    assert found == {("/ask", "acme", ""), ("chat", "acme", "")}


def test_the_endpoint_falls_back_to_the_route_and_then_to_the_root_span(store, ledger):
    insert_spans(
        store,
        [
            Span("r1", {"http.route": "/orders/{id}"}, trace="routed", name="GET"),
            Span("c1", CHAT | USAGE, trace="routed", parent="r1"),
            Span("r2", {}, trace="bare", name="nightly"),
            Span("c2", CHAT | USAGE, trace="bare", parent="r2", started_at=START + timedelta(seconds=1)),
        ],
    )
    assert ledger()["endpoint"].to_list() == ["/orders/{id}", "nightly"]


def test_a_parent_that_started_in_the_hour_before_still_gives_its_endpoint(store, ledger):
    insert_spans(store, [Span("call", CHAT | USAGE, parent="root", started_at=START + timedelta(hours=1, minutes=2))])
    ledger()
    insert_spans(store, [Span("root", {"pennytrace.endpoint": "/late"}, started_at=START + timedelta(minutes=59))])
    assert ledger()["endpoint"].to_list() == ["/late"]


def test_parents_in_a_ring_end_the_climb(store, ledger):
    insert_spans(store, [Span("a", CHAT | USAGE, parent="b"), Span("b", {}, parent="a")])
    assert len(ledger()) == 1


@given(st.lists(st.integers(-1, 30), min_size=1, max_size=31), st.data())
def test_climbing_all_rows_at_once_finds_what_climbing_one_by_one_finds(above, data):
    parents = np.array([parent if parent < row else NO_ROW for row, parent in enumerate(above)])
    has = np.array(data.draw(st.lists(st.booleans(), min_size=len(above), max_size=len(above))))
    rows = np.arange(len(above))
    lineage = Lineage(parents, np.zeros_like(parents))

    def chain(row: int) -> list[int]:
        return [row, *chain(int(parents[row]))] if parents[row] != NO_ROW else [row]

    assert len(above) < DEPTH_MAX
    assert lineage.nearest(rows, has).tolist() == [next((at for at in chain(row) if has[at]), NO_ROW) for row in rows]
    assert lineage.roots(rows).tolist() == [chain(row)[-1] for row in rows]
    expected = {(int(row), at) for row in rows for at in chain(row)[1:] if has[at]}
    assert set(zip(*(side.tolist() for side in lineage.ancestor_pairs(rows, has)), strict=True)) == expected


def test_requests_are_counted_once_per_trace_and_endpoint(store, ledger):
    chat = CHAT | USAGE
    insert_spans(
        store,
        [
            Span("root", {"pennytrace.endpoint": "/a"}),
            Span("c1", chat, parent="root"),
            Span("c2", chat, parent="root", started_at=START + timedelta(seconds=2)),
            Span("c3", chat | {"pennytrace.endpoint": "/b"}, parent="root", started_at=START + timedelta(seconds=3)),
            Span("c4", chat, parent="root", started_at=START + timedelta(minutes=30)),
            Span("c5", chat, parent="root", started_at=START + timedelta(minutes=80)),
            Span("other", chat | {"pennytrace.endpoint": "/a"}, trace="2", started_at=START + timedelta(seconds=4)),
        ],
    )
    assert ledger()["first_of_request"].to_list() == [True, False, True, True, False, True]


def test_an_endpoint_of_two_services_is_a_request_to_each(store, ledger):
    chat = CHAT | USAGE | {"pennytrace.endpoint": "/a"}
    other = RESOURCE | {"service.name": "gateway"}
    insert_spans(
        store,
        [Span("a", chat), Span("b", chat, resource=other, started_at=START + timedelta(seconds=2))],
    )
    assert ledger().select("service", "first_of_request").rows() == [("shop", True), ("gateway", True)]
