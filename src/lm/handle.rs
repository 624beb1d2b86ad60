//! [`LmHandle`]: what LM calls are sent through.

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tower::{BoxError, ServiceExt};

use super::{
    attempt::LmAttempt,
    config_error::LmConfigError,
    http::{LmBody, LmHttp, LmRequest, LmResponse, erase},
    key::{Lock, Origin},
    keyed::Keyed,
    limits::LmTermination,
    lm_log::LmCallEntry,
    model::{Lm, Wrap},
    model_name::split,
    provider,
    resolved::ResolvedLm,
};
use crate::{
    call::{LmOutcome, drop_scope},
    error::{BadStatus, LmFailure},
};

/// An [`Lm`] ready for use: its key found, its layers put together. Cloning it is cheap.
///
/// A call goes, from the outside in, through
/// 1. the limits of the whole call, `total` and the deadline: they count the time in layers too;
///    what is too late or cancelled is refused here;
/// 2. the layers that the user gave, the first of them outermost: their attempts, and the waiting
///    for their permits, are within the limits;
/// 3. each attempt: its record, the limits for the first byte and for a pause, and inside these the
///    key, which so no layer sees;
/// 4. the client.
#[derive(Clone)]
pub struct LmHandle {
    shared: Arc<ResolvedLm>,
    stack: LmHttp,
}

impl LmHandle {
    fn new(lm: &Lm) -> Result<Self, LmConfigError> {
        Self::with_lock(lm, provider::lock(lm)?)
    }

    fn with_lock(lm: &Lm, lock: Lock) -> Result<Self, LmConfigError> {
        let client = match &lm.http {
            Some(http) => http.clone(),
            None => erase(lm.client.get(lm.limits.connect)?),
        };
        let (provider, model) = split(&lm.model);
        let shared = Arc::new(ResolvedLm {
            provider: provider.into(),
            model: model.into(),
            base_url: lm.base_url.clone(),
            limits: lm.limits,
            keyed: Arc::new(Keyed::new(lock)),
            keys: lm.key.function(),
        });
        let innermost = erase(LmAttempt::new(client, shared.clone()));
        let stack = lm.layers.iter().rev().fold(innermost, |inner, wrap| {
            let Wrap(wrap) = wrap;
            wrap(inner)
        });
        Ok(Self { shared, stack })
    }

    /// What carries the calls of LMs that are none of the host's: with the key that they have.
    #[cfg(feature = "_host")]
    pub(crate) fn of_no_lm() -> Result<Self, LmConfigError> {
        let lock = Lock {
            key: None,
            origin: None,
        };
        Self::with_lock(&Lm::new(""), lock)
    }

    /// The address that the LM's key is for, if one is known.
    #[cfg(feature = "_host")]
    pub(crate) fn is_at(&self, uri: &http::Uri) -> bool {
        let origin = &self.shared.keyed.lock.origin;
        origin.is_some() && *origin == Origin::of(uri)
    }

    /// Whether there is a key to put into requests.
    #[cfg(feature = "_host")]
    pub(crate) fn has_key(&self) -> bool {
        self.shared.keyed.lock.key.is_some()
    }

    /// Whether this is the LM that DSPy calls `name`.
    #[cfg(feature = "_host")]
    pub(crate) fn is_named(&self, name: &str) -> bool {
        split(name) == (&*self.shared.provider, &*self.shared.model)
    }

    /// The provider, as in the LM's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        &self.shared.provider
    }

    /// The model, as the provider knows it.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.shared.model
    }

    /// Where the provider is, if that was configured.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        self.shared.base_url.as_deref()
    }

    /// `text`, such as an error message that repeats what a provider said, without keys and cut to
    /// a length that is fit for a log.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        self.shared.keyed.redact.text(text)
    }

    /// Sends one LM call. Its limits count from now; nothing is sent before the future is polled.
    ///
    /// An answer of any status is an answer. Where the body fails, its error is an [`LmFailure`]
    /// as well.
    ///
    /// # Errors
    /// If no answer came. What was not sent at all is [`Refused`](super::LmFailureKind::Refused).
    ///
    /// # Panics
    /// The future panics if it has to wait outside a tokio runtime with its timer enabled.
    ///
    /// # Cancel safety
    /// Dropping the future, or the body of the answer, ends the call: the default client closes
    /// its connection at once.
    pub fn send(
        &self,
        mut request: LmRequest,
    ) -> impl Future<Output = Result<LmResponse, LmFailure>> + Send + 'static {
        let termination = LmTermination::of(&mut request, &self.shared.limits);
        let Self { shared, stack } = self.clone();
        let to = Origin::of(request.uri());
        async move {
            let mut termination = termination.inspect_err(|_| {
                LmCallEntry::begin(&request, &shared.provider, &shared.model)
                    .finish(LmOutcome::Refused);
            })?;
            // Boxed, so that it can be dropped before the error is returned.
            let mut call = Box::pin(stack.oneshot(request));
            let done = tokio::select! {
                biased;
                done = &mut call => Ok(done),
                end = poll_fn(|cx| termination.poll(cx)) => Err(end),
            };
            match done {
                Ok(Ok(answer)) => Ok(answer.map(|inner| {
                    LmBody::new(CallBody {
                        inner: Some(inner),
                        termination,
                        to,
                        shared,
                    })
                })),
                Ok(Err(error)) => match bad_status(&error) {
                    Some(bad) => Ok(bad.to_answer()),
                    None => Err(termination.rename(shared.keyed.failure(&error, to.as_ref()))),
                },
                Err((cause, failure)) => {
                    drop_scope::with(cause, || drop(call));
                    Err(failure)
                }
            }
        }
    }
}

impl Lm {
    /// Finds the key and puts the layers together: what loading a program does with its LM, and
    /// what a Rust program does that sends requests of its own. The first time, it reads the
    /// system's root certificates, which takes some milliseconds.
    ///
    /// # Errors
    /// If the key is missing, the URL is none, or an [option](Self::option) is not to be given.
    pub fn connect(&self) -> Result<LmHandle, LmConfigError> {
        LmHandle::new(self)
    }
}

impl fmt::Debug for LmHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LmHandle")
            .field("provider", &self.shared.provider)
            .field("model", &self.shared.model)
            .field("origin", &self.shared.keyed.lock.origin)
            .field("limits", &self.shared.limits)
            .finish_non_exhaustive()
    }
}

/// The answer that `error` was made of, however the layers have wrapped it.
fn bad_status(error: &BoxError) -> Option<&BadStatus> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(&**error);
    while let Some(error) = next {
        if let Some(bad) = error.downcast_ref() {
            return Some(bad);
        }
        next = error.source();
    }
    None
}

/// The body of an answer, within the limits of the whole call.
struct CallBody {
    /// Gone once it has ended.
    inner: Option<LmBody>,
    termination: LmTermination,
    to: Option<Origin>,
    shared: Arc<ResolvedLm>,
}

impl Body for CallBody {
    type Data = Bytes;
    type Error = LmFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, LmFailure>>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return Poll::Ready(None);
        };
        match Pin::new(inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(Some(Err(error))) => {
                this.inner = None;
                let failure = this.shared.keyed.failure(&error, this.to.as_ref());
                let failure = this.termination.rename(failure);
                Poll::Ready(Some(Err(failure)))
            }
            Poll::Ready(None) => {
                this.inner = None;
                Poll::Ready(None)
            }
            Poll::Pending => {
                let (cause, failure) = ready!(this.termination.poll(cx));
                drop_scope::with(cause, || this.inner = None);
                Poll::Ready(Some(Err(failure)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
