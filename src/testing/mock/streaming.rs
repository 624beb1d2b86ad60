//! [`MockStreaming`]: the mock as a streaming service.

use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, ready};
use tower::Service;

use super::{
    MockDspy,
    work::{MockFuture, MockWork},
};
use crate::{error::Error, request::PredictRequest, stream::PredictionStream};

/// Stands for a streaming service in a test: a [`MockDspy`] whose replies come as events. The
/// script, the record and the permits are those of the mock.
///
/// The response comes with the first event; an error before it is the response future's. A call is in
/// flight, and holds its permit, until the stream has ended or was dropped. The deadline of the stream
/// and the cancellation in the request's context end it as they end a call; the limits of an
/// attempt, a reserve and a share end with the response.
///
/// ```
/// use std::time::Duration;
/// use futures_util::StreamExt;
/// use serde_json::json;
/// use tower::{ServiceBuilder, ServiceExt};
/// use tower_dspy::{Cause, Error, ErrorKind, PredictRequest, RetryLayer, Scope, StreamEvent};
/// use tower_dspy::StreamTimeoutLayer;
/// use tower_dspy::testing::mock::{MockDspy, Reply};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mock = MockDspy::new([
///     Reply::fail(ErrorKind::LmUnavailable),
///     Reply::text("answer", ["It is", " scat"]).then(Reply::hang()),
/// ]);
/// let stack = ServiceBuilder::new()
///     .layer(RetryLayer::new(2))
///     .layer(StreamTimeoutLayer::new().with_idle(Duration::from_secs(5)))
///     .service(mock.streaming());
///
/// let request = PredictRequest::new(json!({"question": "Why is the sky blue?"}));
/// let mut stream = stack.oneshot(request).await.unwrap(); // the second attempt
/// let mut text = String::new();
/// let error = loop {
///     match stream.next().await.unwrap() {
///         Ok(StreamEvent::Text { delta, .. }) => text += &delta,
///         Ok(event) => panic!("{event:?}"),
///         Err(error) => break error,
///     }
/// };
/// assert_eq!(text, "It is scat");
/// assert!(matches!(error, Error::Elapsed(elapsed) if elapsed.scope() == Scope::Idle));
///
/// assert_eq!(mock.calls().len(), 2);
/// assert_eq!(mock.stopped(), [Cause::Elapsed]);
/// assert_eq!(mock.in_flight(), 0);
/// # }
/// ```
///
/// # How it differs from the real one
/// Its events come at their time, whether the stream is read or not, and are never too many; but it
/// sees a limit, a cancellation or its end only when it is polled or dropped.
#[derive(Clone, Debug)]
pub struct MockStreaming(pub(super) MockDspy);

impl Service<PredictRequest> for MockStreaming {
    type Response = PredictionStream;
    type Error = Error;
    /// As with the real one, dropping it, or the stream, cancels the call.
    type Future = BoxFuture<'static, Result<PredictionStream, Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: PredictRequest) -> MockFuture<PredictionStream> {
        match self.0.admit(&mut request) {
            Ok((reply, running)) => MockWork::start_stream(&request.context, reply, running),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }
}
