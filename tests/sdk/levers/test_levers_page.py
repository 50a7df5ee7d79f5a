"""Every example of docs/levers.md runs, in order, and the page names what the levers write."""

import asyncio
import inspect
import re
from pathlib import Path
from types import SimpleNamespace

import pennytrace
from pennytrace import levers

PAGE = (Path(__file__).parents[3] / "docs" / "levers.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SOURCES = Path(levers.__file__).parent.glob("*.py")


def create_completion(*, model, messages, **_):
    unsure = "I am not sure" if "order" in str(messages) else "Yes"
    return {
        "id": f"chatcmpl-{model}-{len(str(messages))}",
        "model": model,
        "usage": {"prompt_tokens": 10, "completion_tokens": 2},
        "text": unsure,
    }


class Answer(dict):
    """A response with attributes, as the real clients have, that can be copied."""

    @property
    def choices(self):
        return [SimpleNamespace(message=SimpleNamespace(content=self["text"]))]


async def create_embeddings(*, model, input):  # noqa: A002 # OpenAI's name
    data = [SimpleNamespace(embedding=[0.1]) for _ in input]
    usage = SimpleNamespace(prompt_tokens=len(input), total_tokens=len(input))
    return SimpleNamespace(object="list", model=model, data=data, usage=usage)


def test_the_examples_run_and_are_booked_as_the_page_says(recorded, words):
    completions = SimpleNamespace(create=lambda **asked: Answer(create_completion(**asked)))
    names = {
        "client": SimpleNamespace(chat=SimpleNamespace(completions=completions)),
        "async_client": SimpleNamespace(embeddings=SimpleNamespace(create=create_embeddings)),
        "tokenizer": words,
    }

    async def searches():
        return await asyncio.gather(names["search"]("a"), names["search"]("b"))

    for example in EXAMPLES[:-1]:
        exec(compile(example, "docs/levers.md", "exec"), names)
        if "def search" in example:
            asyncio.run(searches())
    assert [call.attributes["gen_ai.request.model"] for call in recorded.calls] == [
        *("gpt-4o", "gpt-4o"),  # the first question of the cache, and the draft
        *("gpt-4o-mini", "gpt-4o"),  # the order, escalated
        "text-embedding-3-small",
        recorded.calls[5].attributes["gen_ai.request.model"],
        "fraud-v7",
    ]
    assert len(recorded.reused) == 1
    assert [s.attributes["pennytrace.cascade.tier"] for s in recorded.of_lever("cascade")] == ["table", "big"]
    assert [s.attributes["pennytrace.budget.outcome"] for s in recorded.of_lever("budget")] == ["allowed", "refused"]
    exec(compile(EXAMPLES[-1], "docs/levers.md", "exec"), names)


def test_the_page_names_every_attribute_that_a_lever_writes():
    written = {"pennytrace.lever", "pennytrace.prompt.fingerprint", "pennytrace.variant", "pennytrace.usage.rows"}
    for source in SOURCES:
        for lever, told in re.findall(r'tell\(\s*"(\w+)",([^)]*)', source.read_text()):
            written |= {f"pennytrace.{lever}.{name}" for name in re.findall(r"\b(\w+)=", told)}
    assert {"pennytrace.cache.outcome", "pennytrace.batch.queue_length", "pennytrace.cascade.tier"} <= written
    assert [name for name in sorted(written) if f"`{name}`" not in PAGE] == []


def test_every_option_of_a_lever_is_in_its_docstring_or_on_the_page():
    for lever in (levers.cache, levers.budget, levers.cascade, levers.batch, levers.variant):
        for option in inspect.signature(lever).parameters:
            assert option in f"{lever.__doc__} {PAGE}", (lever.__name__, option)


def test_everything_public_is_documented():
    for name in levers.__all__:
        assert getattr(levers, name).__doc__, name
    assert pennytrace.BudgetExceededError is levers.BudgetExceededError
