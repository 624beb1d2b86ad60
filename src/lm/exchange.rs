//! One HTTP exchange with the provider: what every attempt of an LM call goes through.
//!
//! It lies inside all layers, so that each attempt of a retry or a hedge has its limits, its
//! record and its key, and no layer sees the key.

use std::{
    mem,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};
use tower::{BoxError, Service};

use super::{
    LmBody, LmHttp, LmRequest, LmResponse,
    account::Record,
    handle::Shared,
    http::body,
    limits::{self, Timer},
    status::BadStatus,
};
use crate::{Cause, Deadline, LmOutcome, drop_scope};

/// Sends requests with the key, within the limits of an exchange, and takes them down.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    http: LmHttp,
    shared: Arc<Shared>,
}

impl Exchange {
    pub(super) const fn new(http: LmHttp, shared: Arc<Shared>) -> Self {
        Self { http, shared }
    }
}

impl Service<LmRequest> for Exchange {
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
        Box::pin(exchange(http, self.shared.clone(), request))
    }
}

async fn exchange(
    mut http: LmHttp,
    shared: Arc<Shared>,
    mut request: LmRequest,
) -> Result<LmResponse, BoxError> {
    // Before the call, so that it is dropped after it.
    let mut record = Record::begin(&request, &shared.provider, &shared.model);
    if let Err(refused) = shared.lock.put(&mut request) {
        record.finish(LmOutcome::Refused);
        return Err(refused.into());
    }
    let mut sent = Box::pin(http.call(request));
    let answer = match shared.limits.first_byte {
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
            record.finish(LmOutcome::Failed);
            return Err(shared.failure(&error).into());
        }
    };
    record.status(answer.status());
    let answer = answer.map(|inner| body(ExchangeBody::new(inner, record, shared.clone())));
    if answer.status().is_client_error() || answer.status().is_server_error() {
        return Err(BadStatus::read(answer, &shared.redact).await.into());
    }
    Ok(answer)
}

/// The body of an answer: records its end, and ends it when it pauses for too long.
struct ExchangeBody {
    /// Gone once it has ended.
    inner: Option<LmBody>,
    record: Record,
    shared: Arc<Shared>,
    timer: Timer,
    /// When the present pause is too long.
    too_long: Option<Instant>,
}

impl ExchangeBody {
    fn new(inner: LmBody, mut record: Record, shared: Arc<Shared>) -> Self {
        if inner.is_end_stream() {
            record.finish(LmOutcome::Answered);
        }
        Self {
            inner: Some(inner),
            record,
            shared,
            timer: Timer::default(),
            too_long: None,
        }
    }

    fn end(&mut self, outcome: LmOutcome) {
        self.inner = None;
        self.record.finish(outcome);
    }
}

impl Body for ExchangeBody {
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
                this.end(LmOutcome::Failed);
                Poll::Ready(Some(Err(this.shared.failure(&error).into())))
            }
            Poll::Ready(None) => {
                this.end(LmOutcome::Answered);
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(limit) = this.shared.limits.idle else {
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
