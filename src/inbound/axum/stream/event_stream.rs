//! The response of a stream: its head with the first event, its body in a dialect.
//!
//! Invariants:
//! 1. The program's stream is polled only while the body is, and only when all that its events before
//!    were turned into has been taken: what a slow client does not read stays with the program.
//! 2. The program's stream is dropped as soon as the body has ended, or is dropped.
//! 3. A failure before the first event is a response with its status; after the head it is an event.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use ::axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::{
    Stream, StreamExt, TryFutureExt, TryStreamExt,
    stream::{BoxStream, FusedStream},
};
use http::{HeaderName, HeaderValue, header};
use tower::{Service, ServiceExt};

use super::{failure::StreamFailure, options::StreamOptions, sse_queue::SseQueue};
use crate::{
    call::{CallId, Carrier},
    request::PredictRequest,
    stream::{PredictionStream, StreamEvent},
};

/// By nginx's rule, and that of those who follow it: this response is not to be collected.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How events are written for one kind of client.
pub(super) trait StreamDialect: Send + 'static {
    /// The header that names the dialect.
    const HEADER: Option<(HeaderName, HeaderValue)> = None;

    /// Writes an event. A failure ends the stream with [`fail`](Self::fail).
    fn write(&mut self, event: StreamEvent, out: &mut SseQueue) -> Result<(), StreamFailure>;

    /// Writes how the stream failed, as its end.
    fn fail(&mut self, failure: StreamFailure, out: &mut SseQueue);

    /// The response in place of a stream.
    fn refuse(failure: StreamFailure) -> Response {
        IntoResponse::into_response(*failure.response)
    }
}

/// Answers with the events of `streaming` in `dialect`.
pub(super) async fn respond<S, D>(
    streaming: S,
    mut request: PredictRequest,
    dialect: D,
    options: StreamOptions,
) -> Response
where
    S: Service<PredictRequest, Response = PredictionStream> + Send + 'static,
    S::Error: Into<StreamFailure>,
    S::Future: Send,
    D: StreamDialect,
{
    let id = request.context_mut().id();
    let events = streaming
        .oneshot(request)
        .map_ok(|events| events.map_err(StreamFailure::from))
        .map_err(Into::into)
        .try_flatten_stream();
    let mut body = DialectStream {
        events: Some(events.boxed()),
        id,
        dialect,
        queue: SseQueue::default(),
        options,
    };
    let first = poll_fn(|cx| body.poll_first(cx));
    let first = match options.head_after {
        Some(after) => tokio::time::timeout(after, first).await.unwrap_or(Ok(())),
        None => first.await,
    };
    if let Err(failure) = first {
        return D::refuse(failure);
    }
    let keep_alive = KeepAlive::new().interval(options.keep_alive);
    let mut response = Sse::new(body).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CallId::HEADER, id.header_value());
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, no-transform"),
    );
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    headers.extend(D::HEADER);
    response
}

/// The events of a program in a dialect.
struct DialectStream<D> {
    /// `None` once it has ended.
    events: Option<BoxStream<'static, Result<StreamEvent, StreamFailure>>>,
    id: CallId,
    dialect: D,
    queue: SseQueue,
    options: StreamOptions,
}

// Nothing is pinned in place: the program's stream is in a box.
impl<D> Unpin for DialectStream<D> {}

impl<D: StreamDialect> DialectStream<D> {
    /// Reads one event and writes it.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamFailure>> {
        let Some(events) = &mut self.events else {
            return Poll::Ready(Ok(()));
        };
        let written = match ready!(events.poll_next_unpin(cx)) {
            Some(Ok(event)) if self.options.shows(&event) => {
                self.dialect.write(event, &mut self.queue)
            }
            Some(Ok(_)) => Ok(()),
            Some(Err(failure)) => Err(failure),
            None => {
                self.events = None;
                Ok(())
            }
        };
        Poll::Ready(written.map_err(|failure| {
            self.events = None;
            failure.of_call(self.id)
        }))
    }

    /// Ready once there is something to send, or it is known that there will be nothing.
    fn poll_first(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamFailure>> {
        while self.queue.is_empty() && !self.is_terminated() {
            ready!(self.poll_event(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<D: StreamDialect> Stream for DialectStream<D> {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some(event) = this.queue.pop() {
                return Poll::Ready(Some(Ok(event)));
            }
            if this.events.is_none() {
                return Poll::Ready(None);
            }
            if let Err(failure) = ready!(this.poll_event(cx)) {
                this.dialect.fail(failure, &mut this.queue);
            }
        }
    }
}

impl<D: StreamDialect> FusedStream for DialectStream<D> {
    fn is_terminated(&self) -> bool {
        self.events.is_none() && self.queue.is_empty()
    }
}
