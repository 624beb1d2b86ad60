//! The events of a program as the chunks of one UI message.

use http::{HeaderName, HeaderValue};

use super::{
    super::{
        chat::{ChatFields, output_text},
        event_stream::StreamDialect,
        failure::StreamFailure,
        sse_queue::SseQueue,
    },
    chunk::{UiChunk, UiStatus},
    parts::{UiPartKind, UiParts},
};
use crate::{inbound::axum::prediction::PredictionBody, request::Prediction, stream::StreamEvent};

/// The text of the answer that the message shows.
#[derive(Debug)]
struct ShownAnswer {
    lm_call: u64,
    id: String,
    text: String,
}

#[derive(Debug)]
pub(super) struct UiMessageWriter {
    fields: ChatFields,
    started: bool,
    parts: UiParts,
    shown: Option<ShownAnswer>,
}

impl UiMessageWriter {
    pub(super) fn new(fields: ChatFields) -> Self {
        Self {
            fields,
            started: false,
            parts: UiParts::default(),
            shown: None,
        }
    }

    fn text(&mut self, lm_call: u64, field: &str, delta: &str, out: &mut SseQueue) {
        let id = format!("{lm_call}.{field}");
        if self.fields.is_reasoning(field) {
            return self.reasoning(lm_call, &id, delta, out);
        }
        if !self.fields.is_answer(field) {
            return;
        }
        match &mut self.shown {
            // A later LM call has begun to write it.
            Some(shown) if shown.lm_call > lm_call => return,
            Some(shown) if shown.lm_call == lm_call => shown.text.push_str(delta),
            shown => {
                if let Some(draft) = shown.take() {
                    self.parts.retract_part(&draft.id, out);
                }
                *shown = Some(ShownAnswer {
                    lm_call,
                    id: id.clone(),
                    text: delta.to_owned(),
                });
            }
        }
        self.parts.step(lm_call, out);
        self.parts
            .append(lm_call, &id, UiPartKind::Text, delta, out);
    }

    fn reasoning(&mut self, lm_call: u64, id: &str, delta: &str, out: &mut SseQueue) {
        self.parts.step(lm_call, out);
        self.parts
            .append(lm_call, id, UiPartKind::Reasoning, delta, out);
    }

    fn replace(&mut self, lm_call: u64, field: &str, text: &str, out: &mut SseQueue) {
        let id = format!("{lm_call}.{field}");
        if let Some(rest) = text.strip_prefix(&*self.parts.text(&id)) {
            if !rest.is_empty() {
                self.text(lm_call, field, rest, out);
            }
            return;
        }
        self.parts.retract_part(&id, out);
        self.shown.take_if(|shown| shown.id == id);
        if !text.is_empty() {
            self.text(lm_call, field, text, out);
        }
    }

    /// The message shows the answer of the prediction, whatever was shown before.
    fn answer(&mut self, answer: &str, out: &mut SseQueue) {
        if let Some(shown) = &mut self.shown {
            if let Some(rest) = answer.strip_prefix(&*shown.text) {
                if !rest.is_empty() {
                    let (lm_call, id) = (shown.lm_call, shown.id.clone());
                    self.parts.any_step(out);
                    self.parts.append(lm_call, &id, UiPartKind::Text, rest, out);
                }
                return;
            }
            self.parts.retract_part(&shown.id, out);
        }
        if !answer.is_empty() {
            self.parts.any_step(out);
            let id = &*self.fields.answer;
            self.parts.append(0, id, UiPartKind::Text, answer, out);
        }
    }

    fn done(&mut self, prediction: Prediction, out: &mut SseQueue) -> Result<(), StreamFailure> {
        let Some(answer) = output_text(&prediction, &self.fields.answer) else {
            return Err(StreamFailure::no_output(&self.fields.answer));
        };
        self.start(out);
        self.answer(&answer, out);
        self.parts.finish_step(out);
        let data = PredictionBody::of(prediction);
        out.json(&UiChunk::DataPrediction { data: &data });
        let finish_reason = "stop";
        out.json(&UiChunk::Finish { finish_reason });
        out.done();
        Ok(())
    }

    fn start(&mut self, out: &mut SseQueue) {
        if !std::mem::replace(&mut self.started, true) {
            out.json(&UiChunk::Start);
        }
    }

    fn tool(&mut self, id: u64, chunk: impl FnOnce(&str, &mut SseQueue), out: &mut SseQueue) {
        self.parts.tool(out);
        chunk(&format!("tool-{id}"), out);
    }
}

impl StreamDialect for UiMessageWriter {
    const HEADER: Option<(HeaderName, HeaderValue)> = Some((
        HeaderName::from_static("x-vercel-ai-ui-message-stream"),
        HeaderValue::from_static("v1"),
    ));

    fn write(&mut self, event: StreamEvent, out: &mut SseQueue) -> Result<(), StreamFailure> {
        let (provider_executed, dynamic) = (true, true);
        if !matches!(event, StreamEvent::Done(_)) {
            self.start(out);
        }
        match event {
            StreamEvent::Text {
                lm_call,
                field,
                delta,
                ..
            } => self.text(lm_call, &field, &delta, out),
            StreamEvent::Thinking { lm_call, delta, .. } => {
                self.reasoning(lm_call, &format!("{lm_call}:thinking"), &delta, out);
            }
            StreamEvent::Replace {
                lm_call,
                field,
                text,
                ..
            } => self.replace(lm_call, &field, &text, out),
            StreamEvent::Restart { lm_call, .. } => {
                self.parts.retract_call(lm_call, out);
                self.shown.take_if(|shown| shown.lm_call == lm_call);
            }
            StreamEvent::Status { message } => out.json(&UiChunk::DataStatus {
                data: UiStatus { message: &message },
                transient: true,
            }),
            StreamEvent::ToolCall {
                id,
                name,
                arguments,
            } => {
                let chunk = |tool_call_id: &str, out: &mut SseQueue| {
                    out.json(&UiChunk::ToolInputAvailable {
                        tool_call_id,
                        tool_name: &name,
                        input: &arguments,
                        provider_executed,
                        dynamic,
                    });
                };
                self.tool(id, chunk, out);
            }
            StreamEvent::ToolResult { id, result, .. } => {
                let chunk = |tool_call_id: &str, out: &mut SseQueue| match &result {
                    Ok(output) => out.json(&UiChunk::ToolOutputAvailable {
                        tool_call_id,
                        output,
                        provider_executed,
                        dynamic,
                    }),
                    Err(error_text) => out.json(&UiChunk::ToolOutputError {
                        tool_call_id,
                        error_text,
                        provider_executed,
                        dynamic,
                    }),
                };
                self.tool(id, chunk, out);
            }
            StreamEvent::Done(prediction) => return self.done(*prediction, out),
        }
        Ok(())
    }

    fn fail(&mut self, failure: StreamFailure, out: &mut SseQueue) {
        self.start(out);
        out.json(&UiChunk::DataError {
            data: failure.response.problem(),
            transient: true,
        });
        if let Some(reason) = failure.abort_reason() {
            out.json(&UiChunk::Abort { reason });
        }
        let error_text = failure.response.detail();
        out.json(&UiChunk::Error { error_text });
        out.done();
    }
}
