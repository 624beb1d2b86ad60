//! The body of an answer, which a limit may end.

use std::{
    future::poll_fn,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::try_unfold;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, StreamBody};
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

/// The body `inner` within `limit`.
pub(super) fn limited(inner: LmBody, mut limit: impl BodyLimit + Send + 'static) -> LmBody {
    if inner.is_end_stream() {
        limit.end(LmOutcome::Answered);
    }
    LmBody::new(StreamBody::new(try_unfold((inner, limit), next)))
}

/// The next frame, and what follows it.
async fn next<L: BodyLimit>(
    (mut inner, mut limit): (LmBody, L),
) -> Result<Option<(Frame<Bytes>, (LmBody, L))>, LmFailure> {
    let failure = tokio::select! {
        biased;
        frame = inner.frame() => match frame {
            Some(Ok(frame)) => {
                limit.read(&frame);
                // A reader that knows the length may not ask again.
                if inner.is_end_stream() {
                    limit.end(LmOutcome::Answered);
                }
                return Ok(Some((frame, (inner, limit))));
            }
            Some(Err(error)) => limit.failure(&error),
            None => {
                drop(inner);
                limit.end(LmOutcome::Answered);
                return Ok(None);
            }
        },
        (cause, failure) = poll_fn(|cx| limit.poll(cx)) => {
            drop_scope::with(cause, || drop(inner));
            failure
        }
    };
    limit.end(failure.kind().into());
    Err(failure)
}
