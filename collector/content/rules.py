"""Which attributes hold what people and models said to each other: one table, by dialect.

Content is prompts, completions, system instructions, tool definitions, arguments and results, retrieved documents,
and the embeddings made of such texts, which can be turned back. Model names, ids, roles, finish reasons, counts
and usage are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Handling(Enum):
    """What becomes of an attribute."""

    KEEP = "keep"
    DROP = "drop"
    SCRUB = "scrub"
    """JSON of parameters or metadata, kept without those of its members that hold content."""
    SUMMARISE = "summarise"
    """The text of an error, which may quote content: kept as collector/content/error_text.py sums it up."""
    FRAMES = "frames"
    """A stack trace, kept without the texts of its errors."""


@dataclass(frozen=True)
class Dialect:
    """The content keys of one family of SDKs."""

    name: str
    keys: str = ""
    """Whole keys, separated by white space."""
    below: str = ""
    """Prefixes; keys below them are content but for those that end in one of PLAIN_LEAVES."""
    all_below: str = ""
    """Prefixes below which everything is content."""


# Last parts of keys such as gen_ai.prompt.0.role, in which messages are taken apart.
PLAIN_LEAVES = frozenset(
    {
        "finish_reason",
        "finish_reasons",
        "format",
        "function_call_name",
        "id",
        "index",
        "mime_type",
        "name",
        "role",
        "score",
        "toolChoice",
        "tool_call_id",
        "type",
        "version",
    }
)

DIALECTS = (
    Dialect(
        "OpenTelemetry GenAI",
        keys="""gen_ai.input.messages gen_ai.output.messages gen_ai.system_instructions gen_ai.tool.definitions
        gen_ai.tool.call.arguments gen_ai.tool.call.result gen_ai.retrieval.documents gen_ai.retrieval.query.text
        gen_ai.evaluation.explanation gen_ai.event.content gen_ai.memory.records gen_ai.memory.query.text""",
        all_below="gen_ai.prompt.variable.",
    ),
    Dialect(
        "OpenLLMetry",
        keys="""gen_ai.prompt gen_ai.completion llm.prompts llm.completions traceloop.entity.input
        traceloop.entity.output traceloop.prompt.template traceloop.prompt.template_variables mcp.request.argument
        mcp.response.value db.query.result.document db.query.result.metadata db.query.result.vector
        db.search.result.entity db.query.embeddings.vector db.search.embeddings.vector""",
        below="gen_ai.prompt. gen_ai.completion. llm.prompts. llm.completions. llm.request.functions.",
        all_below="traceloop.prompt.template_variables.",
    ),
    Dialect(
        "OpenInference",
        keys="""input.value output.value llm.function_call llm.prompt_template.template
        llm.prompt_template.variables llm.choices llm.tools llm.input_messages llm.output_messages tool.parameters
        tool.json_schema reranker.query retrieval.documents embedding.embeddings""",
        below="""llm.input_messages. llm.output_messages. llm.choices. llm.tools. retrieval.documents.
        reranker.input_documents. reranker.output_documents. embedding.embeddings. input.audio. output.audio.
        input.image. output.image.""",
    ),
    Dialect(
        "OpenLIT",
        keys="""gen_ai.content.prompt gen_ai.content.completion gen_ai.content.revised_prompt gen_ai.tool.args
        gen_ai.tool.input gen_ai.tool.output gen_ai.tool.result gen_ai.response.image gen_ai.response.tool_calls
        gen_ai.agent.goal gen_ai.agent.context gen_ai.agent.task gen_ai.agent.tool_results
        gen_ai.agent.instructions gen_ai.agent.expected_output gen_ai.agent.actual_output gen_ai.agent.human_input
        gen_ai.workflow.input gen_ai.workflow.output guard.explanation evals.explanation""",
    ),
    Dialect(
        "Langfuse",
        keys="""langfuse.observation.input langfuse.observation.output langfuse.trace.input langfuse.trace.output
        langfuse.observation.metadata.instructions langfuse.observation.metadata.tools
        langfuse.observation.metadata.input langfuse.observation.metadata.output
        langfuse.observation.metadata.prompt langfuse.observation.metadata.messages
        langfuse.experiment.item.input langfuse.experiment.item.expected_output""",
    ),
    Dialect(
        "Logfire and pydantic-ai",
        keys="""events request_data response_data all_messages_events pydantic_ai.all_messages final_result
        tool_arguments tool_response model_request_parameters""",
    ),
    Dialect(
        "Vercel AI SDK",
        keys="""ai.prompt ai.response.text ai.response.object ai.response.toolCalls ai.response.reasoning
        ai.response.files ai.response.content ai.result.text ai.result.object ai.result.toolCalls ai.toolCall.args
        ai.toolCall.result ai.toolCall.input ai.toolCall.output ai.value ai.values ai.embedding ai.embeddings
        ai.documents ai.ranking ai.schema""",
        below="ai.prompt.",
    ),
    Dialect(
        "Spring AI",
        keys="""spring.ai.tool.call.arguments spring.ai.tool.call.result spring.ai.chat.client.user.text
        spring.ai.chat.client.user.params spring.ai.chat.client.system.text spring.ai.chat.client.system.params
        spring.ai.chat.client.advisor.params db.vector.query.content db.vector.query.response.documents""",
    ),
    Dialect(
        "CrewAI and AgentOps",
        keys="""crewai.crew.result crewai.crew.tasks_output crewai.crew.tasks crewai.crew.agents crewai.crew.inputs
        crewai.agent.goal crewai.agent.backstory crewai.task.description crewai.task.expected_output
        crewai.task.output crew_agents crew_inputs crew_output crew_tasks formatted_description
        formatted_expected_output task_output agentops.entity.input agentops.entity.output""",
    ),
    Dialect("LiteLLM", keys="guardrail_request guardrail_response"),
    Dialect("MLflow", keys="mlflow.spanInputs mlflow.spanOutputs mlflow.chat.messages mlflow.chat.tools"),
    Dialect(
        "Google ADK and Genkit",
        keys="""gcp.vertex.agent.llm_request gcp.vertex.agent.llm_response gcp.vertex.agent.tool_call_args
        gcp.vertex.agent.tool_response gcp.vertex.agent.data genkit:input genkit:output""",
    ),
    Dialect(
        "Braintrust, Haystack and bodies of HTTP",
        keys="""braintrust.input braintrust.output braintrust.input_json braintrust.output_json
        haystack.component.input haystack.component.output haystack.pipeline.input_data
        haystack.pipeline.output_data http.request.body http.response.body http.request.body.text
        http.response.body.text http.request.body.content http.response.body.content""",
    ),
    Dialect(
        "plain names",
        keys="""input inputs raw_input user_input output outputs raw_output prompt prompts user_prompt system_prompt
        completion completions messages chat_history response responses llm.input llm.messages llm.output llm.responses
        gen_ai.input gen_ai.output gen_ai.messages gen_ai.request.instructions gen_ai.tool.arguments gen_ai.tool.message
        tool.input tool.output
        tool.arguments tool.result tool_input tool_output tool_result mcp.tool.arguments mcp.tool.result""",
    ),
)

# LiteLLM writes each field of the raw request and response as llm.<provider>.<field>.
RAW_FIELDS = frozenset(
    {
        "candidates",
        "chat_history",
        "choices",
        "completion",
        "content",
        "contents",
        "data",
        "documents",
        "functions",
        "generations",
        "input",
        "inputText",
        "inputs",
        "instances",
        "instructions",
        "message",
        "messages",
        "output",
        "outputText",
        "outputs",
        "preamble",
        "predictions",
        "prompt",
        "query",
        "response",
        "responses",
        "results",
        "system",
        "systemInstruction",
        "system_instruction",
        "text",
        "texts",
        "tools",
    }
)
_NOT_PROVIDERS = frozenset({"cost", "request", "response", "token", "token_count", "usage"})

# JSON that is metadata but can hold content; usage among it is numbers, which stay whatever their names.
SCRUBBED = frozenset(
    {
        "ai.response.providerMetadata",
        "embedding.invocation_parameters",
        "langfuse.observation.model.parameters",
        "llm.invocation_parameters",
    }
)
CONTENT_MEMBERS = RAW_FIELDS | frozenset(
    {
        "annotations",
        "arguments",
        "audio",
        "citations",
        "context",
        "embedding",
        "grounding_metadata",
        "groundingMetadata",
        "images",
        "logprobs",
        "output_text",
        "prediction",
        "reasoning_details",
        "reasoningDetails",
        "reasoningEncryptedContent",
        "signature",
        "sources",
        "stop",
        "system_prompt",
        "template",
        "thinking",
        "tool_choice",
        "url_context_metadata",
        "urlContextMetadata",
        "user_query",
        "variables",
    }
)

ERROR_TEXTS = frozenset({"exception.message", "error.message", "langfuse.observation.status_message"})
STACK_TRACES = frozenset({"exception.stacktrace", "error.stack"})

# All texts that are kept in message events; SDKs put content there under names of their own.
MESSAGE_KEYS = (ERROR_TEXTS | STACK_TRACES) | frozenset(
    {
        "error.type",
        "event.name",
        "exception.type",
        "finish_reason",
        "gen_ai.agent.id",
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.evaluation.name",
        "gen_ai.evaluation.score.label",
        "gen_ai.operation.name",
        "gen_ai.output.type",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.id",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.token.type",
        "gen_ai.tool.call.id",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "id",
        "name",
        "role",
        "server.address",
        "session.id",
        "tool_call_id",
        "type",
    }
)
# Message events, and log records that are the same: their names begin with this.
MESSAGE_EVENT = "gen_ai."


def content_rule(*, keep_content: bool, keep_errors: bool, extra: Iterable[str]) -> Callable[[str], Handling]:
    """What to do with a key. `extra` are further keys to drop, and prefixes where they end in *."""
    listed = tuple(extra)
    keys = frozenset(one for one in listed if not one.endswith("*"))
    prefixes = tuple(one[:-1] for one in listed if one.endswith("*"))

    def rule(key: str) -> Handling:
        if key in keys or (prefixes and key.startswith(prefixes)):
            return Handling.DROP
        if not keep_errors and key in ERROR_TEXTS:
            return Handling.SUMMARISE
        if not keep_errors and key in STACK_TRACES:
            return Handling.FRAMES
        return Handling.KEEP if keep_content else _content_handling(key)

    return rule


def _keys() -> Iterator[str]:
    return (key for dialect in DIALECTS for key in dialect.keys.split())


def _prefixes() -> Iterator[str]:
    return (prefix for dialect in DIALECTS for prefix in (dialect.below + " " + dialect.all_below).split())


def content_keys(*, keep_errors: bool) -> set[str]:
    """All whole keys that are not kept as they come."""
    return {*_keys(), *SCRUBBED} if keep_errors else {*_keys(), *SCRUBBED, *ERROR_TEXTS, *STACK_TRACES}


def content_prefixes() -> set[str]:
    """All prefixes below which are keys that are not kept."""
    return {*_prefixes()}


_KEYS = frozenset(_keys())
_BELOW = tuple(prefix for dialect in DIALECTS for prefix in dialect.below.split())
_ALL_BELOW = tuple(prefix for dialect in DIALECTS for prefix in dialect.all_below.split())


def _content_handling(key: str) -> Handling:
    if key in _KEYS or key.startswith(_ALL_BELOW) or _is_raw_field(key):
        return Handling.DROP
    if key in SCRUBBED:
        return Handling.SCRUB
    if key.startswith(_BELOW) and key.rpartition(".")[2] not in PLAIN_LEAVES:
        return Handling.DROP
    return Handling.KEEP


def _is_raw_field(key: str) -> bool:
    head, _, rest = key.partition(".")
    provider, _, name = rest.partition(".")
    return head == "llm" and name in RAW_FIELDS and provider not in _NOT_PROVIDERS
