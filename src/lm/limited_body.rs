//! [`LimitedBody`]: the body of an answer, which a limit may end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::BoxError;

use super::http::LmBody;
use crate::{
    call::{Cause, LmOutcome, drop_scope},
    error::LmFailure,
};

/// What may end a body before it has come to its end, and what looks on.
pub(super) trait BodyLimit {
    /// Ready once the body is to end, with the cause and the failure that it then is. Polled while
    /// the body is pending.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Cause, LmFailure)>;

    /// The failure that an error of the body is.
    fn failure(&self, error: &BoxError) -> LmFailure;

    /// A frame came.
    fn read(&mut self, _: &Frame<Bytes>) {}

    /// The body has ended. A body that knows its length may end more than once.
    fn end(&mut self, _: LmOutcome) {}
}

/// A body within a limit.
pub(super) struct LimitedBody<L> {
    /// `None` once it has ended. Dropped before the limit, which records the end.
    inner: Option<LmBody>,
    limit: L,
}

impl<L: BodyLimit> LimitedBody<L> {
    pub(super) fn new(inner: LmBody, mut limit: L) -> Self {
        if inner.is_end_stream() {
            limit.end(LmOutcome::Answered);
        }
        Self {
            inner: Some(inner),
            limit,
        }
    }
}

impl<L: BodyLimit + Unpin> Body for LimitedBody<L> {
    type Data = Bytes;
    type Error = LmFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LmFailure>>> {
        let Self { inner, limit } = self.get_mut();
        let Some(body) = inner else {
            return Poll::Ready(None);
        };
        let failure = match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                limit.read(&frame);
                // A reader that knows the length may not ask again.
                if body.is_end_stream() {
                    limit.end(LmOutcome::Answered);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(None) => {
                *inner = None;
                limit.end(LmOutcome::Answered);
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Err(error))) => {
                *inner = None;
                limit.failure(&error)
            }
            Poll::Pending => {
                let (cause, failure) = ready!(limit.poll(cx));
                drop_scope::with(cause, || *inner = None);
                failure
            }
        };
        limit.end(failure.kind().into());
        Poll::Ready(Some(Err(failure)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        sync::Mutex,
    };

    use futures_util::stream::once;
    use http_body_util::{BodyExt, Full, StreamBody};
    use tokio::task::coop::{consume_budget, has_budget_remaining};

    use super::*;
    use crate::error::LmFailureKind;

    static DROPPED: Mutex<Vec<&str>> = Mutex::new(Vec::new());

    struct Named(&'static str);

    impl Drop for Named {
        fn drop(&mut self) {
            DROPPED.lock().expect("a lock").push(self.0);
        }
    }

    /// A limit that has passed.
    #[derive(Default)]
    struct Past {
        _held: Option<Named>,
    }

    impl BodyLimit for Past {
        fn poll(&mut self, _: &mut Context<'_>) -> Poll<(Cause, LmFailure)> {
            let failure = LmFailure::new(LmFailureKind::TotalTimeout, "too late");
            Poll::Ready((Cause::Elapsed, failure))
        }

        fn failure(&self, error: &BoxError) -> LmFailure {
            LmFailure::new(LmFailureKind::Other, error.to_string())
        }
    }

    fn endless(held: Option<Named>) -> LmBody {
        LmBody::new(StreamBody::new(once(async move {
            let _held = held;
            pending::<Result<Frame<Bytes>, BoxError>>().await
        })))
    }

    #[tokio::test]
    async fn a_task_with_an_exhausted_coop_budget_sees_the_limit_of_a_body() {
        let mut body = LimitedBody::new(endless(None), Past::default());
        let ended = poll_fn(|cx| {
            while has_budget_remaining() {
                let _ = std::pin::pin!(consume_budget()).poll(cx);
            }
            Poll::Ready(Pin::new(&mut body).poll_frame(cx))
        });
        let Poll::Ready(Some(Err(failure))) = ended.await else {
            panic!("the limit was not seen");
        };
        assert_eq!(failure.message(), "too late");
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_connection_is_dropped_before_the_record() {
        let _held = Some(Named("record"));
        let body = endless(Some(Named("connection")));
        drop(LimitedBody::new(body, Past { _held }));
        assert_eq!(*DROPPED.lock().expect("a lock"), ["connection", "record"]);
    }

    #[tokio::test]
    async fn a_body_keeps_its_length() {
        let whole = LmBody::new(Full::new(Bytes::from_static(b"answer")));
        let mut body = LimitedBody::new(whole, Past::default());
        assert_eq!(body.size_hint().exact(), Some(6));
        body.frame().await.expect("a frame").expect("it is whole");
        assert!(body.is_end_stream());
    }
}
