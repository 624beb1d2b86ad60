//! The events of a program as the chunks of one completion.

use std::{collections::HashMap, sync::Arc};

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
    /// The LM call whose answer is sent: the first that wrote any of it.
    answers: Option<u64>,
    /// What was sent of each field of an LM call.
    sent: HashMap<(u64, Arc<str>), String>,
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
            answers: None,
            sent: HashMap::new(),
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
            usage: self.include_usage.then(|| usage.map(Into::into)),
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
            // Another LM call writes it anew: the prediction will show which of them is the answer.
            if *self.answers.get_or_insert(lm_call) != lm_call {
                return;
            }
            self.content(delta, out);
        } else {
            return;
        }
        let sent = self.sent.entry((lm_call, Arc::clone(field)));
        sent.or_default().push_str(delta);
    }

    /// Sends what `text` adds to what was sent. If it does not continue that, reasoning stays as it is,
    /// and an answer fails.
    fn replace(
        &mut self,
        lm_call: u64,
        field: &Arc<str>,
        text: &str,
        out: &mut SseQueue,
    ) -> Result<(), StreamFailure> {
        let sent = self.sent.get(&(lm_call, Arc::clone(field)));
        match text.strip_prefix(sent.map_or("", String::as_str)) {
            Some("") => {}
            Some(rest) => self.text(lm_call, field, rest, out),
            None if self.fields.is_reasoning(field) => {}
            None => return Err(StreamFailure::restarted()),
        }
        Ok(())
    }

    /// Sends what is missing of the answer, or fails if what was sent is not its beginning.
    fn complete(&mut self, answer: &str, out: &mut SseQueue) -> Result<(), StreamFailure> {
        let field = Arc::clone(&self.fields.answer);
        let sent = self
            .answers
            .and_then(|lm_call| self.sent.get(&(lm_call, field)));
        let rest = answer.strip_prefix(sent.map_or("", String::as_str));
        self.content(rest.ok_or_else(StreamFailure::restarted)?, out);
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
            } => return self.replace(lm_call, &field, &text, out),
            StreamEvent::Restart { lm_call, .. } => {
                if self.answers == Some(lm_call) {
                    return Err(StreamFailure::restarted());
                }
            }
            StreamEvent::Done(prediction) => return self.done(&prediction, out),
            // There is no place for the others.
            StreamEvent::Status { .. }
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
