//! The log of LM calls: each attempt at one is recorded in an [`LmLog`], with its costs.

use std::{
    mem,
    sync::{Arc, atomic::AtomicBool},
};

use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use tracing::Span;

use super::{
    LmRequest,
    answer_labels::LabelReader,
    charge::LmCharge,
    chat_span,
    content::BodyFormat,
    embedding::asks_for_embeddings,
    estimate::CompletionHistory,
    http::{AskedModel, ExchangeNumber, RequestTrace},
    model_name::split,
    sent_mark::{LmLogId, SentMark},
    usage::{UsageCounts, UsageReader},
};
use crate::{
    call::{
        CallId, Carrier, LmCall, LmOutcome, Price, Usage, Usd, drop_scope,
        record::{AttemptRecord, CallRecord, LateAnswer},
    },
    error::LmFailure,
    telemetry::{self, metrics::ChunkIntervals},
};

/// A log of the LM calls whose requests have it among their extensions.
///
/// Clones share one log. It keeps a bounded number of calls and [counts](Self::lost) the others.
#[derive(Clone, Debug)]
pub struct LmLog(pub(crate) Arc<AttemptRecord>);

impl LmLog {
    /// A log that keeps the first `most` calls.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(AttemptRecord::new(CallRecord::keeping(most), 0, None))
    }

    /// The calls that have ended, in the order in which they did.
    #[must_use]
    pub fn calls(&self) -> Vec<LmCall> {
        self.0.record().read(|spent| spent.lm_calls.clone())
    }

    /// How many calls have ended and were not kept.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.record().read(|spent| spent.lm_calls_not_kept)
    }

    /// The tokens of all calls that have ended, also of those that were not kept.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.0.record().read(|spent| spent.usage)
    }
}

/// Keeps the 256 first calls.
impl Default for LmLog {
    fn default() -> Self {
        Self::new(CallRecord::MOST)
    }
}

/// An attempt that is under way, in its span and in the log, if there is one. It is recorded once:
/// when it ends, or else when this is dropped, with the outcome of the cause of the drop.
#[derive(Debug)]
pub(super) struct LmCallEntry {
    pub(super) span: Span,
    has_ended: bool,
    /// The status of the answer is that of an error, or its body says so.
    is_bad_status: bool,
    /// Gone once it has ended.
    log: Option<LmLogId>,
    charge: LmCharge,
    usage: UsageReader,
    /// All tokens that the record of the call has of it.
    recorded: u64,
    /// From the head of the answer on.
    labels: Option<LabelReader>,
    is_embedding: bool,
    /// The answer is a stream of Amazon's events.
    is_binary: bool,
    /// Content of the answer came.
    content: bool,
    /// How many chunks came from then on.
    content_chunks: u64,
    /// Of a stream.
    chunks: Option<ChunkIntervals>,
    call_id: Option<u64>,
    /// The provider and the model.
    names: (Arc<str>, Arc<str>),
}

impl LmCallEntry {
    /// Begins an attempt to call this model of this provider at this price, unless `request` names
    /// another model.
    pub(super) fn begin(
        request: &LmRequest,
        (provider, model): (&str, &str),
        price: Option<Arc<Price>>,
    ) -> Self {
        let extensions = request.extensions();
        let is_embedding = asks_for_embeddings(request);
        let charge = LmCharge::new(request, price);
        let asked = extensions.get().map(|AskedModel(name)| split(name));
        let (provider, model) = asked.unwrap_or((provider, model));
        let context = request.context();
        let attempt = context.map_or(0, |context| context.attempt);
        let call_id = context.and_then(|context| context.call_id).map(CallId::get);
        let span = chat_span::open(request, provider, model);
        let names: (Arc<str>, Arc<str>) = (provider.into(), model.into());
        let log = extensions.get().map(|LmLog(log)| LmLogId {
            id: log.begin(LmCall {
                attempt,
                is_embedding,
                exchange: extensions.get().map(|ExchangeNumber(number)| *number),
                price: charge.price().cloned(),
                cost: Some(Usd::ZERO),
                estimated_cost: Some(Usd::ZERO),
                ..LmCall::new(names.0.clone(), names.1.clone(), LmOutcome::Cancelled)
            }),
            log: log.clone(),
            recorded: Arc::default(),
        });
        Self {
            span,
            has_ended: false,
            is_bad_status: false,
            log,
            charge,
            usage: UsageReader::default(),
            recorded: 0,
            labels: None,
            is_embedding,
            is_binary: false,
            content_chunks: 0,
            content: false,
            chunks: None,
            call_id,
            names,
        }
    }

    /// Writes the trace that the attempt is part of into the headers of its request.
    pub(super) fn send_trace(&self, request: &mut LmRequest) {
        let made_in = request.extensions().get().map(|RequestTrace(trace)| trace);
        let context = request.context();
        let trace = made_in.or_else(|| context?.trace.as_ref()).cloned();
        if let Some(trace) = telemetry::outgoing(&self.span, trace) {
            trace.write(request.headers_mut());
        }
    }

    /// Reserves what the request may cost in the budgets of its call.
    pub(super) fn reserve(
        &mut self,
        request: &LmRequest,
        completions: &CompletionHistory,
    ) -> Result<(), LmFailure> {
        let budgets = request.context().map(|context| &context.budgets);
        let Some(budgets) = budgets.filter(|budgets| !budgets.is_empty()) else {
            return Ok(());
        };
        let estimate = completions.estimate(request);
        let reserved = self.charge.reserve(budgets, estimate);
        reserved.map_err(|refusal| {
            let failure = LmFailure::over_budget(&refusal);
            if let Some(LmLogId { log, .. }) = &self.log {
                log.over_budget(*refusal);
            }
            failure
        })
    }

    /// Marks the request, so that its connection reports when it is sent. Without a connection that
    /// reports it, it counts as sent from now on.
    pub(super) fn mark(&self, request: &mut LmRequest, is_reported: bool) {
        let mark = SentMark {
            log: self.log.clone(),
            is_sent: self.charge.sent().clone(),
            charged: self.charge.of_sent(),
            on_sent: request.extensions().get().cloned(),
        };
        if !is_reported {
            mark.charge();
        }
        request.extensions_mut().insert(mark);
    }

    /// Whether a connection has taken the request.
    pub(super) const fn is_sent(&self) -> &Arc<AtomicBool> {
        self.charge.sent()
    }

    /// No connection took the request.
    pub(super) fn not_sent(&self) {
        self.charge.not_sent();
    }

    /// Records that the head of the answer came.
    pub(super) fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        chat_span::record_status(&self.span, status.as_u16());
        self.is_bad_status = status.as_u16() >= 400;
        self.charge.head(status);
        let format = BodyFormat::of(headers);
        self.is_binary = is_binary_stream(headers);
        self.charge.is_whole = format == BodyFormat::Whole && !self.is_binary;
        let Some(entry) = &self.log else {
            return;
        };
        self.labels = Some(LabelReader::new(format));
        entry.log.answer_begins(entry.id, status.as_u16());
        // Printable ASCII, so a byte is a character.
        let request_id = request_id(headers).map(|id| id[..id.len().min(LmCall::TEXT)].into());
        let is_stream = !self.charge.is_whole;
        let charged = self.charge.charged(&self.usage.counts);
        let chunks = &mut self.chunks;
        entry.log.update(entry.id, |call| {
            call.request_id = request_id;
            call.is_stream = is_stream;
            entry.put(charged, call);
            if is_stream {
                *chunks = Some(ChunkIntervals::new(&call.provider, &call.model));
            }
        });
    }

    /// Records that the answer, of whatever status, is an error of this status by its body.
    pub(super) fn error_in_body(&mut self, status: StatusCode) {
        if !mem::replace(&mut self.is_bad_status, true) {
            telemetry::record_error(&self.span, status.as_str());
            self.charge.set_error();
        }
    }

    /// Reads a piece of the answer's body, which may be the first with content. By its length, the
    /// answer has had about so many tokens with it.
    pub(super) fn read(&mut self, bytes: &[u8], first_content: bool, tokens: u64) {
        self.content |= first_content;
        let before = self.usage.counts;
        self.usage.read(bytes);
        let counts = Some(self.usage.counts).filter(|counts| *counts != before);
        let is_chunk = self.content && !bytes.is_empty();
        self.content_chunks += u64::from(is_chunk);
        // Events of Amazon's streams are not read: a chunk of one is about a token.
        match self.is_binary {
            _ if self.is_embedding => {}
            true => self.charge.received(self.content_chunks),
            false => self.charge.received(tokens),
        }
        let told = |counts: &UsageCounts| {
            let rest = || counts.rest().filter(|tokens| *tokens > 0);
            counts.completion().or_else(rest)
        };
        if counts.is_some_and(|counts| told(&counts) != told(&before)) {
            self.charge.counted();
        }
        let charged = self.charge.charged(&self.usage.counts);
        let Some(entry) = &self.log else {
            return;
        };
        let labels = self.labels.as_mut();
        let labels = labels.and_then(|reader| reader.read(bytes).then(|| reader.labels.clone()));
        if !is_chunk && counts.is_none() && labels.is_none() {
            return;
        }
        // At once: the call that this is made for may end before the attempt does.
        let (mut interval, mut waited) = (None, None);
        let recorded = &mut self.recorded;
        entry.log.update_at(entry.id, |call, now| {
            entry.put(charged, call);
            if is_chunk {
                interval = call.last_content.map(|last| now.saturating_sub(last));
                if call.first_content.is_none() && call.is_stream {
                    waited = Some(now.saturating_sub(call.started));
                }
                call.first_content.get_or_insert(now);
                call.last_content = Some(now);
                call.chunks += 1;
            }
            if let Some(counts) = counts {
                call.prompt_tokens = counts.prompt();
                call.completion_tokens = counts.completion();
                call.total_tokens = counts.total();
                call.cached_tokens = counts.cached();
                call.cache_write_tokens = counts.cache_write();
                call.reasoning_tokens = counts.reasoning();
                *recorded = call.total_tokens.unwrap_or_default();
            }
            if let Some(labels) = labels {
                call.response_model = labels.model;
                call.response_id = labels.id;
                call.finish_reason = labels.finish_reason;
            }
        });
        if let Some(waited) = waited {
            chat_span::record_first_chunk(&self.span, waited);
        }
        if let (Some(interval), Some(chunks)) = (interval, &self.chunks) {
            chunks.chunk(interval);
        }
    }

    /// The tokens of the answer, if the provider counted them, and it is no error.
    pub(super) fn completion(&self) -> Option<u64> {
        let counted = self.usage.counts.completion();
        counted.filter(|_| !self.is_bad_status)
    }

    /// Ends the attempt with this outcome, the first time: then it returns true.
    pub(super) fn finish(&mut self, outcome: LmOutcome) -> bool {
        if mem::replace(&mut self.has_ended, true) {
            return false;
        }
        let charged = self.charge.charged(&self.usage.counts);
        self.charge.settle(charged);
        if !self.span.is_disabled() {
            let stopped = || self.log.as_ref()?.log.stopped();
            let known = match outcome {
                LmOutcome::Cancelled => stopped().unwrap_or(outcome),
                known => known,
            };
            let labels = self.labels.as_ref().map(|reader| &reader.labels);
            chat_span::record_end(
                &self.span,
                (known, self.is_bad_status),
                &self.usage.counts,
                charged.in_usd(),
                labels,
            );
            telemetry::end(&self.span);
        }
        if let Some(entry) = self.log.take() {
            let LmLogId { log, id, .. } = &entry;
            log.update(*id, |call| entry.put(charged, call));
            let tokens = self.usage.counts.total().unwrap_or_default();
            // The others were counted when the attempt of its call was closed.
            let tokens = tokens.saturating_sub(self.recorded);
            if !log.end(*id, outcome) {
                let (provider, model) = &self.names;
                log.answered_too_late(LateAnswer {
                    provider,
                    model,
                    tokens,
                    usd: charged.beyond(entry.recorded()),
                });
                tracing::debug!(
                    target: "tower_dspy",
                    parent: &self.span,
                    call_id = self.call_id,
                    tokens,
                    "an LM answered after the end of its call"
                );
            }
        }
        true
    }
}

/// The headers that have a provider's id of a request, the usual ones first: OpenAI's, Anthropic's,
/// those of Amazon's and Microsoft's clouds.
const REQUEST_IDS: [&str; 5] = [
    "x-request-id",
    "request-id",
    "x-amzn-requestid",
    "apim-request-id",
    "x-ms-request-id",
];

/// The provider's id of the request, as far as it is printable.
pub(super) fn request_id(headers: &HeaderMap) -> Option<&str> {
    REQUEST_IDS.iter().find_map(|name| {
        let id = headers.get(*name)?.to_str().ok()?;
        (!id.is_empty()).then_some(id)
    })
}

/// Whether the body is a stream of Amazon's events.
fn is_binary_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.is_some_and(|kind| kind.starts_with(b"application/vnd.amazon.eventstream"))
}

impl Drop for LmCallEntry {
    fn drop(&mut self) {
        self.finish(LmOutcome::of_cause(drop_scope::cause()));
    }
}
