//! [`DebugPage`]: the page as a router of axum.

use std::sync::Arc;

use ::axum::Router;

use super::{
    access::{FormToken, PageToken},
    routes::router,
    shared_reading::SharedReading,
    sources::PageSources,
    state::{PageParts, PageState},
    update_clients::UpdateClients,
};
#[cfg(feature = "_host")]
use crate::host::handle::Host;
use crate::layers::{Shutdown, retry::RetryBudget, track::Tracker};

/// How many finished calls of each class are kept.
const SAMPLES: usize = 10;

/// A page of the calls of a [`Tracker`]; see [the module](super).
///
/// ```
/// use axum::Router;
/// use tower_dspy::{RetryBudget, Tracker, page::DebugPage};
///
/// let (tracker, budget) = (Tracker::new(), RetryBudget::default());
/// // Each call goes through a `TrackLayer::new(tracker.clone())`.
/// let page = DebugPage::new(tracker)
///     .retry_budget("qa", &budget)
///     .token("a long secret")
///     .allow_cancel();
/// let app: Router = Router::new().nest("/debug/calls", page.into_router());
/// ```
#[derive(Clone, Debug)]
#[must_use = "a page is there once its router is mounted"]
pub struct DebugPage {
    sources: PageSources,
    shutdown: Option<Shutdown>,
    token: Option<PageToken>,
    allow_cancel: bool,
}

impl DebugPage {
    /// A page of the calls of `tracker`, which from now on keeps the last ten finished calls of
    /// each class of outcomes and of each class of durations, by their labels or programs.
    pub fn new(tracker: Tracker) -> Self {
        tracker.keep_samples(SAMPLES);
        Self {
            sources: PageSources::new(tracker),
            shutdown: None,
            token: None,
            allow_cancel: false,
        }
    }

    /// Shows the health of `host`, its LM calls and its worker processes.
    #[cfg(feature = "_host")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
    pub fn host(mut self, host: &Host) -> Self {
        self.shutdown
            .get_or_insert_with(|| host.shutdown_handle().clone());
        self.sources.host = Some(host.clone());
        self
    }

    /// Shows how many retries `budget` has left, under this name. Several budgets may be shown.
    pub fn retry_budget(mut self, name: impl Into<String>, budget: &RetryBudget) -> Self {
        self.sources.budgets.push((name.into(), budget.clone()));
        self
    }

    /// Ends the streams by which the page is live within a second after `shutdown` begins to drain, so
    /// that a server does not wait for them until the end of its drain. The shutdown of a
    /// [host](Self::host) is the default.
    pub fn shutdown(mut self, shutdown: &Shutdown) -> Self {
        self.shutdown = Some(shutdown.clone());
        self
    }

    /// Asks for `secret`, as the password of HTTP Basic authentication of any user: a browser
    /// asks for it, `curl -u :SECRET` sends it. An empty secret lets nobody in.
    ///
    /// Basic authentication sends the secret with each request as it is: over TLS, or within a
    /// network that is trusted.
    pub fn token(mut self, secret: impl AsRef<str>) -> Self {
        self.token = Some(PageToken::new(secret.as_ref()));
        self
    }

    /// Shows a button that cancels a call, as [`Tracker::cancel`] does, beside each call that can be
    /// cancelled and was not yet. Without this, nothing can be changed by the page.
    pub const fn allow_cancel(mut self) -> Self {
        self.allow_cancel = true;
        self
    }

    /// The routes of the page, to be mounted at a path of its own, without a slash at the end, by
    /// [`Router::nest`]; or by [`Router::nest_service`], which serves that path with a slash as well.
    /// All links are relative. The clones of the router are one page, with one limit of its streams.
    pub fn into_router<S>(self) -> Router<S>
    where
        S: Clone + Send + Sync + 'static,
    {
        let form_token = self.allow_cancel.then(FormToken::random).flatten();
        router(PageState(Arc::new(PageParts {
            sources: self.sources,
            token: self.token,
            form_token,
            updates: UpdateClients::new(self.shutdown),
            shared_reading: SharedReading::default(),
        })))
    }
}
