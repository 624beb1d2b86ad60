//! One attempt at an LM call: an HTTP request to the provider and the answer to it.
//!
//! It lies inside all layers, so that each attempt of a retry or a hedge has its limits, its
//! record and its key, and no layer sees the key.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::header::ACCEPT_ENCODING;
use http_body::Frame;
use tokio::time::{Instant, timeout};
use tower::{BoxError, Service};
use tracing::Instrument;

use super::{
    LmLimits,
    abort::AbortGuard,
    content_limits::ContentLimits,
    credential::Credential,
    departure::Departure,
    encoding,
    error_body::{self, ErrorReader},
    http::{LmBody, LmHttp, LmRequest, LmResponse, ReadTimeout},
    key::Origin,
    limited_body::{BodyLimit, LimitedBody},
    lm_log::LmCallEntry,
    resolved::ResolvedLm,
};
use crate::{
    call::{Cause, LmOutcome, drop_scope},
    error::{BadStatus, LmFailure, LmFailureKind},
};

/// The service inside all layers: it sends a request with the key, within the limits of an attempt,
/// and records it.
#[derive(Clone)]
pub(super) struct LmAttempt {
    pub(super) http: LmHttp,
    pub(super) shared: Arc<ResolvedLm>,
}

impl Service<LmRequest> for LmAttempt {
    type Response = LmResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<LmResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx)
    }

    fn call(&mut self, request: LmRequest) -> Self::Future {
        // The service that was ready goes with the call.
        let clone = self.http.clone();
        let http = mem::replace(&mut self.http, clone);
        Box::pin(attempt(http, self.shared.clone(), request))
    }
}

async fn attempt(
    mut http: LmHttp,
    shared: Arc<ResolvedLm>,
    mut request: LmRequest,
) -> Result<LmResponse, BoxError> {
    // Before the call, so that it is dropped after it.
    let mut record = LmCallEntry::begin(&request, shared.names(), shared.price(&request));
    if shared.lm.trace_propagation {
        record.send_trace(&mut request);
    }
    // Dropped after the call too: a connection is closed before its abort is sent.
    let hook = shared.lm.abort.as_ref();
    let mut abort = AbortGuard::new(hook, &request, &http, shared.names(), record.is_sent());
    let departure = Departure::of(&request);
    let to = Origin::of(request.uri());
    let asked = request.headers().get(ACCEPT_ENCODING).cloned();
    let read_timeout = request.extensions().get().map(|ReadTimeout(limit)| *limit);
    let limits = shared.lm.limits;
    let mut sent_at = Instant::now();
    let sent = async {
        let credential = shared.credential(&request)?;
        abort.set_credential(&credential);
        credential.put(&mut request)?;
        record.reserve(&request, &shared.completions)?;
        // The layer that enforces a limit polls this first: once the limit has passed, nothing may
        // be sent.
        departure.check()?;
        record.mark(&mut request, shared.lm.reports_sending());
        let call = record.span.in_scope(|| http.call(request));
        let call = call.instrument(record.span.clone());
        sent_at = Instant::now();
        let answer = within(HeadLimit::of(&limits, read_timeout), call).await?;
        let answer = answer.map_err(|error| credential.failure(&error, to.as_ref()))?;
        record.head(answer.status(), answer.headers());
        abort.head(answer.status(), answer.headers());
        Ok::<_, LmFailure>((encoding::decode(answer, asked.as_ref())?, credential))
    };
    let (answer, credential) = match sent.await {
        Ok(sent) => sent,
        Err(failure) => {
            if failure.kind().is_unsent() {
                record.not_sent();
            }
            record.finish(failure.kind().into());
            abort.failed(&failure);
            if failure.kind() == LmFailureKind::Refused {
                departure.left_to_layers().await;
            }
            return Err(failure.into());
        }
    };
    let limit = AttemptBodyLimit {
        record,
        abort,
        shared: shared.clone(),
        credential: credential.clone(),
        to,
        error: ErrorReader::of(answer.headers()),
        waits: ContentLimits::of(answer.headers(), limits, read_timeout, sent_at),
    };
    let answer = answer.map(|inner| LmBody::new(LimitedBody::new(inner, limit)));
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return Err(BadStatus::read(answer, credential.redact()).await.into());
    }
    Ok(error_body::look(answer, credential.redact()).await?)
}

/// The limit of the wait for the head of an answer.
struct HeadLimit {
    limit: Duration,
    failure: fn(Duration) -> LmFailure,
}

impl HeadLimit {
    /// The earlier of the limits of the first byte, the program's among them, and of the first
    /// content.
    fn of(limits: &LmLimits, read_timeout: Option<Duration>) -> Option<Self> {
        let first_byte = limits.first_byte.into_iter().chain(read_timeout).min();
        let first_byte = first_byte.map(|limit| Self {
            limit,
            failure: |limit| {
                let message = format!("the provider did not begin to answer within {limit:?}");
                LmFailure::new(LmFailureKind::FirstByteTimeout, message)
            },
        });
        let first_content = limits.first_content.map(|limit| Self {
            limit,
            failure: |limit| LmFailure::first_content(limit, "nothing"),
        });
        let both = first_byte.into_iter().chain(first_content);
        both.min_by_key(|head| head.limit)
    }
}

/// The output of `call`, if it comes within this limit.
async fn within<C: Future>(head: Option<HeadLimit>, call: C) -> Result<C::Output, LmFailure> {
    let Some(HeadLimit { limit, failure }) = head else {
        return Ok(call.await);
    };
    let mut call = Box::pin(call);
    let output = timeout(limit, &mut call).await;
    output.map_err(|_| {
        drop_scope::with(Cause::Elapsed, || drop(call));
        failure(limit)
    })
}

/// The limits of the waits for the body of an answer, and the record of the attempt.
struct AttemptBodyLimit {
    record: LmCallEntry,
    abort: AbortGuard,
    shared: Arc<ResolvedLm>,
    credential: Arc<Credential>,
    to: Option<Origin>,
    error: ErrorReader,
    waits: ContentLimits,
}

impl BodyLimit for AttemptBodyLimit {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Cause, LmFailure)> {
        let failure = ready!(self.waits.poll(cx));
        Poll::Ready((Cause::Elapsed, failure))
    }

    fn failure(&self, error: &BoxError) -> LmFailure {
        self.credential.failure(error, self.to.as_ref())
    }

    fn read(&mut self, frame: &Frame<Bytes>) {
        let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
        let first_content = self.waits.read(data);
        self.record.read(data, first_content, self.waits.tokens());
        self.abort.read(data);
        self.error.read(data);
    }

    fn end(&mut self, outcome: LmOutcome) {
        let is_whole = outcome == LmOutcome::Answered;
        if is_whole {
            self.abort.disarm();
            if let Some(status) = self.error.status() {
                self.record.error_in_body(status);
            }
        }
        let is_first = self.record.finish(outcome);
        if let Some(tokens) = self.record.completion().filter(|_| is_whole && is_first) {
            self.shared.answered(tokens);
        }
    }
}
