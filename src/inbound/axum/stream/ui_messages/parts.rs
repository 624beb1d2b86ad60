//! The parts of the message that is being written: which are open, and how one is taken back.

use super::{
    super::sse_queue::SseQueue,
    chunk::{UiChunk, UiPartMetadata, UiPartName, UiRestart},
};

/// Text of the answer, or reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UiPartKind {
    Text,
    Reasoning,
}

/// A part with the text that was sent of it.
#[derive(Debug)]
struct UiPart {
    lm_call: u64,
    /// That of the LM call and the field.
    id: String,
    /// That which the client gets: another one after `data-restart` has named it.
    name: String,
    kind: UiPartKind,
    text: String,
    is_open: bool,
}

impl UiPart {
    fn start(&self, out: &mut SseQueue) {
        let id = &*self.name;
        let provider_metadata = UiPartMetadata {
            tower_dspy: UiPartName { part: id },
        };
        out.json(&match self.kind {
            UiPartKind::Text => UiChunk::TextStart {
                id,
                provider_metadata,
            },
            UiPartKind::Reasoning => UiChunk::ReasoningStart {
                id,
                provider_metadata,
            },
        });
    }

    fn delta(&self, delta: &str, out: &mut SseQueue) {
        let id = &*self.name;
        out.json(&match self.kind {
            UiPartKind::Text => UiChunk::TextDelta { id, delta },
            UiPartKind::Reasoning => UiChunk::ReasoningDelta { id, delta },
        });
    }

    fn end(&mut self, out: &mut SseQueue) {
        if !self.is_open {
            return;
        }
        self.is_open = false;
        let id = &*self.name;
        out.json(&match self.kind {
            UiPartKind::Text => UiChunk::TextEnd { id },
            UiPartKind::Reasoning => UiChunk::ReasoningEnd { id },
        });
    }
}

/// The parts of the message that hold.
#[derive(Debug, Default)]
pub(super) struct UiParts {
    /// The LM call of the step; `None` before the first one.
    step: Option<u64>,
    parts: Vec<UiPart>,
    /// The step has tools, or a `data-restart` that names parts of earlier steps: `reset-step` would
    /// remove them too.
    has_others: bool,
    /// Those of earlier steps.
    earlier: Vec<UiPart>,
    /// The ids of parts that `data-restart` has named, as often as it has.
    void: Vec<String>,
}

impl UiParts {
    /// The step that `lm_call` writes to: a new one if it is a later LM call than that of the current
    /// step. LM calls at the same time share the step of the latest.
    pub(super) fn step(&mut self, lm_call: u64, out: &mut SseQueue) {
        if self.step.is_some_and(|step| step >= lm_call) {
            return;
        }
        self.finish_step(out);
        out.json(&UiChunk::StartStep);
        self.step = Some(lm_call);
    }

    /// Parts are only in steps: opens one if there is none.
    pub(super) fn any_step(&mut self, out: &mut SseQueue) {
        self.step(self.step.unwrap_or(0), out);
    }

    pub(super) fn tool(&mut self, out: &mut SseQueue) {
        self.any_step(out);
        self.has_others = true;
    }

    pub(super) fn finish_step(&mut self, out: &mut SseQueue) {
        for mut part in self.parts.drain(..) {
            part.end(out);
            self.earlier.push(part);
        }
        if self.step.take().is_some() {
            out.json(&UiChunk::FinishStep);
        }
        self.has_others = false;
    }

    /// Appends to the part `id` in the current step.
    pub(super) fn append(
        &mut self,
        lm_call: u64,
        id: &str,
        kind: UiPartKind,
        delta: &str,
        out: &mut SseQueue,
    ) {
        if let Some(part) = self.parts.last_mut()
            && part.is_open
            && part.id == id
        {
            part.text.push_str(delta);
            return part.delta(delta, out);
        }
        // The fields of an LM call are written one after the other.
        let before = self.parts.iter_mut();
        for part in before.filter(|part| part.lm_call == lm_call && part.id != id) {
            part.end(out);
        }
        let known = self.parts.iter_mut();
        let mut open = known.filter(|part| part.is_open && part.id == id);
        if let Some(part) = open.next() {
            part.text.push_str(delta);
            return part.delta(delta, out);
        }
        let part = UiPart {
            lm_call,
            id: id.to_owned(),
            name: match self.void.iter().filter(|void| *void == id).count() {
                0 => id.to_owned(),
                n => format!("{id}#{}", n + 1),
            },
            kind,
            text: delta.to_owned(),
            is_open: true,
        };
        part.start(out);
        part.delta(delta, out);
        self.parts.push(part);
    }

    /// Takes back all parts of an LM call.
    pub(super) fn retract_call(&mut self, lm_call: u64, out: &mut SseQueue) {
        self.retract(|part| part.lm_call == lm_call, out);
    }

    /// Takes back the part `id`.
    pub(super) fn retract_part(&mut self, id: &str, out: &mut SseQueue) {
        self.retract(|part| part.id == id, out);
    }

    fn retract(&mut self, is_void: impl Fn(&UiPart) -> bool, out: &mut SseQueue) {
        let mut void: Vec<_> = self.earlier.extract_if(.., |part| is_void(part)).collect();
        let mut of_step: Vec<_> = self.parts.extract_if(.., |part| is_void(part)).collect();
        if self.has_others {
            for part in &mut of_step {
                part.end(out);
            }
            void.append(&mut of_step);
        } else if !of_step.is_empty() {
            out.json(&UiChunk::ResetStep);
            for part in &mut self.parts {
                part.start(out);
                part.delta(&part.text, out);
                if !std::mem::replace(&mut part.is_open, true) {
                    part.end(out);
                }
            }
        }
        if !void.is_empty() {
            let parts: Vec<_> = void.iter().map(|part| &*part.name).collect();
            let data = UiRestart { parts: &parts };
            out.json(&UiChunk::DataRestart { data });
            self.has_others = true;
            self.void.extend(void.into_iter().map(|part| part.id));
        }
    }

    /// The text that was sent of the part `id`.
    pub(super) fn text(&self, id: &str) -> String {
        let parts = self.earlier.iter().chain(&self.parts);
        let of_id = parts.filter(|part| part.id == id);
        of_id.map(|part| &*part.text).collect()
    }
}
