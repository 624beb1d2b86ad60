//! The costs that an error carries.

use std::sync::Arc;

use crate::call::Spent;

/// An error that carries what its call spent.
pub(crate) trait Costs {
    fn costs(&self) -> Option<&Arc<Spent>>;

    fn set_costs(&mut self, spent: Arc<Spent>);
}
