from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.content import error_text


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        (
            "Error code: 429 - {'type': 'error', 'error': {'type': 'rate_limit_error', 'message': 'secret'}}",
            "429, rate_limit_error",
        ),
        (
            "openai.BadRequestError: Error code: 400 - context_length_exceeded: secret",
            "openai.BadRequestError, 400, context_length_exceeded",
        ),
        ("ValueError", "ValueError"),
        ("HTTP/1.1 503 Service Unavailable", "503, Service Unavailable"),
        ("status_code: 529, body: secret", "529"),
        ("429 RESOURCE_EXHAUSTED. secret", "RESOURCE_EXHAUSTED"),
        ("[Errno 111] Connection refused", "Connection refused"),
        ("1 validation error for Order: input_value='secret'", ""),
        ("my_rate_limit_error_is_secret", ""),
        ("please write an Error: secret", ""),
        ("", ""),
    ],
)
def test_an_error_keeps_its_type_status_and_known_words(text, summary):
    assert error_text.summary(text) == summary


@given(st.text())
def test_a_text_without_known_words_leaves_nothing(text):
    kept = error_text.summary(f"<{text}>".replace("rror", ""))
    assert all(part in text for part in kept.split(", "))


PARTS = ["RateLimitError", "openai.APIError", "secret", "429", "Error code: 429", "HTTP 503", "rate_limit_error"]
PARTS += ["UNAVAILABLE", "ValidationException", "Connection refused", "api_error", "server_error", "timed out"]


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.sampled_from([", ", ": ", " - ", " "]))
def test_a_sum_up_is_not_summed_up_once_more(parts, between):
    once = error_text.summary(between.join(parts))
    assert error_text.summary(once) == once
    assert "secret" not in once


PYTHON = """Traceback (most recent call last):
  File "/srv/app/shop.py", line 12, in answer
    client.chat("secret instructions")
    ^^^^^^^^^^^^
  File "/srv/app/client.py", line 3, in <module>
    File "/home/secret.py", line 1, in secret
openai.BadRequestError: Error code: 400 - secret
Traceback (most recent call last):
  File "/home/secret.py", line 3, in secret

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/home/secret.py", line 3, in <module>
secret
"""
JAVASCRIPT = """Error: secret
    at secret (/home/secret.js:1:2)
and more of it
    at async Chat.create (/srv/node_modules/openai/index.js:12:7)
    at node:internal/process/task_queues:95:5
    at my desk I keep a secret
    at Object.<anonymous> [as run] (file:///srv/a.mjs:1:2)"""
JAVA = """java.lang.RuntimeException: secret
\tat secret.Secret.secret(Unknown Source)
Caused by: secret
\tat com.shop.Main.answer(Main.java:12)
\tat java.base/java.lang.Thread.run(Thread.java:840)
\t... 7 more
"""
GO = """goroutine 1 [running]:
main.answer(0x1)
\t/srv/main.go:12 +0x1d
main.main()
\t/srv/main.go:3

/secret.go:1
"""


@pytest.mark.parametrize(("trace", "places"), [(PYTHON, 2), (JAVASCRIPT, 3), (JAVA, 2), (GO, 2)])
def test_a_stack_trace_keeps_its_places_and_nothing_else(trace, places):
    frames = error_text.frames(trace)
    assert "secret" not in frames
    assert len(frames.splitlines()) == places


@pytest.mark.parametrize(
    "text",
    [
        "secret\nmore of it",
        'openai.BadRequestError: my prompt\n  File "/home/secret.py", line 3, in secret\nat secret.a(Unknown Source)\n',
        "/secret-acquisition.go:1",
        "Error: secret\n    at secret (/home/secret.js:1:2)\nsecret",
        "",
    ],
)
def test_a_text_that_is_no_stack_trace_leaves_nothing(text):
    assert error_text.frames(text) == ""
