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

/// Rings when a call's node is cancelled, or a node shared by many calls.
pub(crate) struct Watch {
    node: Cancel,
    shared: Option<Cancel>,
    // Boxed, for few calls have one: it would make all of them half as large again.
    bell: Option<Pin<Box<Bell>>>,
    shared_bell: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
}

pin_project! {
    /// Waits for the node and, once that is cancelled, for the end of the grace: never for both.
    #[project = BellProj]
    enum Bell {
        Node { #[pin] wait: WaitForCancellationFutureOwned },
        Grace { #[pin] timer: Sleep },
    }
}

impl Watch {
    /// Rings when `node` is cancelled; or `shared`, which then cancels `node` too.
    #[inline(always)]
    pub(crate) const fn new(node: Cancel, shared: Option<Cancel>) -> Self {
        Self {
            node,
            shared,
            bell: None,
            shared_bell: None,
        }
    }
}

impl Alarm for Watch {
    type Error = Cancelled;

    const CANCELS: bool = true;

    #[inline(always)]
    fn may_ring(&self) -> bool {
        self.node.is_some()
    }

    fn nodes(&self) -> Option<Nodes> {
        let shared = self.shared.clone().unwrap_or_default();
        Some([self.node.clone(), shared])
    }

    #[inline(always)]
    fn at(&self) -> Option<Instant> {
        None
    }

    fn is_merged(&self) -> bool {
        false
    }

    fn poll_ring(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Cause> {
        let this = self.get_mut();
        let bell = match &mut this.bell {
            Some(bell) => bell,
            bell => {
                let Some(wait) = this.node.cancelled_owned() else {
                    return Poll::Pending;
                };
                let shared = this.shared.as_ref().and_then(Cancel::cancelled_owned);
                this.shared_bell = shared.map(Box::pin);
                bell.insert(Box::pin(Bell::Node { wait }))
            }
        };
        let mut rung = match bell.as_mut().project() {
            BellProj::Node { wait } => wait.poll(cx).is_ready(),
            BellProj::Grace { .. } => true,
        };
        if let Some(wait) = &mut this.shared_bell
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
        let this = self.get_mut();
        this.shared_bell = None;
        let timer = sleep_until(at);
        match &mut this.bell {
            Some(bell) => bell.set(Bell::Grace { timer }),
            bell => *bell = Some(Box::pin(Bell::Grace { timer })),
        }
    }

    fn poll_timer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self
            .get_mut()
            .bell
            .as_mut()
            .map(|bell| bell.as_mut().project())
        {
            Some(BellProj::Grace { timer }) => poll_sleep(timer, cx),
            Some(BellProj::Node { .. }) | None => Poll::Pending,
        }
    }

    fn error(&self, cause: Cause, _: Stage, spent: Option<Arc<Spent>>) -> Cancelled {
        Cancelled::new(cause).with_spent(spent)
    }
}
