//! A bound for the labels whose values come from outside.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The label of the names past the bound.
pub(super) const OTHER: &str = "other";

/// The names that have a label of their own; all others are `other`.
#[derive(Debug)]
pub(super) struct BoundedNames {
    most: usize,
    names: Mutex<NameSets>,
}

#[derive(Debug)]
struct NameSets {
    /// The first that a program was loaded with. Names of requests take no place of theirs.
    loaded: BTreeSet<Arc<str>>,
    /// The first others that were asked for.
    asked: BTreeSet<Arc<str>>,
}

impl BoundedNames {
    /// At most `most` names that are loaded, and as many others.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            names: Mutex::new(NameSets {
                loaded: BTreeSet::new(),
                asked: BTreeSet::new(),
            }),
        }
    }

    /// The label for `name`.
    pub(super) fn label(&self, name: &str) -> Arc<str> {
        let mut names = self.lock();
        let known = names.loaded.get(name).or_else(|| names.asked.get(name));
        if let Some(known) = known {
            return known.clone();
        }
        if names.asked.len() >= self.most {
            return OTHER.into();
        }
        let name: Arc<str> = name.into();
        names.asked.insert(name.clone());
        name
    }

    /// Gives a label of its own to a name that a program is loaded with.
    #[cfg(any(test, feature = "lm"))]
    pub(super) fn load(&self, name: &str) {
        let mut names = self.lock();
        if names.loaded.len() < self.most && !names.loaded.contains(name) {
            names.loaded.insert(name.into());
        }
    }

    fn lock(&self) -> MutexGuard<'_, NameSets> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_past_the_bound_are_other_and_those_before_stay() {
        let names = BoundedNames::new(2);
        let labels = ["a", "b", "c", "a", "d"].map(|name| names.label(name));
        assert_eq!(
            labels.each_ref().map(|label| &**label),
            ["a", "b", "other", "a", "other"]
        );
    }

    #[test]
    fn names_of_requests_take_no_place_of_those_that_are_loaded() {
        let names = BoundedNames::new(2);
        for name in ["a", "b", "c"] {
            names.label(name);
        }
        for name in ["x", "y", "z"] {
            names.load(name);
        }
        let labels = ["x", "y", "z", "a", "c"].map(|name| names.label(name));
        assert_eq!(
            labels.each_ref().map(|label| &**label),
            ["x", "y", "other", "a", "other"]
        );
    }
}
