//! The work that a layer guards: the future of a service, or a call that waits for its service.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use pin_project_lite::pin_project;
use tower::Service;

use crate::{
    call::{Carrier, Progress, WaitGuard},
    error::Stage,
};

/// A future that knows how far it has come and can be dropped where it lies.
pub trait Work: Future + Sized {
    /// Work that was dropped, or never started.
    const GONE: Self;

    /// How far the call has come.
    fn stage(&self) -> Stage;

    /// Drops everything it holds; from then on it is pending for ever.
    fn discard(mut self: Pin<&mut Self>) {
        self.set(Self::GONE);
    }
}

pin_project! {
    /// The future of a service that has taken the call.
    #[project = DroppableProj]
    pub enum Droppable<F> {
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
    const GONE: Self = Self::Gone;

    fn stage(&self) -> Stage {
        Stage::Running
    }
}

pin_project! {
    /// Waits until a service of its own is ready, then calls it: readiness is part of the work.
    ///
    /// The service is dropped as soon as it has been called, as `tower::ServiceExt::oneshot` does
    /// it, so that whatever readiness it could go on to reserve is free for others.
    #[project = ReadyCallProj]
    pub enum ReadyCall<S, R>
    where
        S: Service<R>,
    {
        Waiting { service: S, request: Option<R>, progress: Progress, wait: Option<WaitGuard> },
        Running { #[pin] future: S::Future },
        /// The service had no readiness to give.
        Failed { error: Option<S::Error> },
        Gone,
    }
}

impl<S: Service<R>, R> ReadyCall<S, R> {
    /// A call that asks its service nothing before it is polled, and shows its wait in `progress`.
    pub(crate) const fn new(service: S, request: R, progress: Progress) -> Self {
        Self::Waiting {
            service,
            request: Some(request),
            progress,
            wait: None,
        }
    }

    /// A call of `service`, made at once if that is ready.
    ///
    /// A service that is not ready goes into the future and keeps the place that it may just have
    /// taken in a queue; a clone takes its place. So `service` itself never holds a readiness, nor
    /// waits for one, after this.
    #[inline]
    pub(crate) fn start(service: &mut S, request: R) -> Self
    where
        S: Clone,
        R: Carrier,
    {
        // The waker is not used: a call that has to wait asks again at its first poll.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => Self::Running {
                future: service.call(request),
            },
            ready => Self::wait(service, request, ready),
        }
    }

    #[cold]
    fn wait(service: &mut S, request: R, ready: Poll<Result<(), S::Error>>) -> Self
    where
        S: Clone,
        R: Carrier,
    {
        let next = service.clone();
        let service = mem::replace(service, next);
        match ready {
            // What has failed must not be asked again.
            Poll::Ready(Err(error)) => Self::Failed { error: Some(error) },
            _ => {
                let context = request.context();
                let progress = context.map_or(Progress::none(), |context| context.progress.clone());
                Self::new(service, request, progress)
            }
        }
    }
}

impl<S: Service<R>, R> Future for ReadyCall<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                ReadyCallProj::Running { future } => return future.poll(cx),
                ReadyCallProj::Waiting {
                    service,
                    request,
                    progress,
                    wait,
                } => {
                    let ready = service.poll_ready(cx)?;
                    if ready.is_pending() {
                        wait.get_or_insert_with(|| progress.begin_wait());
                    }
                    ready!(ready);
                    // Taken once: the state changes right after.
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    if let Some(wait) = wait.take() {
                        wait.ready();
                    }
                    let future = service.call(request);
                    self.set(Self::Running { future });
                }
                ReadyCallProj::Failed { error } => {
                    return error
                        .take()
                        .map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
                ReadyCallProj::Gone => return Poll::Pending,
            }
        }
    }
}

impl<S: Service<R>, R> Work for ReadyCall<S, R> {
    const GONE: Self = Self::Gone;

    fn stage(&self) -> Stage {
        match self {
            Self::Waiting { .. } | Self::Failed { .. } => Stage::Waiting,
            Self::Running { .. } | Self::Gone => Stage::Running,
        }
    }
}
