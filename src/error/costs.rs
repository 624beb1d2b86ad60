//! The costs that an error carries.

use std::{error::Error as StdError, sync::Arc};

use super::Classify;
use crate::call::Spent;

/// An error that is classified, and may carry what its call spent.
pub(crate) trait Costs: Classify + StdError + 'static {
    fn costs(&self) -> Option<&Arc<Spent>> {
        None
    }

    fn set_costs(&mut self, _: Arc<Spent>) {}
}

/// The costs in an error. They take no part in its equality: it is the same failure, whatever it
/// cost.
#[derive(Clone, Debug)]
pub(super) struct ErrorCosts(pub(super) Option<Arc<Spent>>);

impl PartialEq for ErrorCosts {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ErrorCosts {}

/// The methods of an error that has its costs in `$field`.
macro_rules! costs_in_field {
    ($error:ty, $($field:tt).+) => {
        impl $error {
            /// The same, with what the call had spent.
            #[must_use]
            pub fn with_spent(mut self, spent: impl Into<Option<Arc<Spent>>>) -> Self {
                self.$($field).+ = ErrorCosts(spent.into());
                self
            }

            /// What the call had spent until then; `None` if that is nothing, or was not reported.
            #[must_use]
            pub fn spent(&self) -> Option<&Spent> {
                self.$($field).+.0.as_deref()
            }
        }

        impl Costs for $error {
            fn costs(&self) -> Option<&Arc<Spent>> {
                self.$($field).+.0.as_ref()
            }

            fn set_costs(&mut self, spent: Arc<Spent>) {
                self.$($field).+ = ErrorCosts(Some(spent));
            }
        }
    };
}
pub(super) use costs_in_field;
