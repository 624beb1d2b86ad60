//! The names of all spans and their attributes.
//!
//! `gen_ai.*` are those of the GenAI conventions, which are in development: the repository
//! `open-telemetry/semantic-conventions-genai`, `model/gen-ai/spans.yaml`. `server.*`, `http.*` and
//! `error.type` are stable conventions of OpenTelemetry. `otel.*` are read by `tracing-opentelemetry`.
//! `tower_dspy.*` are of this crate: what the conventions have no name for.

/// The span of a tracked call.
pub const CALL: &str = "call";
/// The span of a program's run; the value of [`OPERATION`] too.
pub const INVOKE_WORKFLOW: &str = "invoke_workflow";
/// The span of an attempt at an LM call; the value of [`OPERATION`] too.
pub const CHAT: &str = "chat";
/// The value of [`OPERATION`] in a `chat` span whose LM call asks for embeddings.
pub const EMBEDDINGS: &str = "embeddings";
/// The span of a call of a tool; the value of [`OPERATION`] too.
pub const EXECUTE_TOOL: &str = "execute_tool";

/// The name of the span as it is exported.
pub const SPAN_NAME: &str = "otel.name";
/// The kind of the span: `client` of an LM call.
pub const SPAN_KIND: &str = "otel.kind";
/// The status of the span: `ERROR`, or unset.
pub const STATUS_CODE: &str = "otel.status_code";

/// The sort of the error, in few values: `timeout`, a status, an error's kind.
pub const ERROR_TYPE: &str = "error.type";
/// The host that an LM call goes to.
pub const SERVER_ADDRESS: &str = "server.address";
/// The port that an LM call goes to.
pub const SERVER_PORT: &str = "server.port";
/// The status of an LM's answer.
pub const HTTP_STATUS: &str = "http.response.status_code";

/// What a span does: [`INVOKE_WORKFLOW`], [`CHAT`], [`EMBEDDINGS`] or [`EXECUTE_TOOL`].
pub const OPERATION: &str = "gen_ai.operation.name";
/// The name of the program.
pub const WORKFLOW_NAME: &str = "gen_ai.workflow.name";
/// The LM's provider, by its name in the conventions.
pub const PROVIDER: &str = "gen_ai.provider.name";
/// The model that was asked for.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Whether the answer was asked for as a stream.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// The model that answered.
pub const RESPONSE_MODEL: &str = "gen_ai.response.model";
/// The provider's id of the answer.
pub const RESPONSE_ID: &str = "gen_ai.response.id";
/// Why the answer ended, as a list of one text, as far as this crate exports the span by its feature
/// `otel`. In a subscriber's fields it is the text: `tracing` has no lists.
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Seconds from the request to the first chunk of a streamed answer.
pub const TIME_TO_FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// Tokens of the prompt, those read from a cache included.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// Tokens of the answer.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Tokens of the prompt that the provider read from its cache.
pub const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Tokens of the answer that the model thought with.
pub const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// The name of the tool.
pub const TOOL_NAME: &str = "gen_ai.tool.name";
/// The sort of the tool: `function`.
pub const TOOL_TYPE: &str = "gen_ai.tool.type";

/// The number of the call within its process.
pub const CALL_ID: &str = "tower_dspy.call_id";
/// The label of the layer that tracks the call.
pub const LABEL: &str = "tower_dspy.label";
/// How many attempts came before this one.
pub const ATTEMPT: &str = "tower_dspy.attempt";
/// How many attempts were made.
pub const ATTEMPTS: &str = "tower_dspy.attempts";
/// Milliseconds from the begin of the span to the deadline.
pub const TIME_LEFT: &str = "tower_dspy.time_left_ms";
/// What the tokens of an LM call cost that the provider counted, in USD; missing where the price is not
/// known.
pub const COST: &str = "tower_dspy.cost_usd";
/// What the tokens of an LM call cost that the provider did not count, in USD: an estimate.
pub const ESTIMATED_COST: &str = "tower_dspy.estimated_cost_usd";
/// The name of the LM that the caller chose.
pub const CHOSEN_LM: &str = "tower_dspy.lm";
/// How the span ended: `completed`, `failed`, `timed out` or `cancelled`; of an LM call that was not sent,
/// `refused`.
pub const OUTCOME: &str = "tower_dspy.outcome";
/// Why it was cancelled.
pub const CAUSE: &str = "tower_dspy.cause";

/// The name in the conventions of a provider that DSPy calls `provider`: `gen_ai.provider.name` of their
/// registry.
#[cfg(any(feature = "lm", feature = "metrics"))]
pub(crate) fn provider_name(provider: &str) -> &str {
    match provider {
        "azure" => "azure.ai.openai",
        "azure_ai" => "azure.ai.inference",
        "bedrock" => "aws.bedrock",
        "cohere_chat" => "cohere",
        "gemini" => "gcp.gemini",
        "mistral" => "mistral_ai",
        "vertex_ai" => "gcp.vertex_ai",
        "watsonx" => "ibm.watsonx.ai",
        "xai" => "x_ai",
        other => other,
    }
}

/// The [`OPERATION`] of an LM call.
#[cfg(feature = "lm")]
pub(crate) const fn lm_operation(asks_for_embeddings: bool) -> &'static str {
    if asks_for_embeddings {
        EMBEDDINGS
    } else {
        CHAT
    }
}
