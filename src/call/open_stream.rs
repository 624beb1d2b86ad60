//! A stream that goes on after the response of its call, with what the layers around the call hold
//! for as long as the call lasts.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::call::CallEnd;

/// A stream that a call was answered with. A clone is the same stream.
#[derive(Clone, Default)]
pub(crate) struct OpenStream(Arc<Mutex<OpenStreamState>>);

type Hold = Box<dyn FnOnce(CallEnd) + Send>;

#[derive(Default)]
struct OpenStreamState {
    ended: Option<CallEnd>,
    /// Of the innermost layer first.
    holds: Vec<Hold>,
}

impl OpenStream {
    fn state(&self) -> MutexGuard<'_, OpenStreamState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `on_end` when the stream ends; at once if it ends meanwhile.
    pub(crate) fn hold(&self, on_end: impl FnOnce(CallEnd) + Send + 'static) {
        let mut state = self.state();
        if let Some(end) = state.ended {
            drop(state);
            on_end(end);
        } else {
            state.holds.push(Box::new(on_end));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state().ended.is_none()
    }

    /// Ends the stream. Only the first end counts.
    pub(crate) fn end(&self, end: CallEnd) {
        let mut state = self.state();
        let end = *state.ended.get_or_insert(end);
        let holds = std::mem::take(&mut state.holds);
        // Outside the lock: what is held runs code of its own.
        drop(state);
        for hold in holds {
            hold(end);
        }
    }
}

impl fmt::Debug for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.state().ended;
        f.debug_struct("OpenStream")
            .field("ended", &ended)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::call::Progress;

    #[test]
    fn what_is_held_ends_with_the_stream_the_innermost_first() {
        let outer = Progress::none().inside();
        let inner = outer.inside();
        let stream = OpenStream::default();
        inner.open_stream(&stream);
        let (sender, ended) = channel();
        for (name, progress) in [("inner", &inner), ("outer", &outer)] {
            let sender = sender.clone();
            let hold = move |end| sender.send((name, end)).expect("it is received");
            progress.stream().expect("a stream").hold(hold);
        }
        assert!(ended.try_recv().is_err());
        stream.end(CallEnd::Completed);
        stream.end(CallEnd::Dropped);
        stream.hold(move |end| sender.send(("late", end)).expect("it is received"));
        let all: Vec<_> = ended.iter().collect();
        let expected = ["inner", "outer", "late"].map(|name| (name, CallEnd::Completed));
        assert_eq!(all, expected);
    }
}
