//! [`predict_all`]: many requests under one deadline.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::stream::{FuturesUnordered, Stream};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    call::{Carrier, Deadline},
    error::Elapsed,
    layers::{DeadlineFuture, DeadlineLayer, DeadlineService},
};

/// The default number of calls that run at once.
const CONCURRENCY: usize = 16;

/// In order, one poll may buffer results behind a slow one: after this many it yields.
const MAX_BUFFERED: usize = 64;

/// Answers all `requests` with `service`, by `deadline`: yields every item that is finished, and a
/// typed error for each of the rest.
///
/// Each item is the request's index, counted from 0, and its result. They come as they finish, or
/// [in order](Batch::in_order). At the deadline the calls that run are stopped, and requests that
/// did not start are refused, each with the [`Elapsed`] of [`Scope::Deadline`](crate::Scope::Deadline), whose
/// [`stage`](Elapsed::stage) says which it was. So the batch always has one item for each request,
/// and ends at the deadline, if the consumer is quick enough.
///
/// ```
/// use std::time::Duration;
/// use serde_json::json;
/// use tower::service_fn;
/// use tower_dspy::{Deadline, Error, PredictRequest, Prediction, predict_all};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let program = service_fn(|request: PredictRequest| async move {
///     let seconds = request.inputs()["n"].as_u64().unwrap_or_default();
///     tokio::time::sleep(Duration::from_secs(seconds)).await;
///     Ok::<_, Error>(Prediction::new(Default::default()))
/// });
/// let requests = [1, 60, 3].map(|n| PredictRequest::new(json!({"n": n})));
///
/// let mut batch = predict_all(program, requests, Deadline::within(Duration::from_secs(10)))
///     .with_concurrency(8);
/// let mut finished = Vec::new();
/// while let Some((index, result)) = batch.next().await {
///     match result {
///         Ok(_) => finished.push(index),
///         Err(error) => assert!(matches!(error, Error::Elapsed(_))),
///     }
/// }
/// assert_eq!(finished, [0, 2]);
/// # }
/// ```
///
/// # What it demands of the service
/// `Clone`, and an error that can be made from [`Elapsed`]; of the requests, that they are a
/// [`Carrier`]. Each call waits for the readiness of a clone of its own, within the deadline. A limit
/// for each item is a [`TimeoutLayer`](crate::TimeoutLayer) on the service, and what cancels the
/// batch is a [`Session`](crate::Session)'s [`wrap`](crate::Session::wrap), or dropping it.
///
/// # Panics
/// If it has to wait outside a tokio runtime with its timer enabled.
///
/// # Cancel safety
/// Nothing is spawned: the calls make progress, and are stopped at the deadline, while the batch is
/// polled, so a consumer that does other things in between belongs into a task of its own. Dropping
/// the batch drops all calls, which cancels them. [`Batch::next`] loses nothing if it is dropped.
pub fn predict_all<S, R, I>(
    service: S,
    requests: I,
    deadline: impl Into<Deadline>,
) -> Batch<S, R, I::IntoIter>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed>,
    R: Carrier,
    I: IntoIterator<Item = R>,
{
    Batch {
        service: DeadlineLayer::from_context().layer(service),
        requests: Some(requests.into_iter()),
        deadline: deadline.into(),
        concurrency: CONCURRENCY,
        running: FuturesUnordered::new(),
        started: 0,
        reorder: None,
    }
}

/// The results of [`predict_all`]: a [`Stream`], with the usual method built in.
#[must_use = "a batch does nothing unless it is polled"]
pub struct Batch<S, R, I>
where
    S: Service<R> + Clone,
{
    service: DeadlineService<S>,
    /// `None` once it has ended.
    requests: Option<I>,
    deadline: Deadline,
    concurrency: usize,
    running: FuturesUnordered<BatchCall<DeadlineFuture<S, R>>>,
    started: usize,
    /// In order: the results that finished before earlier ones.
    reorder: Option<ReorderBuffer<Result<S::Response, S::Error>>>,
}

impl<S, R, I> Batch<S, R, I>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed>,
    R: Carrier,
    I: Iterator<Item = R>,
{
    /// Runs at most `calls` at once, 16 by default. Zero counts as one.
    pub fn with_concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls.max(1);
        self
    }

    /// Yields the items in the order of their requests.
    ///
    /// A slow one does not keep others from being called: results that have finished are kept until
    /// it is their turn. Calls that run already when this is asked for come as they finish.
    pub fn in_order(mut self) -> Self {
        self.reorder.get_or_insert_with(|| ReorderBuffer {
            first: self.started,
            results: VecDeque::new(),
        });
        self
    }

    /// The next item: its request's index, and its result. `None` after the last.
    ///
    /// # Cancel safety
    /// Dropping the future loses no item.
    pub async fn next(&mut self) -> Option<(usize, Result<S::Response, S::Error>)> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// All results, in the order of their requests.
    ///
    /// # Cancel safety
    /// Dropping the future drops the batch, with what has finished.
    pub async fn all(self) -> Vec<Result<S::Response, S::Error>> {
        let mut batch = self.in_order();
        let mut results = Vec::new();
        while let Some((_, result)) = batch.next().await {
            results.push(result);
        }
        results
    }

    /// How many calls run at this moment.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Starts calls until enough run or there are no more requests.
    fn fill(&mut self) {
        while self.running.len() < self.concurrency {
            let Some(requests) = &mut self.requests else {
                return;
            };
            let Some(mut request) = requests.next() else {
                self.requests = None;
                return;
            };
            request.context_mut().limit(self.deadline);
            self.running.push(BatchCall {
                index: self.started,
                call: self.service.call(request),
            });
            self.started += 1;
        }
    }
}

// Nothing is pinned in it: the calls are, each in an allocation of its own.
impl<S: Service<R> + Clone, R, I> Unpin for Batch<S, R, I> {}

impl<S, R, I> Stream for Batch<S, R, I>
where
    S: Service<R> + Clone,
    S::Error: From<Elapsed>,
    R: Carrier,
    I: Iterator<Item = R>,
{
    type Item = (usize, Result<S::Response, S::Error>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let mut buffered = 0;
        loop {
            if let Some(item) = this.reorder.as_mut().and_then(ReorderBuffer::pop) {
                return Poll::Ready(Some(item));
            }
            if buffered == MAX_BUFFERED {
                // Calls that are answered at once would keep this task for themselves.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.fill();
            let Some((index, result)) = ready!(Pin::new(&mut this.running).poll_next(cx)) else {
                return Poll::Ready(None);
            };
            match &mut this.reorder {
                Some(reorder) if index >= reorder.first => reorder.put(index, result),
                // No order was asked for, or not yet when it was called.
                _ => return Poll::Ready(Some((index, result))),
            }
            buffered += 1;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.running.len() + self.reorder.as_ref().map_or(0, ReorderBuffer::len);
        let (least, most) = match &self.requests {
            Some(requests) => requests.size_hint(),
            None => (0, Some(0)),
        };
        let most = most.and_then(|most| most.checked_add(held));
        (least.saturating_add(held), most)
    }
}

impl<S: Service<R> + Clone, R, I> fmt::Debug for Batch<S, R, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("deadline", &self.deadline)
            .field("concurrency", &self.concurrency)
            .field("started", &self.started)
            .field("running", &self.running.len())
            .finish_non_exhaustive()
    }
}

/// Results that finished before earlier ones.
struct ReorderBuffer<T> {
    /// The index of the first in `results`, which is the next to be yielded.
    first: usize,
    results: VecDeque<Option<T>>,
}

impl<T> ReorderBuffer<T> {
    fn put(&mut self, index: usize, result: T) {
        let at = index - self.first;
        if self.results.len() <= at {
            self.results.resize_with(at + 1, || None);
        }
        self.results[at] = Some(result);
    }

    fn pop(&mut self) -> Option<(usize, T)> {
        let result = self.results.front_mut()?.take()?;
        self.results.pop_front();
        self.first += 1;
        Some((self.first - 1, result))
    }

    fn len(&self) -> usize {
        self.results.iter().flatten().count()
    }
}

pin_project! {
    /// A call that knows its request's index.
    struct BatchCall<F> {
        index: usize,
        #[pin]
        call: F,
    }
}

impl<F: Future> Future for BatchCall<F> {
    type Output = (usize, F::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let index = *this.index;
        this.call.poll(cx).map(|result| (index, result))
    }
}
