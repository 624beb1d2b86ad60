//! The wait of a layer between two attempts at a call.

use std::{future::poll_fn, mem, task::Poll};

use tokio::time::timeout_at;

use crate::call::{Cancel, Deadline};

/// Waits until the work below `node` has ended, and returns whether it ended before `by`. That of
/// [`Cancel::none`] has.
pub(super) async fn settled_by(node: &Cancel, by: Option<Deadline>) -> bool {
    let Some(by) = by.filter(|_| node.is_some()) else {
        node.settled().await;
        return true;
    };
    timeout_at(by.instant(), node.settled()).await.is_ok() && !by.is_past()
}

/// Pending once. The layer that ends the call is around this one and polls its work first: an answer
/// now would win the tie and hide what happened. If there is none, the answer comes with the next
/// poll.
pub(super) async fn pending_once() {
    let mut was_pending = false;
    poll_fn(|cx| {
        if mem::replace(&mut was_pending, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
