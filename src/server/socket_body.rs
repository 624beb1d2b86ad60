//! The body of a request, which ends at the deadline of its call.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use futures_util::FutureExt;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tower::BoxError;

use super::socket::SocketState;
use crate::inbound::body_deadline::BodyDeadline;

/// The body of a request: it ends with an error at the deadline of the call, and reports to the
/// socket if it is not read to its end.
#[derive(Debug)]
pub(super) struct SocketBody<B: Body> {
    inner: B,
    ended: bool,
    deadline: BodyDeadline,
    /// Once it has had to wait for more, if there is a deadline.
    alarm: Option<Pin<Box<Sleep>>>,
    socket: Arc<SocketState>,
}

impl<B: Body> SocketBody<B> {
    pub(super) const fn new(inner: B, deadline: BodyDeadline, socket: Arc<SocketState>) -> Self {
        Self {
            inner,
            ended: false,
            deadline,
            alarm: None,
            socket,
        }
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        if self.alarm.is_none()
            && let Some(deadline) = self.deadline.get()
        {
            self.alarm = Some(Box::pin(sleep_until(deadline.instant())));
        }
        let alarm = self.alarm.as_mut();
        alarm.is_some_and(|alarm| alarm.poll_unpin(cx).is_ready())
    }
}

impl<B: Body> Drop for SocketBody<B> {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.socket.unread.store(true, Relaxed);
        }
    }
}

impl<B> Body for SocketBody<B>
where
    B: Body<Error: Into<BoxError>> + Unpin,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.ended = frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if self.is_late(cx) => Poll::Ready(Some(Err(BodyDeadline::error()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
