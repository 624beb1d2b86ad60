//! Work that can be dropped in place, before the future that holds it is dropped.

use std::{
    cell::Cell,
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use super::aside;
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

impl<F: Future> Future for Slot<F> {
    type Output = F::Output;

    #[inline(always)]
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
        // Boxed, for few calls wait. Were it here, each move of a call that does not wait would
        // have to carry it: a future is moved once a layer before it is polled.
        Waiting { queued: Box<Queued<S, R, S::Error>> },
        Running { #[pin] future: S::Future },
        Gone,
    }
}

/// A call that is not with its service yet.
pub(crate) enum Queued<S, R, E> {
    Waits {
        service: S,
        request: Option<R>,
    },
    /// The service had no readiness to give.
    Failed {
        error: Option<E>,
    },
}

impl<S: Service<R>, R> Admit<S, R> {
    /// A call that asks its service nothing before it is polled.
    pub(crate) fn new(service: S, request: R) -> Self {
        Self::Waiting {
            queued: Box::new(Queued::Waits {
                service,
                request: Some(request),
            }),
        }
    }

    /// A call of `service`, made at once if that is ready.
    #[inline(always)]
    pub(crate) fn start(service: &mut S, request: R) -> Self
    where
        S: Clone,
    {
        // Nobody needs to be woken: a call that has to wait asks again at its first poll.
        let error = match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                return Self::Running {
                    future: service.call(request),
                };
            }
            Poll::Ready(Err(error)) => Some(error),
            Poll::Pending => None,
        };
        Self::Waiting {
            queued: Self::unready(service, request, error),
        }
    }

    /// What a call waits with whose service was asked whether it is ready, and was not.
    ///
    /// A service that is ready needs no clone, and most are. One that is not goes into the future
    /// and keeps the place that it may just have taken in a queue; a clone takes its place. So
    /// `service` itself never holds a readiness, nor waits for one, after this.
    #[cold]
    pub(super) fn unready(
        service: &mut S,
        request: R,
        error: Option<S::Error>,
    ) -> Box<Queued<S, R, S::Error>>
    where
        S: Clone,
    {
        let next = service.clone();
        let service = mem::replace(service, next);
        Box::new(match error {
            // What has failed must not be asked again.
            Some(error) => Queued::Failed { error: Some(error) },
            None => Queued::Waits {
                service,
                request: Some(request),
            },
        })
    }
}

impl<S: Service<R>, R> Future for Admit<S, R> {
    type Output = Result<S::Response, S::Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let AdmitProj::Running { future } = self.as_mut().project() {
            return future.poll(cx);
        }
        aside(|| self.poll_waiting(cx))
    }
}

impl<S: Service<R>, R> Admit<S, R> {
    fn poll_waiting(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        loop {
            match self.as_mut().project() {
                AdmitProj::Running { future } => return future.poll(cx),
                AdmitProj::Waiting { queued } => match &mut **queued {
                    Queued::Waits { service, request } => {
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
                    Queued::Failed { error } => {
                        return error
                            .take()
                            .map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                    }
                },
                AdmitProj::Gone => return Poll::Pending,
            }
        }
    }
}

impl<S: Service<R>, R> Work for Admit<S, R> {
    fn stage(&self) -> Stage {
        match self {
            Self::Waiting { .. } => Stage::Waiting,
            Self::Running { .. } | Self::Gone => Stage::Running,
        }
    }

    fn discard(mut self: Pin<&mut Self>) {
        self.set(Self::Gone);
    }
}
