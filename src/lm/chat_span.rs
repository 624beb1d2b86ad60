//! The span of an attempt at an LM call.

use std::time::Duration;

use memchr::memmem;
use serde::Deserialize;
use tracing::{Level, Span, field};

use super::{
    LmRequest,
    answer_labels::AnswerLabels,
    embedding::asks_for_embeddings,
    http::{CallSpan, RequestTrace},
    usage::UsageCounts,
};
use crate::{
    call::{CallId, Carrier, LmOutcome},
    telemetry::{
        self,
        names::{self, provider_name},
    },
};

/// The span of an attempt to call this model of this provider, in that of its call.
pub(super) fn open(request: &LmRequest, provider: &str, model: &str) -> Span {
    if !tracing::enabled!(target: "tower_dspy", Level::INFO) {
        return Span::none();
    }
    let extensions = request.extensions();
    let context = request.context();
    let call = extensions.get::<CallSpan>();
    let parent = call.map_or_else(Span::current, |CallSpan(span)| span.clone());
    let uri = request.uri();
    let operation = names::lm_operation(asks_for_embeddings(request));
    let span = tracing::info_span!(
        target: "tower_dspy",
        parent: &parent,
        names::CHAT,
        { names::SPAN_NAME } = format_args!("{operation} {model}"),
        { names::SPAN_KIND } = "client",
        { names::OPERATION } = operation,
        { names::PROVIDER } = provider_name(provider),
        { names::REQUEST_MODEL } = model,
        { names::REQUEST_STREAM } = asks_for_stream(request),
        { names::SERVER_ADDRESS } = uri.host(),
        { names::SERVER_PORT } = port(uri),
        { names::CALL_ID } = context.and_then(|context| context.call_id).map(CallId::get),
        { names::ATTEMPT } = context.map_or(0, |context| context.attempt),
        { names::HTTP_STATUS } = field::Empty,
        { names::RESPONSE_MODEL } = field::Empty,
        { names::RESPONSE_ID } = field::Empty,
        { names::FINISH_REASONS } = field::Empty,
        { names::TIME_TO_FIRST_CHUNK } = field::Empty,
        { names::INPUT_TOKENS } = field::Empty,
        { names::OUTPUT_TOKENS } = field::Empty,
        { names::CACHE_READ_TOKENS } = field::Empty,
        { names::REASONING_TOKENS } = field::Empty,
        { names::COST } = field::Empty,
        { names::ESTIMATED_COST } = field::Empty,
        { names::OUTCOME } = field::Empty,
        { names::ERROR_TYPE } = field::Empty,
        { names::STATUS_CODE } = field::Empty,
    );
    match extensions.get() {
        Some(RequestTrace(trace)) => telemetry::follow(&span, trace),
        None => telemetry::join(
            &span,
            &mut context.and_then(|context| context.trace.clone()),
        ),
    }
    span
}

/// Records the status of the answer, which is an error from 400 on.
pub(super) fn record_status(span: &Span, status: u16) {
    span.record(names::HTTP_STATUS, status);
    if status >= 400 {
        telemetry::record_error(span, &status.to_string());
    }
}

/// Records how long the first chunk of a stream took.
pub(super) fn record_first_chunk(span: &Span, waited: Duration) {
    span.record(names::TIME_TO_FIRST_CHUNK, waited.as_secs_f64());
}

/// Records how the attempt ended, and what is known of its answer.
pub(super) fn record_end(
    span: &Span,
    (outcome, is_bad_status): (LmOutcome, bool),
    counts: &UsageCounts,
    [cost, estimated_cost]: [Option<f64>; 2],
    labels: Option<&AnswerLabels>,
) {
    span.record(names::OUTCOME, outcome_text(outcome, is_bad_status));
    match outcome {
        LmOutcome::Elapsed => telemetry::record_error(span, "timeout"),
        LmOutcome::Refused => telemetry::record_error(span, "refused"),
        LmOutcome::Failed => telemetry::record_error(span, "failed"),
        // A cancel is no error, and an answer's status is recorded already.
        LmOutcome::Cancelled | LmOutcome::Answered => {}
    }
    span.record(names::INPUT_TOKENS, counts.prompt());
    span.record(names::OUTPUT_TOKENS, counts.completion());
    span.record(names::CACHE_READ_TOKENS, counts.cached());
    span.record(names::REASONING_TOKENS, counts.reasoning());
    span.record(names::COST, cost);
    span.record(names::ESTIMATED_COST, estimated_cost);
    if let Some(labels) = labels {
        span.record(names::RESPONSE_MODEL, labels.model.as_deref());
        span.record(names::RESPONSE_ID, labels.id.as_deref());
        if let Some(reason) = &labels.finish_reason {
            telemetry::record_list(span, names::FINISH_REASONS, reason);
        }
    }
}

/// How an attempt ended, in the words of all spans.
const fn outcome_text(outcome: LmOutcome, is_bad_status: bool) -> &'static str {
    match outcome {
        LmOutcome::Answered if !is_bad_status => "completed",
        LmOutcome::Elapsed => "timed out",
        LmOutcome::Cancelled => "cancelled",
        LmOutcome::Refused => "refused",
        LmOutcome::Failed | LmOutcome::Answered => "failed",
    }
}

fn port(uri: &http::Uri) -> Option<u16> {
    uri.port_u16().or(match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    })
}

/// Whether a request asks for a stream: by its body, or by its path where the provider has it there.
fn asks_for_stream(request: &LmRequest) -> bool {
    #[derive(Deserialize)]
    struct Asked {
        #[serde(default)]
        stream: bool,
    }

    let (path, body) = (request.uri().path(), request.body());
    path.ends_with(":streamGenerateContent")
        || path.ends_with("-stream")
        // A look at the bytes spares most of those that ask for none the reading of a long prompt.
        || memmem::find(body, br#""stream""#).is_some()
            && serde_json::from_slice(body).is_ok_and(|Asked { stream }| stream)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_request_for_a_stream_is_told_by_its_body_or_its_path() {
        let request = |path: &str, body: &'static str| {
            let request = http::Request::post(format!("http://lm.test/v1{path}"));
            request.body(Bytes::from_static(body.as_bytes())).unwrap()
        };
        for (path, body, streams) in [
            (
                "/chat/completions",
                r#"{"stream":true,"messages":[]}"#,
                true,
            ),
            ("/chat/completions", r#"{"stream":false}"#, false),
            (
                "/chat/completions",
                r#"{"messages":[{"stream":true}]}"#,
                false,
            ),
            ("/chat/completions", "\"stream\":true", false),
            ("/models/x:streamGenerateContent", "{}", true),
            ("/models/x:generateContent", "{}", false),
            ("/model/x/converse-stream", "{}", true),
        ] {
            assert_eq!(
                asks_for_stream(&request(path, body)),
                streams,
                "{path} {body}"
            );
        }
    }

    #[test]
    fn the_port_is_that_of_the_address_or_of_its_scheme() {
        for (address, expected) in [
            ("https://lm.test/v1", Some(443)),
            ("http://lm.test/v1", Some(80)),
            ("http://lm.test:81/v1", Some(81)),
            ("/v1", None),
        ] {
            assert_eq!(port(&address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn embeddings_are_an_operation_of_their_own() {
        for (path, operation) in [
            ("/v1/embeddings", "embeddings"),
            ("/v1/chat/completions", "chat"),
        ] {
            let request = http::Request::post(format!("http://lm.test{path}"));
            let request = request.body(Bytes::new()).unwrap();
            let told = names::lm_operation(asks_for_embeddings(&request));
            assert_eq!(told, operation, "{path}");
        }
    }

    #[test]
    fn an_answer_with_the_status_of_an_error_has_failed() {
        assert_eq!(outcome_text(LmOutcome::Answered, false), "completed");
        assert_eq!(outcome_text(LmOutcome::Answered, true), "failed");
        assert_eq!(outcome_text(LmOutcome::Elapsed, true), "timed out");
    }
}
