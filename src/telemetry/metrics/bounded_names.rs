//! A bound for the labels whose values come from outside.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The label of the names past the bound.
const OTHER: &str = "other";

/// The first names that were asked for; all others are `other`.
#[derive(Debug)]
pub(super) struct BoundedNames {
    most: usize,
    names: Mutex<BTreeSet<Arc<str>>>,
}

impl BoundedNames {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            names: Mutex::new(BTreeSet::new()),
        }
    }

    /// The label for `name`.
    pub(super) fn label(&self, name: &str) -> Arc<str> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(name) {
            return known.clone();
        }
        if names.len() >= self.most {
            return OTHER.into();
        }
        let name: Arc<str> = name.into();
        names.insert(name.clone());
        name
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
}
