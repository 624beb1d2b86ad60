//! What Python knows by a number: LMs, tools and programs, each for as long as somebody needs it.
//!
//! A process may load programs for as long as it runs, one for each request even. What is loaded
//! goes again with the last service of the program and the last call that it has in flight.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;

use super::inbox::{Control, Inbox};

/// Things by their numbers, of which none is given twice.
pub(crate) struct Registry<T> {
    next: AtomicUsize,
    things: RwLock<HashMap<usize, Arc<T>>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            next: AtomicUsize::new(0),
            things: RwLock::default(),
        }
    }
}

impl<T> Registry<T> {
    pub(crate) fn add(&self, thing: T) -> usize {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        things.insert(id, Arc::new(thing));
        id
    }

    pub(crate) fn get(&self, id: usize) -> Option<Arc<T>> {
        let things = self.things.read().unwrap_or_else(PoisonError::into_inner);
        things.get(&id).cloned()
    }

    fn remove(&self, id: usize) {
        let mut things = self.things.write().unwrap_or_else(PoisonError::into_inner);
        let thing = things.remove(&id);
        // Layers and tools are the user's: what they do as they are dropped holds nobody up.
        drop(things);
        drop(thing);
    }
}

/// A number in use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Numbered {
    Lm(usize),
    Tool(usize),
    /// A program or a function, by the runner's number.
    Target(u64),
}

/// What a program was loaded with, and once it is the program itself: forgotten when this is
/// dropped.
pub(crate) struct Leases {
    inbox: Arc<Inbox>,
    held: Mutex<Vec<Numbered>>,
}

impl Leases {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        let held = Mutex::new(Vec::new());
        Self { inbox, held }
    }

    pub(crate) fn hold(&mut self, number: Numbered) {
        let held = self.held.get_mut();
        held.unwrap_or_else(PoisonError::into_inner).push(number);
    }

    /// The answer to a loading, with all that its program has while it is held.
    pub(crate) fn with_program(mut self, loaded: Value) -> (Value, Self) {
        if let Some(id) = loaded.get("id").and_then(Value::as_u64) {
            self.hold(Numbered::Target(id));
        }
        (loaded, self)
    }
}

#[cfg(feature = "workers")]
impl Leases {
    /// Lets go of the program itself, which others hold from now on.
    pub(crate) fn without_program(&self) -> Option<Program> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let is_program = |number: &Numbered| matches!(number, Numbered::Target(_));
        let at = held.iter().position(is_program)?;
        Some(Program(held.swap_remove(at)))
    }

    pub(crate) fn hold_program(&mut self, program: Program) {
        self.hold(program.0);
    }
}

/// A program that is handed from some leases to others.
#[cfg(feature = "workers")]
pub(crate) struct Program(Numbered);

impl Drop for Leases {
    fn drop(&mut self) {
        let held = self.held.get_mut();
        for number in held.unwrap_or_else(PoisonError::into_inner).drain(..) {
            match number {
                Numbered::Lm(id) => self.inbox.lms.remove(id),
                Numbered::Tool(id) => self.inbox.tools.remove(id),
                Numbered::Target(id) => self.inbox.push(Control::Unload(id)),
            }
        }
    }
}

impl fmt::Debug for Leases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leases").field(&self.held).finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::lm::Lm;

    #[test]
    fn what_a_program_held_goes_with_it_and_no_number_is_given_again() {
        let inbox = Arc::new(Inbox::new(0).expect("an eventfd"));
        let lm = || {
            let lm = Lm::new("openai/x").base_url("http://127.0.0.1:9").key("k");
            lm.connect().expect("it is complete")
        };
        let mut leases = Leases::new(inbox.clone());
        let first = inbox.lms.add(lm());
        leases.hold(Numbered::Lm(first));
        let (_, leases) = leases.with_program(json!({"id": 7}));
        assert!(inbox.lms.get(first).is_some() && inbox.next_control().is_none());
        drop(leases);
        assert!(inbox.lms.get(first).is_none());
        assert!(matches!(inbox.next_control(), Some(Control::Unload(7))));
        assert_ne!(inbox.lms.add(lm()), first);
    }
}
