//! What a call spends, put down while it runs.
//!
//! A call has one account, which the first of its attempts opens that spends something. Later
//! attempts get it through the context of their request, so an error tells of all of them.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "lm")]
use tokio::time::Instant;

use super::Spent;
use crate::drop_scope;

/// What all attempts of one call have spent.
#[derive(Debug)]
pub(crate) struct Account {
    #[cfg(feature = "lm")]
    pub(super) began: Instant,
    /// How many LM calls it keeps.
    #[cfg(feature = "lm")]
    pub(super) most: usize,
    state: Mutex<Spent>,
}

impl Account {
    /// How many LM calls an account keeps, unless it is told otherwise.
    pub(crate) const MOST: usize = 256;

    #[cfg(feature = "lm")]
    pub(crate) fn new(began: Instant, most: usize) -> Arc<Self> {
        Arc::new(Self {
            began,
            most,
            state: Mutex::default(),
        })
    }

    /// One that begins with what was `spent`, by a service that has no account of its own.
    fn beginning_with(spent: Spent) -> Arc<Self> {
        Arc::new(Self {
            #[cfg(feature = "lm")]
            began: Instant::now(),
            #[cfg(feature = "lm")]
            most: Self::MOST,
            state: Mutex::new(spent),
        })
    }

    /// What was spent so far; `None` if that is nothing.
    pub(crate) fn spent(self: &Arc<Self>) -> Option<Arc<Spent>> {
        let mut spent = self.lock().clone();
        if spent.is_nothing() {
            return None;
        }
        spent.account = Some(self.clone());
        Some(Arc::new(spent))
    }

    /// Reads what was spent so far.
    #[cfg(feature = "lm")]
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Spent) -> T) -> T {
        read(&self.lock())
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Spent> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of a call, in its context. Dropped by a layer that ends the call, it reports.
#[derive(Clone, Default)]
pub(crate) struct Carried(Option<Arc<Account>>);

impl Carried {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    #[cfg(any(feature = "python", all(feature = "lm", test)))]
    pub(crate) const fn new(account: Option<Arc<Account>>) -> Self {
        Self(account)
    }

    #[cfg(feature = "python")]
    pub(crate) const fn get(&self) -> Option<&Arc<Account>> {
        self.0.as_ref()
    }

    /// Goes on with the account that an attempt `spent` from.
    pub(crate) fn follow(&mut self, spent: &Spent) {
        self.0 = Some(match (self.0.take(), &spent.account) {
            (None, Some(account)) => account.clone(),
            (Some(mine), Some(account)) if Arc::ptr_eq(&mine, account) => mine,
            (None, None) => Account::beginning_with(spent.clone()),
            (Some(mine), _) => {
                let later = Arc::new(spent.clone());
                let both = match mine.spent() {
                    Some(earlier) => Spent::of_both(earlier, later),
                    None => later,
                };
                Account::beginning_with(Arc::unwrap_or_clone(both))
            }
        });
    }
}

impl Drop for Carried {
    #[inline]
    fn drop(&mut self) {
        if let Some(account) = &self.0
            && drop_scope::is_active()
            && let Some(spent) = account.spent()
        {
            drop_scope::report(spent);
        }
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map(|account| account.lock()).fmt(f)
    }
}
