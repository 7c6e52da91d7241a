"""The names of the GenAI semantic conventions of OpenTelemetry, and our own beside them.

Source: https://github.com/open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md and
gen-ai-metrics.md, with the metric of token usage and the cache attributes as in the last release of the semantic
conventions that had them (1.41). The constants that PyPI has are deprecated since the conventions moved there.
"""

from __future__ import annotations

OPERATION_NAME, CHAT = "gen_ai.operation.name", "chat"
PROVIDER_NAME = "gen_ai.provider.name"
CONVERSATION_ID = "gen_ai.conversation.id"
OUTPUT_TYPE = "gen_ai.output.type"
ERROR_TYPE = "error.type"
SERVER_ADDRESS, SERVER_PORT = "server.address", "server.port"

REQUEST_MODEL = "gen_ai.request.model"
REQUEST_STREAM = "gen_ai.request.stream"
REQUEST_MAX_TOKENS = "gen_ai.request.max_tokens"
REQUEST_STOP_SEQUENCES = "gen_ai.request.stop_sequences"
REQUEST_SEED = "gen_ai.request.seed"
REQUEST_NUMBERS = (
    ("temperature", "gen_ai.request.temperature"),
    ("top_p", "gen_ai.request.top_p"),
    ("top_k", "gen_ai.request.top_k"),
    ("frequency_penalty", "gen_ai.request.frequency_penalty"),
    ("presence_penalty", "gen_ai.request.presence_penalty"),
)
"""Params whose attribute is a double. (``choice.count`` is not among the names: a chain takes one choice only.)"""

RESPONSE_ID = "gen_ai.response.id"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_FINISH_REASONS = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
USAGE = (
    ("input_tokens", "gen_ai.usage.input_tokens"),
    ("output_tokens", "gen_ai.usage.output_tokens"),
    ("cache_read_tokens", "gen_ai.usage.cache_read.input_tokens"),
    ("cache_write_tokens", "gen_ai.usage.cache_creation.input_tokens"),
    ("reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"),
)
"""The fields of `Usage` and their attributes."""

INPUT_MESSAGES, OUTPUT_MESSAGES = "gen_ai.input.messages", "gen_ai.output.messages"
CAPTURE_CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
CAPTURING = ("true", "span_only", "span_and_event")
"""The values of that variable, without regard to case, that ask for content on spans."""

TOKEN_TYPE, INPUT, OUTPUT = "gen_ai.token.type", "input", "output"
DURATION = "gen_ai.client.operation.duration"
TIME_TO_FIRST_CHUNK = "gen_ai.client.operation.time_to_first_chunk"
TIME_PER_OUTPUT_CHUNK = "gen_ai.client.operation.time_per_output_chunk"
TOKEN_USAGE = "gen_ai.client.token.usage"
SECONDS_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS = tuple(4**power for power in range(14))

PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_text": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "text-completion-openai": "openai",
    "vertex_ai": "gcp.vertex_ai",
    "vertex_ai_beta": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "watsonx_text": "ibm.watsonx.ai",
    "xai": "x_ai",
}
"""The well-known value for a provider of ours where it is another word; all others go by their own name."""

# What the conventions have no word for.
STATUS = "neuro_mw.status"
REQUEST_ID = "neuro_mw.request_id"
ATTEMPTS = "neuro_mw.attempts"
BLOCK_MIDDLEWARE, BLOCK_CATEGORY = "neuro_mw.block.middleware", "neuro_mw.block.category"
CONTENT_TRUNCATED = "neuro_mw.content_truncated"
MIDDLEWARE_EVENT, ATTEMPT_EVENT, ASK_EVENT = "neuro_mw.middleware", "neuro_mw.attempt", "neuro_mw.ask"
MIDDLEWARE_ID, MIDDLEWARE_STATUS = "neuro_mw.middleware.id", "neuro_mw.middleware.status"
MIDDLEWARE_SELF_TIME = "neuro_mw.middleware.self_time"  # seconds
MIDDLEWARE_SKIPPED = "neuro_mw.middleware.failures_skipped"
ATTEMPT_DURATION = "neuro_mw.attempt.duration"  # seconds
ATTEMPT_TIME_TO_FIRST_CHUNK = "neuro_mw.attempt.time_to_first_chunk"  # seconds
