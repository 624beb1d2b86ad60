//! A model of tokio-util's token, which is not made of loom's types: a node's lock is held while
//! those below it fire, and it fires after them.

use std::sync::Arc;

use loom::sync::Mutex;

#[derive(Clone)]
pub(crate) struct CancellationToken(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    fired: bool,
    below: Vec<CancellationToken>,
}

/// Nothing waits for a token in the models.
pub(crate) struct WaitForCancellationFutureOwned;

impl CancellationToken {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State::default())))
    }

    pub(crate) fn child_token(&self) -> Self {
        let child = Self::new();
        let mut state = self.0.lock().unwrap();
        if state.fired {
            child.0.lock().unwrap().fired = true;
        } else {
            state.below.push(child.clone());
        }
        child
    }

    pub(crate) fn cancel(&self) {
        let mut state = self.0.lock().unwrap();
        for child in std::mem::take(&mut state.below) {
            child.cancel();
        }
        state.fired = true;
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.lock().unwrap().fired
    }

    pub(crate) fn cancelled_owned(self) -> WaitForCancellationFutureOwned {
        WaitForCancellationFutureOwned
    }
}
