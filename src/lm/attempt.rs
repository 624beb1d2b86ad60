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
use tokio::time::{Sleep, sleep, timeout};
use tower::{BoxError, Service};
use tracing::Instrument;

use super::{
    credential::Credential,
    departure::Departure,
    encoding, error_body,
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
    let mut record = LmCallEntry::begin(&request, shared.names());
    if let Some(id) = record.log.clone() {
        request.extensions_mut().insert(id);
    }
    let departure = Departure::of(&request);
    let to = Origin::of(request.uri());
    let asked = request.headers().get(ACCEPT_ENCODING).cloned();
    let read_timeout = request.extensions().get().map(|ReadTimeout(limit)| *limit);
    let earlier = |own: Option<Duration>| own.into_iter().chain(read_timeout).min();
    let limits = shared.lm.limits;
    let sent = async {
        let credential = shared.credential(&request)?;
        credential.put(&mut request)?;
        // The layer that enforces a limit polls this first: once the limit has passed, nothing may
        // be sent.
        departure.check()?;
        let call = record.span.in_scope(|| http.call(request));
        let call = call.instrument(record.span.clone());
        let answer = within(earlier(limits.first_byte), call).await?;
        let answer = answer.map_err(|error| credential.failure(&error, to.as_ref()))?;
        record.status(answer.status());
        Ok::<_, LmFailure>((encoding::decode(answer, asked.as_ref())?, credential))
    };
    let (answer, credential) = match sent.await {
        Ok(sent) => sent,
        Err(failure) => {
            record.finish(failure.kind().into());
            if failure.kind() == LmFailureKind::Refused {
                departure.left_to_layers().await;
            }
            return Err(failure.into());
        }
    };
    let limit = AttemptBodyLimit {
        record,
        credential: credential.clone(),
        to,
        idle: earlier(limits.idle),
        pause: None,
    };
    let answer = answer.map(|inner| LmBody::new(LimitedBody::new(inner, limit)));
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return Err(BadStatus::read(answer, credential.redact()).await.into());
    }
    Ok(error_body::look(answer, credential.redact()).await?)
}

/// The output of `call`, if it comes within the limit of the first byte.
async fn within<C: Future>(limit: Option<Duration>, call: C) -> Result<C::Output, LmFailure> {
    let Some(limit) = limit else {
        return Ok(call.await);
    };
    let mut call = Box::pin(call);
    let output = timeout(limit, &mut call).await;
    output.map_err(|_| {
        drop_scope::with(Cause::Elapsed, || drop(call));
        LmFailure::new(
            LmFailureKind::FirstByteTimeout,
            format!("the provider did not begin to answer within {limit:?}"),
        )
    })
}

/// The limit of a pause in the body of an answer, and the record of the attempt.
struct AttemptBodyLimit {
    record: LmCallEntry,
    credential: Arc<Credential>,
    to: Option<Origin>,
    /// How long a pause may be.
    idle: Option<Duration>,
    /// The end of the present pause.
    pause: Option<Pin<Box<Sleep>>>,
}

impl BodyLimit for AttemptBodyLimit {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Cause, LmFailure)> {
        let Some(idle) = self.idle else {
            return Poll::Pending;
        };
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(idle)));
        ready!(pause.as_mut().poll(cx));
        let message = format!("the provider's answer paused for longer than {idle:?}");
        let failure = LmFailure::new(LmFailureKind::IdleTimeout, message);
        Poll::Ready((Cause::Elapsed, failure))
    }

    fn failure(&self, error: &BoxError) -> LmFailure {
        self.credential.failure(error, self.to.as_ref())
    }

    fn read(&mut self, frame: &Frame<Bytes>) {
        self.pause = None;
        if let Some(data) = frame.data_ref() {
            self.record.read(data);
        }
    }

    fn end(&mut self, outcome: LmOutcome) {
        self.record.finish(outcome);
    }
}
