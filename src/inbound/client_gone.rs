//! The guard that cancels a call when its answer is dropped before it is complete: the client went
//! away.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::call::{Cancel, Cause, drop_scope};

pin_project! {
    /// The future of a response, or its body, which may go on for long: dropped before its end, it
    /// cancels the call with [`Cause::ClientGone`](crate::Cause::ClientGone).
    pub struct ClientGuard<T> {
        // `None` while it is dropped.
        #[pin]
        inner: Option<T>,
        // The node of the call; `None` once `inner` is complete.
        call: Option<Cancel>,
    }

    impl<T> PinnedDrop for ClientGuard<T> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if let Some(call) = this.call.take() {
                // A server that drops the call says nothing. A layer outside this one that ends it
                // says why, and its client is still there.
                let cause = match drop_scope::cause() {
                    Cause::Dropped => Cause::ClientGone,
                    known => known,
                };
                // Before the drop, so that nothing new begins meanwhile.
                call.cancel(cause);
                drop_scope::with(cause, || this.inner.set(None));
            }
        }
    }
}

impl<F> ClientGuard<F> {
    pub(super) const fn future(inner: F, call: Cancel) -> Self {
        Self {
            inner: Some(inner),
            call: Some(call),
        }
    }
}

impl<B: Body> ClientGuard<B> {
    pub(super) fn body(inner: B, call: Cancel) -> Self {
        Self {
            // A server does not poll a body that has nothing to give.
            call: Some(call).filter(|_| !inner.is_end_stream()),
            inner: Some(inner),
        }
    }
}

impl<F: Future> Future for ClientGuard<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Pending;
        };
        let output = ready!(inner.poll(cx));
        *this.call = None;
        Poll::Ready(output)
    }
}

impl<B: Body> Body for ClientGuard<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(mut inner) = this.inner.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        let frame = ready!(inner.as_mut().poll_frame(cx));
        // After its last frame a server may drop a body that says so without asking again.
        if !matches!(frame, Some(Ok(_))) || inner.is_end_stream() {
            *this.call = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.inner.as_ref();
        inner.map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl<T> fmt::Debug for ClientGuard<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientGuard").finish_non_exhaustive()
    }
}
