//! The alarm of the layers that cancel.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{Alarm, clock::poll_sleep};
use crate::{Cancel, Cancelled, Cause, Stage};

pin_project! {
    /// Rings when a call's node is cancelled, or a node shared by many calls.
    pub(crate) struct Watch {
        node: Cancel,
        shared: Option<Cancel>,
        #[pin]
        bell: Bell,
        // Rare enough to keep it from the size of every call.
        shared_bell: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    }
}

pin_project! {
    /// Waits for the node and, once that is cancelled, for the end of the grace: never for both.
    #[project = BellProj]
    enum Bell {
        Unset,
        Node { #[pin] wait: WaitForCancellationFutureOwned },
        Grace { #[pin] timer: Sleep },
    }
}

impl Watch {
    /// Rings when `node` is cancelled; or `shared`, which then cancels `node` too.
    #[inline]
    pub(crate) const fn new(node: Cancel, shared: Option<Cancel>) -> Self {
        Self {
            node,
            shared,
            bell: Bell::Unset,
            shared_bell: None,
        }
    }
}

impl Alarm for Watch {
    type Error = Cancelled;

    const CANCELS: bool = true;

    fn at(&self) -> Option<Instant> {
        None
    }

    fn is_merged(&self) -> bool {
        false
    }

    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let mut this = self.project();
        if let BellProj::Unset = this.bell.as_mut().project() {
            let Some(wait) = this.node.cancelled_owned() else {
                return Poll::Pending;
            };
            this.bell.set(Bell::Node { wait });
            let shared = this.shared.as_ref().and_then(Cancel::cancelled_owned);
            *this.shared_bell = shared.map(Box::pin);
        }
        let mut rung = match this.bell.project() {
            BellProj::Node { wait } => wait.poll(cx).is_ready(),
            BellProj::Unset | BellProj::Grace { .. } => true,
        };
        if let Some(wait) = this.shared_bell
            && wait.as_mut().poll(cx).is_ready()
        {
            let cause = this.shared.as_ref().and_then(Cancel::cause);
            this.node.cancel(cause.unwrap_or(Cause::Caller));
            rung = true;
        }
        if rung {
            Poll::Ready(this.node.cause().unwrap_or(Cause::Caller))
        } else {
            Poll::Pending
        }
    }

    fn set_timer(self: Pin<&mut Self>, at: Instant) {
        let mut this = self.project();
        *this.shared_bell = None;
        this.bell.set(Bell::Grace {
            timer: sleep_until(at),
        });
    }

    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project().bell.project() {
            BellProj::Grace { timer } => poll_sleep(timer, cx),
            BellProj::Unset | BellProj::Node { .. } => Poll::Pending,
        }
    }

    fn error(&self, cause: Cause, _: Stage) -> Cancelled {
        Cancelled::new(cause)
    }
}
