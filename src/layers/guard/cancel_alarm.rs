//! The alarm of the layers that cancel.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::Alarm;
use crate::{
    call::{Cancel, Cause, Spent},
    error::{Cancelled, Stage},
};

pin_project! {
    /// Rings when a call's node is cancelled, or a node shared by many calls.
    pub(crate) struct CancelAlarm {
        node: Cancel,
        shared: Option<Cancel>,
        #[pin]
        node_cancelled: Option<WaitForCancellationFutureOwned>,
        #[pin]
        shared_cancelled: Option<WaitForCancellationFutureOwned>,
    }
}

impl CancelAlarm {
    /// Rings when `node` is cancelled; or `shared`, which then cancels `node` too.
    pub(crate) const fn new(node: Cancel, shared: Option<Cancel>) -> Self {
        Self {
            node,
            shared,
            node_cancelled: None,
            shared_cancelled: None,
        }
    }
}

impl Alarm for CancelAlarm {
    type Error = Cancelled;

    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let mut this = self.project();
        if this.node_cancelled.is_none() {
            this.node_cancelled.set(this.node.cancelled_owned());
            let shared = this.shared.as_ref().and_then(Cancel::cancelled_owned);
            this.shared_cancelled.set(shared);
        }
        if let Some(cancelled) = this.shared_cancelled.as_pin_mut()
            && cancelled.poll(cx).is_ready()
        {
            let cause = this.shared.as_ref().and_then(Cancel::cause);
            this.node.cancel(cause.unwrap_or(Cause::Caller));
        }
        match this.node_cancelled.as_pin_mut() {
            Some(cancelled) => cancelled
                .poll(cx)
                .map(|()| this.node.cause().unwrap_or(Cause::Caller)),
            None => Poll::Pending,
        }
    }

    fn error(&self, cause: Cause, _: Stage, spent: Option<Arc<Spent>>) -> Cancelled {
        Cancelled::new(cause).with_spent(spent)
    }
}
