//! One attempt at an LM call: an HTTP request to the provider and the answer to it.
//!
//! It lies inside all layers, so that each attempt of a retry or a hedge has its limits, its
//! record and its key, and no layer sees the key.

use std::{
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{StatusCode, header::ACCEPT_ENCODING};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};
use tracing::{Instrument, Span, field};

use super::{
    departure::Departure,
    encoding, error_body,
    http::{Asked, CallSpan, LmBody, LmHttp, LmRequest, LmResponse, ReadTimeout},
    key::Origin,
    keyed::Keyed,
    limits::{self, Timer},
    lm_log::LmCallEntry,
    placeholder,
    resolved::ResolvedLm,
};
use crate::{
    call::{CallId, Carrier, Cause, Deadline, LmOutcome, drop_scope},
    error::{BadStatus, LmFailureKind},
};

/// Sends requests with the key, within the limits of an attempt, and takes them down.
#[derive(Clone, Debug)]
pub(super) struct LmAttempt {
    http: LmHttp,
    shared: Arc<ResolvedLm>,
}

impl LmAttempt {
    pub(super) const fn new(http: LmHttp, shared: Arc<ResolvedLm>) -> Self {
        Self { http, shared }
    }
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
    let record = LmCallEntry::begin(&request, &shared.provider, &shared.model);
    let mut record = Traced::begin(record, &request, &shared);
    let to = Origin::of(request.uri());
    let asked = request.headers().get(ACCEPT_ENCODING).cloned();
    let timeout = request.extensions().get().map(|ReadTimeout(limit)| *limit);
    let earlier = |own: Option<Duration>| own.into_iter().chain(timeout).min();
    let keyed = match &shared.keys {
        Some(keys) if placeholder::is_in(&request) => {
            keys.keyed(&request, &shared.keyed).map(Arc::new)
        }
        // A request may bring a key of its own.
        _ => Ok(shared.keyed.clone()),
    };
    let put = keyed.and_then(|keyed| keyed.lock.put(&mut request).map(|()| keyed));
    let keyed = match put {
        Ok(keyed) => keyed,
        Err(refused) => {
            record.finish(LmOutcome::Refused);
            return Err(refused.into());
        }
    };
    if let Some(sent) = record.record.sent() {
        request.extensions_mut().insert(sent);
    }
    // Layers may have used up the time, and the poll that is late for a limit comes here first.
    let departure = Departure::of(&request);
    if let Some(refusal) = departure.refusal() {
        record.finish(LmOutcome::Refused);
        departure.left_to_layers().await;
        return Err(refusal.into());
    }
    let span = record.span.clone();
    let mut sent = Box::pin(
        span.in_scope(|| http.call(request))
            .instrument(span.clone()),
    );
    let answer = match earlier(shared.limits.first_byte) {
        None => sent.await,
        Some(limit) => {
            let late = pin!(sleep(limit));
            tokio::select! {
                biased;
                answer = &mut sent => answer,
                () = late => {
                    drop_scope::with(Cause::Elapsed, || drop(sent));
                    record.finish(LmOutcome::Elapsed);
                    return Err(limits::no_first_byte(limit).into());
                }
            }
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            let failure = keyed.failure(&error, to.as_ref());
            record.finish(failure.kind().into());
            if failure.kind() == LmFailureKind::Refused {
                departure.left_to_layers().await;
            }
            return Err(failure.into());
        }
    };
    record.status(answer.status());
    let answer = match encoding::decode(answer, asked.as_ref()) {
        Ok(answer) => answer,
        Err(failure) => {
            record.finish(failure.kind().into());
            return Err(failure.into());
        }
    };
    let idle = earlier(shared.limits.idle);
    let answer =
        answer.map(|inner| LmBody::new(LmAttemptBody::new(inner, record, keyed.clone(), to, idle)));
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return Err(BadStatus::read(answer, &keyed.redact).await.into());
    }
    Ok(error_body::look(answer, &keyed.redact).await?)
}

/// The record of an attempt, and its span.
struct Traced {
    record: LmCallEntry,
    span: Span,
}

impl Traced {
    fn begin(record: LmCallEntry, request: &LmRequest, shared: &ResolvedLm) -> Self {
        let call = request.extensions().get::<CallSpan>();
        let parent = call.map_or_else(Span::current, |CallSpan(span)| span.clone());
        let context = request.context();
        let (provider, model) = Asked::names(request, &shared.provider, &shared.model);
        let span = tracing::info_span!(
            target: "tower_dspy",
            parent: &parent,
            "lm_call",
            provider,
            model,
            attempt = context.map_or(0, |context| context.attempt),
            call_id = context.and_then(|context| context.call_id).map(CallId::get),
            status = field::Empty,
            outcome = field::Empty,
        );
        Self { record, span }
    }

    fn status(&mut self, status: StatusCode) {
        self.span.record("status", status.as_u16());
        self.record.status(status);
    }

    fn read(&mut self, bytes: &[u8]) {
        self.record.read(bytes);
    }

    fn finish(&mut self, outcome: LmOutcome) {
        self.span.record("outcome", field::debug(outcome));
        self.record.finish(outcome);
    }
}

/// The body of an answer: records its end, and ends it when it pauses for too long.
struct LmAttemptBody {
    /// Gone once it has ended.
    inner: Option<LmBody>,
    record: Traced,
    keyed: Arc<Keyed>,
    to: Option<Origin>,
    /// How long a pause may be.
    idle: Option<Duration>,
    timer: Timer,
    /// When the present pause is too long.
    too_long: Option<Instant>,
}

impl LmAttemptBody {
    fn new(
        inner: LmBody,
        mut record: Traced,
        keyed: Arc<Keyed>,
        to: Option<Origin>,
        idle: Option<Duration>,
    ) -> Self {
        if inner.is_end_stream() {
            record.finish(LmOutcome::Answered);
        }
        Self {
            inner: Some(inner),
            record,
            keyed,
            to,
            idle,
            timer: Timer::default(),
            too_long: None,
        }
    }

    fn end(&mut self, outcome: LmOutcome) {
        self.inner = None;
        self.record.finish(outcome);
    }
}

impl Body for LmAttemptBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(&mut *inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.too_long = None;
                if let Some(data) = frame.data_ref() {
                    this.record.read(data);
                }
                // A reader that knows the length may not ask again.
                if inner.is_end_stream() {
                    this.record.finish(LmOutcome::Answered);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let failure = this.keyed.failure(&error, this.to.as_ref());
                this.end(failure.kind().into());
                Poll::Ready(Some(Err(failure.into())))
            }
            Poll::Ready(None) => {
                this.end(LmOutcome::Answered);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(limit) = this.idle else {
                    return Poll::Pending;
                };
                let too_long = *this
                    .too_long
                    .get_or_insert_with(|| Deadline::within(limit).instant());
                ready!(this.timer.poll(too_long, cx));
                drop_scope::with(Cause::Elapsed, || this.end(LmOutcome::Elapsed));
                Poll::Ready(Some(Err(limits::idle(limit).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
