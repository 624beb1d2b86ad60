//! Work that can be dropped in place, before the future that holds it is dropped.

use std::{
    cell::Cell,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::error::Stage;

/// A future that knows how far it has come and can be dropped where it lies.
pub(crate) trait Work: Future {
    /// How far the call has come.
    fn stage(&self) -> Stage;

    /// Drops everything it holds; from then on it is pending for ever.
    fn discard(self: Pin<&mut Self>);
}

thread_local! {
    static WAITS: Cell<bool> = const { Cell::new(false) };
}

/// Runs `poll`, and tells whether the call within it still waits for a service.
///
/// The service of an outer layer may be always ready and have taken the call long ago, while
/// further in, past layers that may be foreign, it waits.
#[inline]
pub(crate) fn observe<T>(poll: impl FnOnce() -> T) -> (T, bool) {
    starts_to_observe();
    let polled = poll();
    (polled, waits())
}

/// As [`observe`], in two: before the poll this one, and after it [`waits`].
#[inline]
pub(super) fn starts_to_observe() {
    WAITS.set(false);
}

#[inline]
pub(super) fn waits() -> bool {
    WAITS.get()
}

/// Says whether the call waits, for a layer that polled several services for it.
pub(crate) fn tell_waits(waits: bool) {
    WAITS.set(waits);
}

pin_project! {
    /// The future of a service that has taken the call.
    #[project = SlotProj]
    pub(crate) enum Slot<F> {
        Live { #[pin] future: F },
        Gone,
    }
}

impl<F> Slot<F> {
    pub(crate) const fn new(future: F) -> Self {
        Self::Live { future }
    }
}

impl<F: Future> Future for Slot<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            SlotProj::Live { future } => future.poll(cx),
            SlotProj::Gone => Poll::Pending,
        }
    }
}

impl<F: Future> Work for Slot<F> {
    fn stage(&self) -> Stage {
        Stage::Running
    }

    fn discard(mut self: Pin<&mut Self>) {
        self.set(Self::Gone);
    }
}

pin_project! {
    /// Waits until a service of its own is ready, then calls it: readiness is part of the work.
    ///
    /// The service is dropped as soon as it has been called, as `tower::ServiceExt::oneshot` does
    /// it, so that whatever readiness it could go on to reserve is free for others.
    #[project = AdmitProj]
    pub(crate) enum Admit<S, R>
    where
        S: Service<R>,
    {
        Waiting { service: S, request: Option<R> },
        Running { #[pin] future: S::Future },
        /// The service had no readiness to give.
        Failed { error: Option<S::Error> },
        Gone,
    }
}

impl<S: Service<R>, R> Admit<S, R> {
    /// A call that asks its service nothing before it is polled.
    pub(crate) fn new(service: S, request: R) -> Self {
        Self::Waiting {
            service,
            request: Some(request),
        }
    }

    /// A call of `service`, made at once if that is ready.
    ///
    /// A service that is not ready goes into the future and keeps the place that it may just have
    /// taken in a queue; a clone takes its place. So `service` itself never holds a readiness, nor
    /// waits for one, after this.
    pub(crate) fn start(service: &mut S, request: R) -> Self
    where
        S: Clone,
    {
        // The waker is not used: a call that has to wait asks again at its first poll.
        let ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(Ok(())) = ready {
            return Self::Running {
                future: service.call(request),
            };
        }
        let next = service.clone();
        let service = mem::replace(service, next);
        match ready {
            // What has failed must not be asked again.
            Poll::Ready(Err(error)) => Self::Failed { error: Some(error) },
            _ => Self::new(service, request),
        }
    }
}

impl<S: Service<R>, R> Future for Admit<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                AdmitProj::Running { future } => return future.poll(cx),
                AdmitProj::Waiting { service, request } => {
                    let ready = service.poll_ready(cx)?;
                    WAITS.set(ready.is_pending());
                    ready!(ready);
                    // Taken once: the state changes right after.
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    let future = service.call(request);
                    self.set(Self::Running { future });
                }
                AdmitProj::Failed { error } => {
                    return error
                        .take()
                        .map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
                AdmitProj::Gone => return Poll::Pending,
            }
        }
    }
}

impl<S: Service<R>, R> Work for Admit<S, R> {
    fn stage(&self) -> Stage {
        match self {
            Self::Waiting { .. } | Self::Failed { .. } => Stage::Waiting,
            Self::Running { .. } | Self::Gone => Stage::Running,
        }
    }

    fn discard(mut self: Pin<&mut Self>) {
        self.set(Self::Gone);
    }
}
