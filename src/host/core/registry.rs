//! A registry of the LMs and tools that Python names by number, with registrations that undo
//! themselves.
//!
//! A process may load programs for as long as it runs, one for each request even. The entries of a
//! program go with its last service and its last call in flight.

use std::{
    collections::HashMap,
    fmt, mem,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Entries by number. No number is given twice.
pub(crate) struct Registry<T> {
    next: AtomicUsize,
    entries: RwLock<HashMap<usize, Arc<T>>>,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self {
            next: AtomicUsize::new(0),
            entries: RwLock::default(),
        }
    }
}

impl<T: Send + Sync + 'static> Registry<T> {
    /// Adds an entry, which stays until the registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, entry: T) -> (usize, Registration) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(id, Arc::new(entry));
        let registry = self.clone();
        (id, Registration::new(move || registry.remove(id)))
    }

    pub(crate) fn get(&self, id: usize) -> Option<Arc<T>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(&id).cloned()
    }

    fn remove(&self, id: usize) {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.remove(&id);
        // Layers and tools are the user's: their drop runs outside the lock.
        drop(entries);
        drop(entry);
    }
}

/// A guard that undoes a registration when it is dropped.
pub(crate) struct Registration(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Registration {
    pub(crate) fn new(undo: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(undo)))
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(undo) = self.0.take() {
            undo();
        }
    }
}

/// The registrations of one program: of its LMs and tools, and once it is loaded its own.
#[derive(Default)]
pub(crate) struct Registrations {
    resources: Vec<Registration>,
    program: Mutex<Option<Registration>>,
}

impl Registrations {
    pub(crate) fn add(&mut self, resource: Registration) {
        self.resources.push(resource);
    }

    /// Sets the registration of the program itself; returns the one before.
    pub(crate) fn replace_program(&self, program: Option<Registration>) -> Option<Registration> {
        let mut current = self.program.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut current, program)
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrations").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_goes_with_its_registration_and_no_number_is_given_again() {
        let registry = Arc::<Registry<&str>>::default();
        let (first, registration) = registry.register("a");
        assert_eq!(registry.get(first).as_deref(), Some(&"a"));
        drop(registration);
        assert_eq!(registry.get(first), None);
        let (second, _registration) = registry.register("b");
        assert_ne!(first, second);
    }

    #[test]
    fn a_programs_registrations_go_with_it() {
        let registry = Arc::<Registry<&str>>::default();
        let mut registrations = Registrations::default();
        let (lm, registration) = registry.register("lm");
        registrations.add(registration);
        let (program, registration) = registry.register("program");
        registrations.replace_program(Some(registration));
        drop(registrations);
        assert_eq!((registry.get(lm), registry.get(program)), (None, None));
    }

    #[test]
    fn a_program_stays_when_its_registration_is_handed_on() {
        let registry = Arc::<Registry<&str>>::default();
        let (program, registration) = registry.register("program");
        let (before, after) = (Registrations::default(), Registrations::default());
        before.replace_program(Some(registration));
        after.replace_program(before.replace_program(None));
        drop(before);
        assert!(registry.get(program).is_some());
        drop(after);
        assert!(registry.get(program).is_none());
    }
}
