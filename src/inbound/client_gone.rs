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

/// The node of a call that is under way; `None` once the answer is complete.
#[derive(Debug, Default)]
pub(super) struct ClientGuard(Option<Cancel>);

impl ClientGuard {
    pub(super) const fn new(call: Cancel) -> Self {
        Self(Some(call))
    }

    /// The answer is complete: whatever is dropped from now on is no sign of anything.
    pub(super) fn disarm(&mut self) {
        self.0 = None;
    }

    /// Runs `drop`, which drops what is left of the call. If that is too early, the call's node is
    /// cancelled first, so that nothing new begins meanwhile.
    pub(super) fn dropping(&mut self, drop: impl FnOnce()) {
        match self.0.take() {
            Some(call) => {
                // A server that drops the call says nothing. A layer outside this one that ends it
                // says why, and its client is still there.
                let cause = match drop_scope::cause() {
                    Cause::Dropped => Cause::ClientGone,
                    known => known,
                };
                call.cancel(cause);
                drop_scope::with(cause, drop);
            }
            None => drop(),
        }
    }
}

pin_project! {
    /// The body of an answer that may go on for long: dropped before its end, it cancels the call
    /// with [`Cause::ClientGone`](crate::Cause::ClientGone).
    pub struct ClientBody<B> {
        #[pin]
        inner: Option<B>,
        guard: ClientGuard,
    }

    impl<B> PinnedDrop for ClientBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.guard.dropping(|| this.inner.set(None));
        }
    }
}

impl<B: Body> ClientBody<B> {
    pub(super) fn new(inner: B, mut guard: ClientGuard) -> Self {
        // A server does not poll a body that has nothing to give.
        if inner.is_end_stream() {
            guard.disarm();
        }
        Self {
            inner: Some(inner),
            guard,
        }
    }
}

impl<B: Body> Body for ClientBody<B> {
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
            this.guard.disarm();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Some(inner) => inner.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl<B> fmt::Debug for ClientBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBody").finish_non_exhaustive()
    }
}
