//! The costs that an error carries, and the id of its call.

use std::{error::Error as StdError, mem, sync::Arc};

use super::Classify;
use crate::call::{CallId, Spent};

/// An error that is classified, and may carry the id of its call and what that spent.
pub(crate) trait Costs: Classify + StdError + 'static {
    fn costs(&self) -> Option<&Arc<Spent>> {
        None
    }

    fn set_costs(&mut self, _: Arc<Spent>) {}

    /// Costs and ids in one.
    fn carried(&self) -> Option<&ErrorCosts> {
        None
    }

    fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
        None
    }
}

/// The costs in an error, with the id of its call. They take no part in its equality: it is the same
/// failure, whatever it cost.
#[derive(Clone)]
pub(crate) struct ErrorCosts(Option<Arc<Spent>>);

impl ErrorCosts {
    pub(super) const NONE: Self = Self(None);

    /// The costs; `None` if there is only an id.
    pub(super) fn get(&self) -> Option<&Arc<Spent>> {
        self.0.as_ref().filter(|spent| !spent.is_only_ids())
    }

    /// Replaces the costs, and keeps the ids.
    pub(super) fn set(&mut self, spent: Option<Arc<Spent>>) {
        let former = mem::replace(&mut self.0, spent);
        let Some(former) = former else { return };
        if former.call_id.is_some() || former.remote_call_id.is_some() {
            self.set_ids(former.call_id, former.remote_call_id);
        }
    }

    pub(crate) fn call_id(&self) -> Option<CallId> {
        self.0.as_ref()?.call_id
    }

    pub(crate) fn remote_call_id(&self) -> Option<CallId> {
        self.0.as_ref()?.remote_call_id
    }

    /// Adds the ids that are missing.
    pub(crate) fn set_ids(&mut self, call: Option<CallId>, remote: Option<CallId>) {
        let known = self.0.as_deref();
        let has = |id: fn(&Spent) -> Option<CallId>| known.and_then(id).is_some();
        let call = call.filter(|_| !has(|spent| spent.call_id));
        let remote = remote.filter(|_| !has(|spent| spent.remote_call_id));
        if call.is_none() && remote.is_none() {
            return;
        }
        let spent = Arc::make_mut(self.0.get_or_insert_default());
        spent.call_id = spent.call_id.or(call);
        spent.remote_call_id = spent.remote_call_id.or(remote);
    }
}

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
                self.$($field).+.set(spent.into());
                self
            }

            /// What the call had spent until then; `None` if that is nothing, or was not reported.
            #[must_use]
            pub fn spent(&self) -> Option<&Spent> {
                self.$($field).+.get().map(|spent| &**spent)
            }
        }

        impl Costs for $error {
            fn costs(&self) -> Option<&Arc<Spent>> {
                self.$($field).+.get()
            }

            fn set_costs(&mut self, spent: Arc<Spent>) {
                self.$($field).+.set(Some(spent));
            }

            fn carried(&self) -> Option<&ErrorCosts> {
                Some(&self.$($field).+)
            }

            fn carried_mut(&mut self) -> Option<&mut ErrorCosts> {
                Some(&mut self.$($field).+)
            }
        }

        call_id_in_field!($error, $($field).+);
    };
}
pub(super) use costs_in_field;

/// The methods of an error that has the id of its call in `$field`.
macro_rules! call_id_in_field {
    ($error:ty, $($field:tt).+) => {
        impl $error {
            /// The id of the call, if a layer or the service had given it one.
            #[must_use]
            pub fn call_id(&self) -> Option<CallId> {
                self.$($field).+.call_id()
            }

            /// The same, of the call with this id; the first id stays.
            #[must_use]
            pub fn with_call_id(mut self, id: impl Into<Option<CallId>>) -> Self {
                self.$($field).+.set_ids(id.into(), None);
                self
            }
        }
    };
}
pub(super) use call_id_in_field;
