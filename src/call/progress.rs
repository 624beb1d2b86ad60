//! The progress of a call, as seen by the layers around the work: whether it waits for a service to
//! be ready, and whether its answer is a stream that goes on.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use crate::call::{OpenStream, drop_scope};

/// The progress of the work inside a layer. The default shows nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Option<Arc<ProgressNode>>);

#[derive(Debug)]
struct ProgressNode {
    /// The number of services that the work waits for.
    waiting: AtomicUsize,
    /// The last wait that is over ended before the service was ready.
    wait_ended: AtomicBool,
    /// The last stream that the work answered with.
    stream: Mutex<Option<OpenStream>>,
    outer: Progress,
}

impl Progress {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Shows the progress inside a layer to that layer, and to those around it.
    pub(crate) fn inside(&self) -> Self {
        Self(Some(Arc::new(ProgressNode {
            waiting: AtomicUsize::new(0),
            wait_ended: AtomicBool::new(false),
            stream: Mutex::default(),
            outer: self.clone(),
        })))
    }

    /// Whether anything inside waits.
    pub(crate) fn waits(&self) -> bool {
        let waiting = |node: &Arc<ProgressNode>| node.waiting.load(Ordering::Acquire) > 0;
        self.0.as_ref().is_some_and(waiting)
    }

    /// Whether the last wait ended before the service was ready.
    pub(crate) fn wait_ended(&self) -> bool {
        let ended = |node: &Arc<ProgressNode>| node.wait_ended.load(Ordering::Acquire);
        self.0.as_ref().is_some_and(ended)
    }

    /// Counts one wait until the returned guard is dropped.
    pub(crate) fn begin_wait(&self) -> WaitGuard {
        self.each(|node| {
            node.waiting.fetch_add(1, Ordering::AcqRel);
        });
        WaitGuard {
            progress: self.clone(),
            ready: false,
        }
    }

    /// The work answers with a stream, which goes on after its response.
    pub(crate) fn open_stream(&self, stream: &OpenStream) {
        self.each(|node| *node.stream() = Some(stream.clone()));
    }

    /// The stream that the work answered with, unless it has ended: then a service inside has read it,
    /// and the response is another.
    pub(crate) fn stream(&self) -> Option<OpenStream> {
        let stream = self.0.as_ref()?.stream().clone();
        stream.filter(OpenStream::is_open)
    }

    fn each(&self, change: impl Fn(&ProgressNode)) {
        let mut next = self;
        while let Some(node) = &next.0 {
            change(node);
            next = &node.outer;
        }
    }
}

impl ProgressNode {
    fn stream(&self) -> MutexGuard<'_, Option<OpenStream>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wait. Dropped by a layer that ends the call, it reports that the call still waited.
#[derive(Debug)]
pub(crate) struct WaitGuard {
    progress: Progress,
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
        self.progress.each(|node| {
            node.wait_ended.store(!self.ready, Ordering::Release);
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
        let outer = Progress::none().inside();
        let [one, other] = [(); 2].map(|()| outer.inside());
        let wait = one.begin_wait();
        assert!(outer.waits() && one.waits() && !other.waits());
        wait.ready();
        assert!(!outer.waits() && !one.waits() && !outer.wait_ended());
        drop(other.begin_wait());
        assert!(outer.wait_ended() && !outer.waits() && !one.wait_ended());
    }

    #[test]
    fn a_dropped_wait_is_reported_to_the_layer_that_drops_it() {
        let wait = Progress::none().begin_wait();
        let end = |drop: &mut dyn FnMut()| drop_scope::end(Cause::Deadline, None, drop).waited;
        let mut wait = Some(wait);
        assert!(end(&mut || drop(wait.take())));
        assert!(!end(&mut || ()));
    }
}
