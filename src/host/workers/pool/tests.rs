use std::sync::Arc;

use tokio::sync::oneshot;

use super::*;
use crate::{
    call::Cause,
    host::{
        core::host_core::{HostCore, NewCall},
        workers::Workers,
    },
};

/// A pool that has started no process.
fn pool(core: &HostCore) -> Pool {
    let (sender, events) = mpsc::channel(1);
    let (starting, _) = oneshot::channel();
    let settings = Workers::new(1);
    Pool {
        supervisor: Supervisor::new(core.clone(), settings, Arc::default(), sender, starting),
        exchanges: Exchanges::default(),
        events,
    }
}

#[tokio::test]
async fn a_call_that_is_cancelled_while_no_worker_is_ready_frees_its_permit() {
    let core = HostCore::new(usize::MAX, "3.4.1").unwrap();
    let mut pool = pool(&core);
    let permits = Arc::new(());
    let submit = || {
        core.submit(NewCall {
            permit: Some(Box::new(permits.clone())),
            ..NewCall::default()
        })
    };
    let calls = [submit(), submit(), submit()];
    calls[1].cancel(Cause::Deadline);
    pool.drain();
    assert_eq!(Arc::strong_count(&permits), 3);
    let stats = core.stats();
    assert_eq!((stats.queued, stats.settled), (2, 1));
    let [first, cancelled, last] = calls;
    assert!(cancelled.await.unwrap().is_err());
    let order = [core.queue.pop_call(), core.queue.pop_call()].map(|call| call.unwrap().sequence);
    assert!(order.is_sorted(), "{order:?}");
    drop((first, last));
}
