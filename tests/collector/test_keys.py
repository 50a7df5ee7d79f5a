"""Who may send: keys over HTTP and gRPC, and whose tenant the rows get."""

from __future__ import annotations

import base64
import hashlib
import re

import grpc
import httpx2
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from pydantic import ValidationError

from collector.admission import Admission
from collector.keys import ForbiddenError, Key, Keys, Scope, UnauthenticatedError, digest, new_secret, presented
from tests.collector.bodies import trace_request
from tests.collector.serving import serve

ACME, NOBODYS, READER = "pt_acme-key", "pt_nobodys-key", "pt_reader-key"
KEYS = Keys(
    [
        Key(name="acme", sha256=digest(ACME), tenant="acme", scopes=(Scope.WRITE,)),
        Key(name="nobody", sha256=digest(NOBODYS), scopes=(Scope.WRITE, Scope.ADMIN)),
        Key(name="reader", sha256=digest(READER), scopes=(Scope.READ,)),
    ]
)
PROTOBUF = "application/x-protobuf"


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def guarded(ingest, settings):
    with serve(ingest, settings, Admission.of(settings, KEYS)) as serving:
        yield serving


def post(serving, headers, body=None):
    request = trace_request(1).SerializeToString() if body is None else body
    return httpx2.post(serving.http + "/v1/traces", content=request, headers={"content-type": PROTOBUF, **headers})


def tenants(store):
    return store.frame_of("SELECT tenant FROM spans")["tenant"].to_list()


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {ACME}"},
        {"authorization": f"bearer  {ACME}"},
        {"authorization": basic("pk-lf-anything", ACME)},
        {"x-api-key": ACME},
        {"authorization": "Bearer of-another-proxy", "x-api-key": ACME},
    ],
)
def test_every_way_to_present_a_key_writes_for_its_tenant(guarded, store, headers):
    assert post(guarded, headers).status_code == 200
    assert tenants(store) == ["acme"]


def test_a_key_without_tenant_writes_without_one(guarded, store):
    assert post(guarded, {"x-api-key": NOBODYS}).status_code == 200
    assert tenants(store) == [""]


def test_a_body_cannot_choose_its_tenant(guarded, store):
    request = trace_request(1)
    raw = request.resource_spans[0].SerializeToString() + b"\xda\x3e\x05other"  # field 1003, where ours goes
    body = b"\x0a" + bytes([len(raw) & 127 | 128, len(raw) >> 7]) + raw
    assert post(guarded, {"x-api-key": ACME}, body).status_code == 200
    assert tenants(store) == ["acme"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer pt_guess"},
        {"authorization": "Bearer"},
        {"authorization": "Basic not-base64!"},
        {"authorization": "Basic /////w=="},
        {"authorization": f"Digest {ACME}"},
        {"x-api-key": digest(ACME)},
    ],
)
def test_without_a_known_key_the_answer_is_the_same_401_whatever_was_wrong(guarded, headers):
    answer = post(guarded, headers)
    status = Status.FromString(answer.content)
    assert (answer.status_code, status.code) == (401, 16)
    assert "expected an API key" in status.message
    assert {each.split()[0] for each in answer.headers.get_list("www-authenticate")} == {"Basic", "Bearer"}
    assert guarded.count("pennytrace_refused_bodies_total", reason="unauthenticated") == 1


def test_a_known_key_of_another_scope_is_a_403_in_the_senders_format(guarded):
    answer = post(guarded, {"x-api-key": READER, "content-type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (403, 7)
    assert "www-authenticate" not in answer.headers
    assert guarded.count("pennytrace_refused_bodies_total", reason="forbidden") == 1


def test_a_refused_sender_can_use_its_connection_again(guarded):
    with httpx2.Client() as client:
        url, body = guarded.http + "/v1/traces", trace_request(2000).SerializeToString()
        headers = {"content-type": PROTOBUF}
        assert client.post(url, content=body, headers=headers).status_code == 401
        assert client.post(url, content=body, headers={**headers, "x-api-key": ACME}).status_code == 200


def export(serving, metadata):
    with grpc.insecure_channel(serving.grpc) as channel:
        return TraceServiceStub(channel).Export(trace_request(1), timeout=30, metadata=metadata)


@pytest.mark.parametrize(
    "metadata",
    [(("authorization", f"Bearer {ACME}"),), (("authorization", basic("", ACME)),), (("x-api-key", ACME),)],
)
def test_a_key_in_grpc_metadata_writes_for_its_tenant(guarded, store, metadata):
    export(guarded, metadata)
    assert tenants(store) == ["acme"]


@pytest.mark.parametrize(
    ("metadata", "code", "reason"),
    [
        ((), grpc.StatusCode.UNAUTHENTICATED, "unauthenticated"),
        ((("authorization", "Bearer pt_guess"),), grpc.StatusCode.UNAUTHENTICATED, "unauthenticated"),
        ((("x-api-key", READER),), grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
    ],
)
def test_without_a_writing_key_grpc_refuses_with_its_status(guarded, metadata, code, reason):
    with pytest.raises(grpc.RpcError) as refused:
        export(guarded, metadata)
    assert refused.value.code() is code
    status = Status.FromString(dict(refused.value.trailing_metadata())["grpc-status-details-bin"])
    assert (status.code, status.message) == (code.value[0], refused.value.details())
    assert guarded.count("pennytrace_refused_bodies_total", reason=reason) == 1


def test_without_any_keys_everyone_may_send(serving):
    assert post(serving, {}).status_code == 200
    assert post(serving, {"authorization": "Bearer of-a-gateway"}).status_code == 200


def test_a_new_key_is_url_safe_has_256_random_bits_and_is_kept_as_its_hash():
    first, second = new_secret(), new_secret()
    assert first != second
    assert re.fullmatch(r"pt_[\w-]{43}", first)
    assert digest(first) == hashlib.sha256(first.encode()).hexdigest()


@pytest.mark.parametrize("scopes", [("read",), ("write", "read"), ("admin",)])
def test_a_tenants_key_is_for_writing_only(scopes):
    with pytest.raises(ValidationError, match=r"only the scope write.*'acme'"):
        Key.model_validate({"name": "k", "sha256": digest("k"), "tenant": "acme", "scopes": scopes})


@given(st.text(), st.text())
def test_no_header_value_raises_anything_but_a_refusal(authorization, api_key):
    with pytest.raises((UnauthenticatedError, ForbiddenError)):
        KEYS.require(Scope.WRITE, presented(authorization, api_key))
