//! The events of a program as the chunks of one completion.

use std::sync::Arc;

use ::axum::response::{IntoResponse, Response};

use super::{
    super::{
        chat::{ChatFields, output_text},
        event_stream::StreamDialect,
        failure::StreamFailure,
        sse_queue::SseQueue,
    },
    answer::new_id,
    chunk::{ChunkChoice, CompletionChunk, Delta},
    error::OpenAiError,
    programs::now,
};
use crate::{call::Usage, request::Prediction, stream::StreamEvent};

#[derive(Debug)]
pub(super) struct ChatCompletionWriter {
    id: String,
    created: u64,
    model: Arc<str>,
    fields: ChatFields,
    include_usage: bool,
    started: bool,
    /// The LM call whose answer is sent, and what was sent of it.
    sent: Option<(u64, String)>,
    /// The LM call and the field, or thinking, of the reasoning that was sent last.
    reasoned: Option<(u64, Option<Arc<str>>)>,
}

impl ChatCompletionWriter {
    pub(super) fn new(model: Arc<str>, fields: ChatFields, include_usage: bool) -> Self {
        Self {
            id: new_id(),
            created: now(),
            model,
            fields,
            include_usage,
            started: false,
            sent: None,
            reasoned: None,
        }
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<Usage>, out: &mut SseQueue) {
        out.json(&CompletionChunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: self.include_usage.then_some(usage),
        });
    }

    fn choice(&self, delta: Delta<'_>, finish_reason: Option<&'static str>, out: &mut SseQueue) {
        let choice = ChunkChoice {
            index: 0,
            delta,
            finish_reason,
        };
        self.chunk(&[choice], None, out);
    }

    fn start(&mut self, out: &mut SseQueue) {
        if !std::mem::replace(&mut self.started, true) {
            let delta = Delta {
                role: Some("assistant"),
                content: Some(""),
                ..Delta::default()
            };
            self.choice(delta, None, out);
        }
    }

    fn content(&mut self, delta: &str, out: &mut SseQueue) {
        if delta.is_empty() {
            return;
        }
        self.start(out);
        let delta = Delta {
            content: Some(delta),
            ..Delta::default()
        };
        self.choice(delta, None, out);
    }

    fn reasoning(
        &mut self,
        lm_call: u64,
        field: Option<&Arc<str>>,
        delta: &str,
        out: &mut SseQueue,
    ) {
        self.start(out);
        let from = (lm_call, field.cloned());
        let is_more = self.reasoned.as_ref().is_none_or(|last| *last == from);
        let parted;
        let delta = if is_more {
            delta
        } else {
            parted = format!("\n\n{delta}");
            &parted
        };
        self.reasoned = Some(from);
        let delta = Delta {
            reasoning_content: Some(delta),
            ..Delta::default()
        };
        self.choice(delta, None, out);
    }

    fn text(&mut self, lm_call: u64, field: &Arc<str>, delta: &str, out: &mut SseQueue) {
        if self.fields.is_reasoning(field) {
            self.reasoning(lm_call, Some(field), delta, out);
        } else if self.fields.is_answer(field) {
            let (of, sent) = self.sent.get_or_insert_with(|| (lm_call, String::new()));
            // Another LM call writes it anew: the prediction will show which of them is the answer.
            if *of == lm_call {
                sent.push_str(delta);
                self.content(delta, out);
            }
        }
    }

    /// Sends what is missing of `text`, or fails if what was sent is not its beginning.
    fn complete(&mut self, text: &str, out: &mut SseQueue) -> Result<(), StreamFailure> {
        let sent = self.sent.as_ref().map_or("", |(_, sent)| sent);
        let rest = text.strip_prefix(sent);
        let rest = rest.ok_or_else(StreamFailure::restarted)?;
        if let Some((_, sent)) = &mut self.sent {
            sent.push_str(rest);
        }
        self.content(rest, out);
        Ok(())
    }

    fn done(&mut self, prediction: &Prediction, out: &mut SseQueue) -> Result<(), StreamFailure> {
        let text = output_text(prediction, &self.fields.answer)
            .ok_or_else(|| StreamFailure::no_output(&self.fields.answer))?;
        self.complete(&text, out)?;
        self.start(out);
        self.choice(Delta::default(), Some("stop"), out);
        if self.include_usage {
            self.chunk(&[], Some(prediction.usage), out);
        }
        out.done();
        Ok(())
    }
}

impl StreamDialect for ChatCompletionWriter {
    fn write(&mut self, event: StreamEvent, out: &mut SseQueue) -> Result<(), StreamFailure> {
        match event {
            StreamEvent::Text {
                lm_call,
                field,
                delta,
                ..
            } => self.text(lm_call, &field, &delta, out),
            StreamEvent::Thinking { lm_call, delta, .. } => {
                self.reasoning(lm_call, None, &delta, out);
            }
            StreamEvent::Replace {
                lm_call,
                field,
                text,
                ..
            } if self.fields.is_answer(&field) => {
                let (of, _) = self.sent.get_or_insert_with(|| (lm_call, String::new()));
                if *of == lm_call {
                    return self.complete(&text, out);
                }
            }
            StreamEvent::Restart { lm_call, .. } => {
                if self.sent.as_ref().is_some_and(|(of, _)| *of == lm_call) {
                    return Err(StreamFailure::restarted());
                }
            }
            StreamEvent::Done(prediction) => return self.done(&prediction, out),
            // Reasoning that was sent stays. There is no place for the others.
            StreamEvent::Replace { .. }
            | StreamEvent::Status { .. }
            | StreamEvent::ToolCall { .. }
            | StreamEvent::ToolResult { .. } => {}
        }
        Ok(())
    }

    fn fail(&mut self, failure: StreamFailure, out: &mut SseQueue) {
        out.json(&OpenAiError::failed(failure).body());
    }

    fn refuse(failure: StreamFailure) -> Response {
        OpenAiError::failed(failure).into_response()
    }
}
