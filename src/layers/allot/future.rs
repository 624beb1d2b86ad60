//! One step within its share.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    error::Elapsed,
    layers::guard::{Limited, ReadyCall},
};

pin_project! {
    /// The response future of [`Allot`](super::Allot).
    pub struct AllotFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        limited: Limited<ReadyCall<S, R>>,
    }
}

impl<S: Service<R>, R> AllotFuture<S, R> {
    pub(super) const fn new(limited: Limited<ReadyCall<S, R>>) -> Self {
        Self { limited }
    }
}

impl<S, R> Future for AllotFuture<S, R>
where
    S: Service<R>,
    S::Error: From<Elapsed>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().limited.poll(cx)
    }
}

impl<S: Service<R>, R> fmt::Debug for AllotFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllotFuture").finish_non_exhaustive()
    }
}
