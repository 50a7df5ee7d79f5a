"""Every example of docs/sdk.md runs, in order, against clients shaped like the real ones."""

import asyncio
import inspect
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import pennytrace

README = (Path(__file__).parents[2] / "README.md").read_text()
PAGE = (Path(__file__).parents[2] / "docs" / "sdk.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def create_completion(*, model, stream=False, **_):
    usage = SimpleNamespace(prompt_tokens=9, completion_tokens=3)
    if not stream:
        return SimpleNamespace(id=f"chatcmpl-{id(usage)}", object="chat.completion", model=model, usage=usage)
    text = [SimpleNamespace(delta=SimpleNamespace(content="There."))]
    chunk = {"id": "chatcmpl-s", "object": "chat.completion.chunk", "model": model}
    return iter([SimpleNamespace(**chunk, choices=text, usage=None), SimpleNamespace(**chunk, choices=[], usage=usage)])


async def create_message(*, model, **_):
    usage = {"input_tokens": 4, "cache_read_input_tokens": 6, "output_tokens": 2}
    return {"type": "message", "id": "msg_1", "model": model, "usage": usage}


@pytest.fixture
def names(sink, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    completions = SimpleNamespace(create=create_completion)
    return {
        "client": SimpleNamespace(chat=SimpleNamespace(completions=completions)),
        "async_client": SimpleNamespace(messages=SimpleNamespace(create=create_message)),
    }


def test_the_examples_run_and_are_billed_as_the_page_says(sink, names):
    for example in EXAMPLES:
        exec(compile(example, "docs/sdk.md", "exec"), names)
        if "summarise" in example:
            asyncio.run(names["summarise"]({"owner": "acme"}))
    names["handle"].shutdown()
    spans = [{a.key: a.value.int_value or a.value.string_value for a in s.attributes} for s in sink.spans()]
    billed = [s for s in spans if "gen_ai.operation.name" in s]
    inputs = [s["gen_ai.usage.input_tokens"] for s in billed]
    assert sorted(inputs) == sorted([9, 10, 9, 30, 812, 120, 9, 9, 9, 9, 9])
    assert [s["gen_ai.usage.input_tokens"] for s in spans if s.get("pennytrace.span.kind") == "cache"] == [9]
    assert {s.get("pennytrace.tenant") for s in spans} == {None, "acme"}


def test_the_readmes_example_runs_and_its_call_is_billed(sink, names, monkeypatch):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=lambda: names["client"]))
    code = {}
    exec(compile(example, "README.md", "exec"), code)
    code["summarize"]("a long text")
    pennytrace.configure().shutdown()
    [span] = sink.spans()
    attributes = {a.key: a.value.int_value or a.value.string_value for a in span.attributes}
    assert attributes["pennytrace.endpoint"] == "/summarize"
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.response.model"]) == (9, "gpt-4.1")


def test_the_page_lists_every_setting_and_every_option():
    settings = inspect.signature(pennytrace.configure).parameters
    options = {name for name in inspect.signature(pennytrace.observe).parameters if name not in {"function", "options"}}
    from pennytrace._observe import Options

    for name in [*settings, *options, *Options.__dataclass_fields__]:
        assert f"`{name}`" in PAGE, name


def test_everything_public_is_exported_and_documented():
    for name in pennytrace.__all__:
        assert getattr(pennytrace, name).__doc__, name
