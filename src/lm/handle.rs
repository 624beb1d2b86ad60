//! [`LmHandle`]: the handle that LM calls are sent through.

use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body::Frame;
use tower::{BoxError, ServiceExt};

#[cfg(feature = "_host")]
use super::credential::Credential;
use super::{
    attempt::LmAttempt,
    config_error::LmConfigError,
    credential_lookup,
    http::{LmBody, LmHttp, LmRequest, LmResponse, erase},
    key::Origin,
    limited_body::{BodyLimit, LimitedBody},
    limits::LmTermination,
    lm_log::LmCallEntry,
    model::Lm,
    provider::LmProvider,
    resolved::ResolvedLm,
};
use crate::{
    call::{Cause, LmOutcome, drop_scope},
    error::{BadStatus, LmFailure, sources},
    telemetry::metrics,
};

/// An [`Lm`] ready for use: its key found, its layers put together. Cloning it is cheap.
///
/// A call goes, from the outside in, through
/// 1. the limits of the whole call, `total` and the deadline, and for a member of an LM that is made
///    of several its share until the first content: they count the time in layers too; what is too
///    late or cancelled is refused here;
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
        let http = lm.innermost()?;
        let shared = Arc::new(ResolvedLm::new(lm.clone()));
        let innermost = erase(LmAttempt {
            http,
            shared: shared.clone(),
        });
        let stack = lm.layers.iter().rev();
        let stack = stack.fold(innermost, |inner, layer| layer(inner));
        Ok(Self { shared, stack })
    }

    /// What carries the calls of LMs that are none of the host's: with the key that they have.
    #[cfg(feature = "_host")]
    pub(crate) fn of_no_lm() -> Result<Self, LmConfigError> {
        Self::new(&Lm::new(""))
    }

    /// The key and the address, as far as they are found.
    #[cfg(feature = "_host")]
    pub(super) fn own_credential(&self) -> Arc<Credential> {
        self.shared.own_credential()
    }

    /// The address that the LM's key is for, if one is known.
    #[cfg(feature = "_host")]
    pub(crate) fn is_at(&self, uri: &http::Uri) -> bool {
        let origin = &self.own_credential().origin;
        origin.is_some() && *origin == Origin::of(uri)
    }

    /// Finds the key and the address by what is known of the provider; returns whether there is a
    /// key to put into requests.
    #[cfg(feature = "_host")]
    pub(crate) fn resolve(&self, provider: &LmProvider) -> Result<bool, LmConfigError> {
        use super::model::LmKey;

        let found = self.shared.resolve(provider)?;
        let is_asked_for = matches!(self.shared.lm.key, LmKey::By(_) | LmKey::Token(_));
        Ok(found.key.is_some() || is_asked_for)
    }

    /// Whether this is the LM that DSPy calls `name`.
    #[cfg(feature = "_host")]
    pub(crate) fn is_named(&self, name: &str) -> bool {
        super::model_name::split(name) == self.shared.names()
    }

    /// The provider, as in the LM's name.
    #[must_use]
    pub fn provider(&self) -> &str {
        self.shared.names().0
    }

    /// The model, as the provider knows it.
    #[must_use]
    pub fn model(&self) -> &str {
        self.shared.names().1
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
        let termination = LmTermination::of(&mut request, &self.shared.lm.limits);
        let Self { shared, stack } = self.clone();
        let to = Origin::of(request.uri());
        async move {
            let mut termination = termination.inspect_err(|_| {
                let price = shared.price(&request);
                LmCallEntry::begin(&request, shared.names(), price).finish(LmOutcome::Refused);
            })?;
            // Boxed, so that it can be dropped before the error is returned.
            let call = Box::pin(stack.oneshot(request));
            let sent = match select(call, poll_fn(|cx| termination.poll(cx))).await {
                Either::Left((sent, _)) => sent,
                Either::Right(((cause, failure), call)) => {
                    drop_scope::with(cause, || drop(call));
                    return Err(failure);
                }
            };
            let error = match sent {
                Ok(mut answer) => {
                    termination.head(answer.headers());
                    if let Some(end) = termination.end {
                        answer.extensions_mut().insert(end);
                    }
                    let limit = LmCallLimit {
                        termination,
                        to,
                        shared,
                    };
                    return Ok(answer.map(|inner| LmBody::new(LimitedBody::new(inner, limit))));
                }
                Err(error) => error,
            };
            // The answer that the error was made of, however the layers have wrapped it.
            if let Some(bad) = sources(&*error).find_map(|error| error.downcast_ref::<BadStatus>())
            {
                return Ok(bad.to_answer());
            }
            let failure = shared.own_credential().failure(&error, to.as_ref());
            Err(termination.rename(failure))
        }
    }
}

impl Lm {
    /// Finds the key and puts the layers together, for a Rust program that sends requests of its
    /// own. The first time, it reads the system's root certificates, which takes some milliseconds.
    ///
    /// What is known of providers is known in Python, so this needs a [base URL](Self::base_url),
    /// or the provider's variable such as `OPENAI_BASE_URL`; and a key that the LM is not given is
    /// that of the variable `<PROVIDER>_API_KEY`.
    ///
    /// # Errors
    /// If the key or the address is missing, the URL is none, or an [option](Self::option) is not
    /// to be given; and of an LM that is [made of several](Self::fallback): programs call it,
    /// requests do not.
    pub fn connect(&self) -> Result<LmHandle, LmConfigError> {
        let handle = self.prepare()?;
        let found = handle.shared.resolve(&LmProvider::by_name(self))?;
        if found.origin.is_none() {
            return Err(LmConfigError::no_address(handle.provider()));
        }
        Ok(handle)
    }

    /// Puts the layers together: what loading a program does with its LM. Its key and its address
    /// are found by [`LmHandle::resolve`].
    pub(crate) fn prepare(&self) -> Result<LmHandle, LmConfigError> {
        if self.group.is_some() {
            return Err(LmConfigError::Group);
        }
        credential_lookup::check(self)?;
        let handle = LmHandle::new(self)?;
        metrics::lm_loaded(handle.provider(), handle.model());
        Ok(handle)
    }
}

impl fmt::Debug for LmHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LmHandle")
            .field("provider", &self.provider())
            .field("model", &self.model())
            .field("origin", &self.shared.own_credential().origin)
            .field("limits", &self.shared.lm.limits)
            .finish_non_exhaustive()
    }
}

/// The limits of the whole call, for the body of its answer.
struct LmCallLimit {
    termination: LmTermination,
    to: Option<Origin>,
    shared: Arc<ResolvedLm>,
}

impl BodyLimit for LmCallLimit {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(Cause, LmFailure)> {
        self.termination.poll(cx)
    }

    fn failure(&self, error: &BoxError) -> LmFailure {
        let failure = self
            .shared
            .own_credential()
            .failure(error, self.to.as_ref());
        self.termination.rename(failure)
    }

    fn read(&mut self, frame: &Frame<Bytes>) {
        self.termination.read(frame);
    }
}
