//! The grace of a limit or a cancellation.

use std::time::Duration;

use tokio::time::Instant;

use crate::call::{CallContext, Cancel, CancelGrace, Cause, Deadline, Progress};

/// How long the work may clean up, and the node in its context that signals it to.
#[derive(Debug)]
pub(crate) struct Grace {
    length: Duration,
    pub(super) node: Cancel,
    /// The node that the layers inside read the end of the grace from, where a cancellation begins it.
    inner: Cancel,
    /// What of the work waits, and gets none.
    pub(super) progress: Progress,
}

impl Grace {
    /// The grace of a limit: its signal is a node that it puts below the context's own. `None`, and
    /// nothing is allocated, for a grace of zero: the work is dropped at once.
    #[inline]
    pub(crate) fn of_limit(length: Duration, context: &mut CallContext) -> Option<Box<Self>> {
        if length.is_zero() {
            return None;
        }
        context.cancel = context.cancel.child();
        Some(Box::new(Self::new(length, context)))
    }

    /// The grace of a cancellation, by the context's node or by `shared`: its signal is a node that it
    /// puts below the context's own. `None` for a grace of zero, or if nothing can cancel the node.
    #[inline]
    pub(crate) fn of_cancel(
        length: Duration,
        shared: Option<Cancel>,
        context: &mut CallContext,
    ) -> Option<Box<Self>> {
        if length.is_zero() || !context.cancel.is_some() {
            return None;
        }
        let cancel_grace = CancelGrace::on_cancel(length, shared);
        context.cancel = context.cancel.child_with_grace(cancel_grace);
        Some(Box::new(Self::new(length, context)))
    }

    /// The grace of work that `node` itself signals, by a limit or a cancellation; the context has it, or
    /// a node below it. `None` for a grace of zero.
    pub(crate) fn of_node(
        length: Duration,
        node: &Cancel,
        context: &mut CallContext,
    ) -> Option<Box<Self>> {
        if length.is_zero() {
            return None;
        }
        let cancel_grace = CancelGrace::on_cancel(length, None);
        context.cancel = context.cancel.child_with_grace(cancel_grace);
        let mut grace = Box::new(Self::new(length, context));
        grace.node = node.clone();
        Some(grace)
    }

    fn new(length: Duration, context: &mut CallContext) -> Self {
        context.progress = context.progress.inside();
        // The work may answer within the grace: its answer is dropped, and reports nothing.
        context.open_record();
        Self {
            length,
            node: context.cancel.clone(),
            inner: context.cancel.clone(),
            progress: context.progress.clone(),
        }
    }

    /// Signals the work, and returns when its grace ends.
    pub(super) fn begin(&self, cause: Cause) -> Instant {
        let end = Deadline::within(self.length).instant();
        self.inner.begin_grace(end);
        self.node.cancel(cause);
        end
    }
}
