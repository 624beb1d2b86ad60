//! A layer with a fault of its own, by which it is seen that the run finds one.

use std::{
    fs::File,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, Either, FutureExt};
use tower::{Layer, Service};

use crate::options::Inject;

/// One call of so many is at fault.
const ONE_OF: u64 = 50;

#[derive(Clone, Debug)]
pub(crate) struct InjectLayer {
    inject: Option<Inject>,
    calls: Arc<AtomicU64>,
}

#[derive(Clone, Debug)]
pub(crate) struct InjectService<S> {
    inner: S,
    layer: InjectLayer,
}

impl InjectLayer {
    pub(crate) fn new(inject: Option<Inject>) -> Self {
        Self {
            inject,
            calls: Arc::default(),
        }
    }
}

impl<S> Layer<S> for InjectLayer {
    type Service = InjectService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        InjectService {
            inner,
            layer: self.clone(),
        }
    }
}

impl<S, R> Service<R> for InjectService<S>
where
    S: Service<R>,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let call = self.layer.calls.fetch_add(1, Ordering::Relaxed);
        if call.is_multiple_of(ONE_OF) {
            match self.layer.inject {
                None => {}
                Some(Inject::Leak) => leak(),
                Some(Inject::Lose) => return Either::Right(pending().boxed()),
            }
        }
        Either::Left(self.inner.call(request))
    }
}

fn leak() {
    std::mem::forget(File::open("/dev/null"));
    std::mem::forget(vec![1_u8; 256 << 10]);
    tokio::spawn(pending::<()>());
}
