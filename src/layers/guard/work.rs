//! Work that can be dropped in place, before the future that holds it is dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::error::Stage;

/// A future that knows how far it has come and can be dropped where it lies.
pub(crate) trait Work: Future {
    /// How far the call has come.
    fn stage(&self) -> Stage;

    /// Drops everything it holds; from then on it is pending for ever.
    fn discard(self: Pin<&mut Self>);
}

pin_project! {
    /// The future of a service that has taken the call.
    #[project = DroppableProj]
    pub(crate) enum Droppable<F> {
        Live { #[pin] future: F },
        Gone,
    }
}

impl<F> Droppable<F> {
    pub(crate) const fn new(future: F) -> Self {
        Self::Live { future }
    }
}

impl<F: Future> Future for Droppable<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            DroppableProj::Live { future } => future.poll(cx),
            DroppableProj::Gone => Poll::Pending,
        }
    }
}

impl<F: Future> Work for Droppable<F> {
    fn stage(&self) -> Stage {
        Stage::Running
    }

    fn discard(mut self: Pin<&mut Self>) {
        self.set(Self::Gone);
    }
}
