//! The alarm of the layers that cancel.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Alarm, clock::poll_sleep, enclosing::Nodes};
use crate::{
    call::{Cancel, Cause, Spent},
    error::{Cancelled, Stage},
};

pin_project! {
    /// Rings when a call's node is cancelled, or a node shared by many calls.
    pub(crate) struct Watch {
        node: Cancel,
        shared: Option<Cancel>,
        #[pin]
        node_cancelled: Option<WaitForCancellationFutureOwned>,
        #[pin]
        shared_cancelled: Option<WaitForCancellationFutureOwned>,
        #[pin]
        timer: Option<Sleep>,
    }
}

impl Watch {
    /// Rings when `node` is cancelled; or `shared`, which then cancels `node` too.
    pub(crate) const fn new(node: Cancel, shared: Option<Cancel>) -> Self {
        Self {
            node,
            shared,
            node_cancelled: None,
            shared_cancelled: None,
            timer: None,
        }
    }
}

impl Alarm for Watch {
    type Error = Cancelled;

    const CANCELS: bool = true;

    fn may_ring(&self) -> bool {
        self.node.is_some()
    }

    fn nodes(&self) -> Option<Nodes> {
        let shared = self.shared.clone().unwrap_or_default();
        Some([self.node.clone(), shared])
    }

    fn at(&self) -> Option<Instant> {
        None
    }

    fn is_merged(&self) -> bool {
        false
    }

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

    fn set_timer(self: Pin<&mut Self>, at: Instant) {
        self.project().timer.set(Some(sleep_until(at)));
    }

    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.project().timer.as_pin_mut();
        timer.map_or(Poll::Pending, |timer| poll_sleep(timer, cx))
    }

    fn error(&self, cause: Cause, _: Stage, spent: Option<Arc<Spent>>) -> Cancelled {
        Cancelled::new(cause).with_spent(spent)
    }
}
