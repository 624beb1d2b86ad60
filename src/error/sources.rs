//! An error and its sources.

use std::{error::Error as StdError, iter};

use super::Error;

/// `error` and its sources, the outermost first, each without the [`Error`] around it.
pub(crate) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| (*error).source()).map(bare)
}

/// The error in an [`Error`]; any other error itself.
pub(crate) fn bare<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    match error.downcast_ref::<Error>() {
        Some(error) => error.inner(),
        None => error,
    }
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
