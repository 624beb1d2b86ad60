//! Whether a call waits for a service to be ready, as seen by the layers around the wait.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::call::drop_scope;

/// The number of services that the work inside a layer waits for. The default counts nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waits(Option<Arc<WaitsNode>>);

#[derive(Debug)]
struct WaitsNode {
    waiting: AtomicUsize,
    /// The last wait that is over ended before the service was ready.
    ended: AtomicBool,
    outer: Waits,
}

impl Waits {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Counts the waits inside a layer for that layer, and for those around it.
    pub(crate) fn inside(&self) -> Self {
        Self(Some(Arc::new(WaitsNode {
            waiting: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            outer: self.clone(),
        })))
    }

    /// Whether anything inside waits.
    pub(crate) fn any(&self) -> bool {
        let waiting = |node: &Arc<WaitsNode>| node.waiting.load(Ordering::Acquire) > 0;
        self.0.as_ref().is_some_and(waiting)
    }

    /// Whether the last wait ended before the service was ready.
    pub(crate) fn ended(&self) -> bool {
        let ended = |node: &Arc<WaitsNode>| node.ended.load(Ordering::Acquire);
        self.0.as_ref().is_some_and(ended)
    }

    /// Counts one wait until the returned guard is dropped.
    pub(crate) fn begin(&self) -> WaitGuard {
        self.each(|node| {
            node.waiting.fetch_add(1, Ordering::AcqRel);
        });
        WaitGuard {
            waits: self.clone(),
            ready: false,
        }
    }

    fn each(&self, change: impl Fn(&WaitsNode)) {
        let mut next = self;
        while let Some(node) = &next.0 {
            change(node);
            next = &node.outer;
        }
    }
}

/// One wait. Dropped by a layer that ends the call, it reports that the call still waited.
#[derive(Debug)]
pub(crate) struct WaitGuard {
    waits: Waits,
    ready: bool,
}

impl WaitGuard {
    /// The service is ready.
    pub(crate) fn ready(mut self) {
        self.ready = true;
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.waits.each(|node| {
            node.ended.store(!self.ready, Ordering::Release);
            node.waiting.fetch_sub(1, Ordering::AcqRel);
        });
        if !self.ready {
            drop_scope::report_wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Cause;

    #[test]
    fn a_wait_is_seen_by_all_layers_around_it_and_by_no_other() {
        let outer = Waits::none().inside();
        let [one, other] = [(); 2].map(|()| outer.inside());
        let wait = one.begin();
        assert!(outer.any() && one.any() && !other.any());
        wait.ready();
        assert!(!outer.any() && !one.any() && !outer.ended());
        drop(other.begin());
        assert!(outer.ended() && !outer.any() && !one.ended());
    }

    #[test]
    fn a_dropped_wait_is_reported_to_the_layer_that_drops_it() {
        let wait = Waits::none().begin();
        let end = |drop: &mut dyn FnMut()| drop_scope::end(Cause::Deadline, None, drop).waited;
        let mut wait = Some(wait);
        assert!(end(&mut || drop(wait.take())));
        assert!(!end(&mut || ()));
    }
}
