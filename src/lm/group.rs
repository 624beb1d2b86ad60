//! [`LmGroup`]: several LMs that a program calls as one.

use std::time::Duration;

use super::config_error::LmConfigError;

/// The members of an LM that is made of several, and how they are combined.
#[derive(Clone, Debug)]
pub(crate) struct LmGroup<M> {
    pub(crate) members: Vec<M>,
    pub(crate) combination: LmCombination,
}

/// How the members of a group answer for each other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum LmCombination {
    /// The next member takes over where one fails. `share` is the share of the time left that a
    /// member but the last has until its first content; `None` is an even one.
    Fallback { share: Option<f64> },
    /// The second member runs beside the first where that has no content after this time.
    Hedge { after: Duration },
}

impl<M> LmGroup<M> {
    /// # Errors
    /// If it has no members, or the share is none.
    pub(super) const fn check(&self) -> Result<(), LmConfigError> {
        match self.combination {
            _ if self.members.is_empty() => Err(LmConfigError::NoMembers),
            LmCombination::Fallback { share: Some(share) } if !(share > 0.0 && share < 1.0) => {
                Err(LmConfigError::FailoverShare { share })
            }
            _ => Ok(()),
        }
    }
}
