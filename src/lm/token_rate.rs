//! [`TokenRateLayer`]: a limit of the tokens that LM calls take in a minute.

mod window;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt};

use self::window::{TokenReservation, TokenWindow};
use super::{
    estimate::TokenEstimate,
    http::{LmBody, LmRequest, LmResponse},
    rate_headers::RateLeft,
    sent_mark::{OnSent, SentMark},
    usage::UsageReader,
};
use crate::{
    call::Carrier,
    error::{BadStatus, ErrorKind, LmFailure, LmFailureKind, counted, sources},
    layers::inner_service_accessors,
};

/// Limits the tokens that LM calls take in a minute, exactly: however many are made at once, those of
/// the last 60 seconds are within the limit, but for the errors of estimates.
///
/// The tokens of an LM call are reserved before it is sent: of its prompt a third of the request's
/// bytes, of its answer what those before it took, or the most that the request allows if that is less.
/// Once the provider has told what it took, that is charged in place of the estimate. What it did not
/// take, as a request that it refused or that was not sent, is free again; a call that was cut stays in
/// the window as estimated. A call with a greater estimate than the whole limit is sent alone.
///
/// The 60 seconds of a call begin when its request is sent, however long layers inside of this one kept
/// it. The [`Lm`](crate::Lm) reports that, so the layer belongs to [`Lm::layer`](crate::Lm::layer).
///
/// A call that does not fit waits for its turn, in the order of arrival. A call that cannot fit before
/// its deadline, whatever the calls before it settle for, is refused at once: as an
/// [`LmFailure`] of the kind [`Refused`](LmFailureKind::Refused), sorted as
/// [`ErrorKind::Overloaded`], with the wait as its `Retry-After`.
/// Where the program lets that through, the error of its call has the wait too.
/// [`with_max_wait`](Self::with_max_wait) bounds the wait of calls with a later deadline, or without one.
///
/// Where the provider tells what is left of its own limit (`x-ratelimit-remaining-tokens`,
/// `anthropic-ratelimit-tokens-remaining`) and that is less than what is left here, others take a part
/// of it: the difference counts as taken until the reset that it tells, for a minute at most.
///
/// All clones share one window, and so do all programs that are loaded with an LM that has the layer.
/// Inside a retry layer each attempt reserves for itself.
///
/// ```
/// use std::time::Duration;
/// use tower_dspy::{Lm, RetryLayer, lm::TokenRateLayer};
///
/// let rate = TokenRateLayer::new(200_000).with_max_wait(Duration::from_secs(10));
/// let lm = Lm::new("openai/gpt-4o-mini")
///     .layer(RetryLayer::new(2))
///     .layer(rate.clone());
/// // Another model with a share in the same limit.
/// let other = Lm::new("openai/gpt-4o").layer(rate);
/// ```
#[derive(Clone, Debug)]
pub struct TokenRateLayer {
    window: Arc<TokenWindow>,
    max_wait: Option<Duration>,
}

impl TokenRateLayer {
    /// At most so many tokens in any 60 seconds; 0 is taken for 1.
    #[must_use]
    pub fn new(tokens_per_minute: u64) -> Self {
        Self {
            window: Arc::new(TokenWindow::new(tokens_per_minute.max(1))),
            max_wait: None,
        }
    }

    /// Refuses a call that would wait for longer than `limit`: unlimited by default, but for the
    /// deadline of the call.
    #[must_use]
    pub const fn with_max_wait(mut self, limit: Duration) -> Self {
        self.max_wait = Some(limit);
        self
    }

    /// The tokens that are left of the limit now, less the estimates of the calls under way.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.window.remaining()
    }
}

impl<S> Layer<S> for TokenRateLayer {
    type Service = TokenRate<S>;

    fn layer(&self, inner: S) -> TokenRate<S> {
        TokenRate {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of a [`TokenRateLayer`]. It is always ready: a call awaits its turn, and then a clone of
/// the inner service.
#[derive(Clone, Debug)]
pub struct TokenRate<S> {
    inner: S,
    layer: TokenRateLayer,
}

impl<S> TokenRate<S> {
    /// At most so many tokens in any 60 seconds.
    pub fn new(inner: S, tokens_per_minute: u64) -> Self {
        TokenRateLayer::new(tokens_per_minute).layer(inner)
    }

    /// The layer of such services.
    #[must_use]
    pub fn layer(tokens_per_minute: u64) -> TokenRateLayer {
        TokenRateLayer::new(tokens_per_minute)
    }

    inner_service_accessors!();
}

impl<S, B> Service<LmRequest> for TokenRate<S>
where
    S: Service<LmRequest, Response = http::Response<B>> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = LmResponse;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<LmResponse, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: LmRequest) -> Self::Future {
        let Self { inner, layer } = self.clone();
        Box::pin(layer.send(inner, request))
    }
}

impl TokenRateLayer {
    async fn send<S, B>(self, inner: S, mut request: LmRequest) -> Result<LmResponse, BoxError>
    where
        S: Service<LmRequest, Response = http::Response<B>>,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { window, max_wait } = self;
        let estimate = window.history.estimate(&request);
        let deadline = request.context().and_then(|context| context.wait_limit());
        let deadline = deadline.map(|deadline| deadline.instant());
        // No limit of time has an instant that the clock cannot hold.
        let last = max_wait.and_then(|limit| Instant::now().checked_add(limit));
        let until = deadline.into_iter().chain(last).min();
        let reserved = window.reserve(estimate, until).await;
        let tokens = reserved.map_err(|wait| refused(estimate, window.limit, wait))?;
        let mut inner = inner;
        let ready = inner.ready().await.map_err(Into::into)?;
        // This layer is below an attempt, on the client, which has taken the request by now.
        if request.extensions().get::<SentMark>().is_some() {
            tokens.call.sent();
        } else {
            let call = tokens.call.clone();
            OnSent::add(&mut request, move || call.sent());
        }
        match ready.call(request).await.map_err(Into::into) {
            Ok(answer) => {
                tokens.call.sent();
                window.learn(RateLeft::of_tokens(answer.headers()));
                Ok(answer.map(|inner| LmBody::new(MeteredBody::new(inner, tokens, window))))
            }
            Err(error) => {
                if let Some(bad) = find::<BadStatus>(&error) {
                    tokens.settle(0);
                    window.learn(RateLeft::of_tokens(bad.headers()));
                } else if find::<LmFailure>(&error)
                    .is_some_and(|failure| failure.kind().is_unsent())
                {
                    tokens.settle(0);
                }
                Err(error)
            }
        }
    }
}

fn find<E: std::error::Error + 'static>(error: &BoxError) -> Option<&E> {
    sources(&**error).find_map(|error| error.downcast_ref())
}

fn refused(estimate: TokenEstimate, limit: u64, wait: Duration) -> BoxError {
    let tokens = estimate.total();
    let message = format!(
        "the LM call was not sent: its estimate of {} fits into the limit of {limit} a \
         minute in {wait:.1?} only",
        counted(tokens, "token"),
    );
    let failure = LmFailure::new(LmFailureKind::Refused, message);
    let failure = failure.sorted(ErrorKind::Overloaded);
    failure.with_retry_after(wait).into()
}

/// The body of an answer, whose tokens are read as it passes by.
struct MeteredBody<B> {
    inner: Pin<Box<B>>,
    usage: UsageReader,
    /// `None` once they are settled.
    tokens: Option<TokenReservation>,
    window: Arc<TokenWindow>,
}

impl<B: Body<Data = Bytes>> MeteredBody<B> {
    fn new(inner: B, tokens: TokenReservation, window: Arc<TokenWindow>) -> Self {
        let mut body = Self {
            inner: Box::pin(inner),
            usage: UsageReader::default(),
            tokens: Some(tokens),
            window,
        };
        body.settle_at_end();
        body
    }

    fn settle_at_end(&mut self) {
        if self.inner.is_end_stream() {
            self.settle();
        }
    }
}

impl<B> MeteredBody<B> {
    /// The answer is whole.
    fn settle(&mut self) {
        let Some(tokens) = self.tokens.take() else {
            return;
        };
        if let Some(completion) = self.usage.counts.completion() {
            self.window.history.record(completion);
        }
        if let Some(total) = self.usage.counts.total() {
            tokens.settle(total);
        }
    }
}

impl<B> Body for MeteredBody<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = std::task::ready!(self.inner.as_mut().poll_frame(cx));
        match &frame {
            None => self.settle(),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.usage.read(data);
                }
                self.settle_at_end();
            }
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> Drop for MeteredBody<B> {
    fn drop(&mut self) {
        if let Some(tokens) = self.tokens.take() {
            tokens.cut(self.usage.counts.total().unwrap_or_default());
        }
    }
}

impl<B> fmt::Debug for MeteredBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeteredBody").finish_non_exhaustive()
    }
}
