//! Cancellation that says why.
//!
//! Invariants:
//! 1. A node's cause is written before its token fires, so whoever sees the token fire finds one.
//! 2. The first cause wins and is never replaced: every reader of one node agrees.
//! 3. A node without a cause of its own takes its nearest ancestor's; a plain token that fired
//!    without one was the caller's doing.
//! 4. Ancestors are asked for their cause, never whether they are cancelled: a parent's token may
//!    read as live while its children's have already fired.

use std::{
    fmt,
    iter::successors,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use crate::call::{Cause, Deadline, work_count::WorkCount};
use crate::sync::{
    CancellationToken, Mutex, MutexGuard, PoisonError, WaitForCancellationFutureOwned,
};

/// A grace that the work below a node has: the layer that gives it ends the work, and those inside
/// leave that to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct CancelGrace {
    /// When it ends; set when it begins.
    end: Arc<OnceLock<Instant>>,
    /// How long it is, where a cancellation of the node begins it.
    length: Option<Duration>,
    /// A node whose cancellation begins it as well.
    shared: Cancel,
}

impl CancelGrace {
    /// A grace of `length` from a cancellation of the node, or of `shared`.
    pub(crate) fn on_cancel(length: Duration, shared: Option<Cancel>) -> Self {
        Self {
            end: Arc::default(),
            length: Some(length),
            shared: shared.unwrap_or_default(),
        }
    }

    /// Begins the grace, which then ends at `end`.
    pub(crate) fn begin(&self, end: Instant) {
        self.end.get_or_init(|| end);
    }

    /// When it ends; `None` before it begins.
    fn ends_at(&self, node: &CancellationToken, now: Instant) -> Option<Instant> {
        self.end.get().copied().or_else(|| {
            // The work is polled before the layer, which may not have seen the cancellation yet.
            let length = self.length?;
            let begins = node.is_cancelled() || self.shared.is_cancelled();
            begins.then(|| Deadline::at(now).later_by(length).instant())
        })
    }
}

struct Node {
    parent: Cancel,
    grace: Option<CancelGrace>,
    /// A node of many calls, whose cancellation a layer passes on to this one.
    shared: Cancel,
    /// Locked before those of the nodes above.
    cause: Mutex<Option<Cause>>,
    token: CancellationToken,
    work: WorkCount,
}

impl Node {
    fn cause(&self) -> MutexGuard<'_, Option<Cause>> {
        // Nothing panics while it holds the lock.
        self.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, cause: Cause) -> bool {
        if self.token.is_cancelled() {
            return false;
        }
        let mut first = self.cause();
        let decided = first.is_none();
        first.get_or_insert(cause);
        drop(first);
        self.token.cancel();
        decided
    }
}

/// A handle to one node of a tree of cancellations, each with its [`Cause`].
///
/// [`Cancel::none`], the default, is a node that nothing can cancel and that costs nothing. A plain
/// [`CancellationToken`] is accepted wherever a `Cancel` is (`From`).
///
/// ```
/// use tower_dspy::{Cancel, Cause};
///
/// let call = Cancel::new();
/// let attempt = call.child();
/// assert!(call.cancel(Cause::ClientGone));
/// assert_eq!(attempt.cause(), Some(Cause::ClientGone));
/// // The first cause stays.
/// assert!(!call.cancel(Cause::Shutdown));
/// assert_eq!(call.cause(), Some(Cause::ClientGone));
/// ```
#[derive(Clone, Default)]
pub struct Cancel(Option<Arc<Node>>);

impl Cancel {
    /// A node that nothing can cancel; no allocation.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// A root that can be cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::node(Self::none(), CancellationToken::new(), None)
    }

    /// A node below this one: cancelled with it, and cancellable alone.
    #[must_use]
    pub fn child(&self) -> Self {
        self.child_of(None)
    }

    /// As [`child`](Self::child), for work that has a grace.
    pub(crate) fn child_with_grace(&self, grace: CancelGrace) -> Self {
        self.child_of(Some(grace))
    }

    /// A child that its layer cancels when `shared`, a node of many calls, is cancelled.
    pub(crate) fn child_sharing(&self, shared: &Self) -> Self {
        let child = self.child();
        let Some(mut node) = child.0 else {
            return child;
        };
        if let Some(node) = Arc::get_mut(&mut node) {
            node.shared.clone_from(shared);
        }
        Self(Some(node))
    }

    /// The nodes from here outward that layers pass the cancellation of another one on to, each with
    /// that one.
    #[cfg(any(feature = "_host", feature = "test-util", feature = "tonic"))]
    pub(crate) fn shared(&self) -> impl Iterator<Item = (Self, Self)> {
        let outward = |cancel: &Self| Some(cancel.0.as_ref()?.parent.clone());
        let nodes = successors(Some(self.clone()), outward);
        nodes.filter_map(|cancel| {
            let shared = cancel.0.as_ref()?.shared.clone();
            shared.is_some().then_some((cancel, shared))
        })
    }

    fn child_of(&self, grace: Option<CancelGrace>) -> Self {
        let token = match &self.0 {
            Some(node) => node.token.child_token(),
            None => CancellationToken::new(),
        };
        Self::node(self.clone(), token, grace)
    }

    fn node(parent: Self, token: CancellationToken, grace: Option<CancelGrace>) -> Self {
        Self(Some(Arc::new(Node {
            parent,
            grace,
            shared: Self::none(),
            cause: Mutex::new(None),
            token,
            work: WorkCount::default(),
        })))
    }

    /// Cancels this node and all below it. Returns whether this call decided the cause.
    pub fn cancel(&self, cause: Cause) -> bool {
        self.0.as_ref().is_some_and(|node| node.cancel(cause))
    }

    /// Whether this node has been cancelled, by itself or from above.
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|node| node.token.is_cancelled())
    }

    /// Why this node was cancelled; `None` while it is not.
    #[inline]
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        let node = self.0.as_ref()?;
        if !node.token.is_cancelled() {
            return None;
        }
        // Pinned by the first reader, so that a cause set above later changes nothing here.
        let inherited = || node.parent.path().find_map(|above| *above.cause());
        let mut cause = node.cause();
        Some(*cause.get_or_insert_with(|| inherited().unwrap_or(Cause::Caller)))
    }

    /// Waits until all work below the node has ended: that of each call of a host whose context has
    /// this node or one below it, with its clean-up code, its threads and what it left behind. Ready
    /// at once for [`Cancel::none`], and for a node without such work: a service that has no host
    /// has ended with its future.
    ///
    /// It neither cancels the work nor waits for answers, and new calls may begin after it, unless
    /// the node was cancelled before: below a cancelled node no work begins. Work that cannot be
    /// stopped may never end: put a limit on this.
    ///
    /// A node that a [`CancelLayer`](crate::CancelLayer) has as its token has the work of the layer's
    /// calls below it. Two nodes made from one [`CancellationToken`] are two, each with its own work.
    ///
    /// ```
    /// use tower_dspy::{Cancel, Cause, PredictRequest};
    /// use tower_dspy::testing::mock::{MockDspy, Reply};
    /// use std::time::Duration;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// // Its clean-up code takes two seconds.
    /// let program = MockDspy::new([Reply::hang().lingers(Duration::from_secs(2))]);
    /// let node = Cancel::new();
    /// let request = PredictRequest::new(serde_json::json!({})).with_cancel(node.clone());
    /// let call = tokio::spawn(program.clone().oneshot(request));
    /// program.wait_for(|calls| !calls.is_empty()).await;
    ///
    /// node.cancel(Cause::ClientGone);
    /// node.settled().await;
    /// assert_eq!(program.in_flight(), 0);
    /// # assert!(call.await.unwrap().is_err());
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub async fn settled(&self) {
        if let Some(node) = &self.0 {
            node.work.wait_ended().await;
        }
    }

    /// Counts a work below this node, and below those whose cancellation reaches it, until the guard
    /// is dropped. Work that checks only then whether the node is cancelled is seen by
    /// [`settled`](Self::settled), or sees the cancellation that came before that, also one that a
    /// layer has still to pass on.
    #[cfg_attr(
        not(any(feature = "_host", feature = "test-util")),
        allow(dead_code, reason = "hosts and mocks have work")
    )]
    pub(crate) fn begin_work(&self) -> WorkGuard {
        self.for_each_above(|node| node.work.begin());
        self.cancel_with_shared();
        WorkGuard(self.clone())
    }

    /// Passes cancellations on that layers have still to pass on, from here outward.
    fn cancel_with_shared(&self) {
        for node in self.path() {
            node.shared.cancel_with_shared();
            if let Some(cause) = node.shared.cause() {
                node.cancel(cause);
            }
        }
    }

    /// Visits the node, those above it, and those that layers pass the cancellation of on to them.
    fn for_each_above(&self, visit: fn(&Node)) {
        for node in self.path() {
            visit(node);
            node.shared.for_each_above(visit);
        }
    }

    /// The node and those above it, from below.
    fn path(&self) -> impl Iterator<Item = &Node> {
        successors(self.0.as_deref(), |node| node.parent.0.as_deref())
    }

    /// Begins the grace that the work below this node has; it then ends at `end`.
    pub(crate) fn begin_grace(&self, end: Instant) {
        if let Some(grace) = self.0.as_ref().and_then(|node| node.grace.as_ref()) {
            grace.begin(end);
        }
    }

    /// When the first grace ends, of those above that have begun.
    pub(crate) fn grace_ends_at(&self, now: Instant) -> Option<Instant> {
        let ends = |node: &Node| node.grace.as_ref()?.ends_at(&node.token, now);
        self.path().filter_map(ends).min()
    }

    /// The token of this node; `None` for [`Cancel::none`].
    #[must_use]
    pub fn token(&self) -> Option<&CancellationToken> {
        self.0.as_ref().map(|node| &node.token)
    }

    /// Completes when the node is cancelled; `None` for [`Cancel::none`], which never is.
    #[must_use]
    pub fn cancelled_owned(&self) -> Option<WaitForCancellationFutureOwned> {
        self.token().map(|token| token.clone().cancelled_owned())
    }

    /// Whether this node can be cancelled at all.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.0.is_some()
    }
}

/// A work, counted until this is dropped.
#[derive(Debug, Default)]
#[cfg_attr(
    not(any(feature = "_host", feature = "test-util")),
    allow(dead_code, reason = "hosts and mocks have work")
)]
#[must_use = "the work has ended when its guard is dropped"]
pub(crate) struct WorkGuard(Cancel);

impl Drop for WorkGuard {
    fn drop(&mut self) {
        self.0.for_each_above(|node| node.work.end());
    }
}

impl From<CancellationToken> for Cancel {
    fn from(token: CancellationToken) -> Self {
        Self::node(Self::none(), token, None)
    }
}

impl From<&CancellationToken> for Cancel {
    fn from(token: &CancellationToken) -> Self {
        Self::from(token.clone())
    }
}

impl From<&Cancel> for Cancel {
    fn from(node: &Cancel) -> Self {
        node.clone()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0, self.cause()) {
            (None, _) => f.write_str("Cancel(none)"),
            (_, None) => f.write_str("Cancel(live)"),
            (_, Some(cause)) => write!(f, "Cancel({cause})"),
        }
    }
}
