//! An error and its sources.

use std::{error::Error as StdError, iter};

/// `error` and its sources, the outermost first.
pub(crate) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

/// The messages of `error` and its sources, without those that repeat their source.
#[cfg(feature = "lm")]
pub(crate) fn messages(error: &(dyn StdError + 'static)) -> String {
    sources(error).fold(String::new(), |mut all, error| {
        let message = error.to_string();
        if all.is_empty() {
            all = message;
        } else if !all.contains(&message) {
            all.extend([": ", &message]);
        }
        all
    })
}
