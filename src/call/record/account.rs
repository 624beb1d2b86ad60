//! What a call spends, put down while it runs.
//!
//! Invariants:
//! 1. A call has one account, which the first of its attempts opens that spends something. Later
//!    attempts get it through the context of their request, so an error tells of all of them.
//! 2. Attempts that run beside each other may each have opened one. Where their readings meet, the
//!    one becomes part of the other, for all who hold it: nothing is counted twice.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

#[cfg(feature = "lm")]
use tokio::time::Instant;

use super::Spent;
use crate::call::drop_scope;

/// What all attempts of one call have spent.
#[derive(Debug)]
pub(crate) struct Account {
    #[cfg(feature = "lm")]
    pub(super) began: Instant,
    /// How many LM calls it keeps.
    #[cfg(feature = "lm")]
    pub(super) most: usize,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    spent: Spent,
    /// The account that this one is part of, and that has what was spent.
    part_of: Option<Arc<Account>>,
}

impl Account {
    /// How many LM calls an account keeps, unless it is told otherwise.
    pub(crate) const MOST: usize = 256;

    #[cfg(feature = "lm")]
    pub(crate) fn new(began: Instant, most: usize) -> Arc<Self> {
        Arc::new(Self {
            began,
            most,
            books: Mutex::default(),
        })
    }

    /// One that begins with, by a service that has no account of its own.
    fn beginning_with(spent: Spent) -> Arc<Self> {
        Arc::new(Self {
            #[cfg(feature = "lm")]
            began: Instant::now(),
            #[cfg(feature = "lm")]
            most: Self::MOST,
            books: Mutex::new(Books {
                spent,
                part_of: None,
            }),
        })
    }

    /// What was spent so far; `None` if that is nothing.
    pub(crate) fn spent(self: &Arc<Self>) -> Option<Arc<Spent>> {
        let mut spent = self.with(|spent| spent.clone());
        if spent.is_nothing() {
            return None;
        }
        spent.account = Some(self.clone());
        Some(Arc::new(spent))
    }

    /// Adds what was `spent` beside this account: all of another account, or by a service that has
    /// none.
    pub(super) fn take_over(self: &Arc<Self>, spent: &Spent) {
        static TAKING_OVER: Mutex<()> = Mutex::new(());

        let Some(other) = &spent.account else {
            self.with(|mine| mine.add(spent, Self::MOST));
            return;
        };
        // One after the other, or two could each become part of the other.
        let _turn = TAKING_OVER.lock().unwrap_or_else(PoisonError::into_inner);
        let (whole, part) = (self.whole(), other.whole());
        if !Arc::ptr_eq(&whole, &part) {
            let taken = {
                let mut books = part.lock();
                books.part_of = Some(whole.clone());
                std::mem::take(&mut books.spent)
            };
            whole.with(|mine| mine.add(&taken, Self::MOST));
        }
    }

    /// Whether both are, or are part of, one account.
    pub(super) fn is_one_with(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || Arc::ptr_eq(&self.whole(), &other.whole())
    }

    fn whole(self: &Arc<Self>) -> Arc<Self> {
        let part_of = self.lock().part_of.clone();
        part_of.map_or_else(|| self.clone(), |account| account.whole())
    }

    /// Reads or writes what was spent so far.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Spent) -> T) -> T {
        let mut books = self.lock();
        match books.part_of.clone() {
            None => f(&mut books.spent),
            Some(account) => {
                drop(books);
                account.with(f)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        // Nothing panics while it holds the lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The account of a call, in its context. Dropped by a layer that ends the call, it reports.
#[derive(Clone, Default)]
pub(crate) struct Carried(Option<Arc<Account>>);

impl Carried {
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    #[cfg(any(feature = "_host", all(feature = "lm", test)))]
    pub(crate) const fn new(account: Option<Arc<Account>>) -> Self {
        Self(account)
    }

    #[cfg(feature = "_host")]
    pub(crate) const fn get(&self) -> Option<&Arc<Account>> {
        self.0.as_ref()
    }

    /// Opens an account, if there is none.
    pub(crate) fn open(&mut self) {
        self.0
            .get_or_insert_with(|| Account::beginning_with(Spent::default()));
    }

    /// Whether there is an account.
    pub(crate) const fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// What was spent so far; `None` if that is nothing.
    pub(crate) fn spent(&self) -> Option<Arc<Spent>> {
        self.0.as_ref().and_then(Account::spent)
    }

    /// Goes on with the account that an attempt `spent` from, if it did.
    pub(crate) fn follow<'a>(&mut self, spent: impl Into<Option<&'a Arc<Spent>>>) {
        let Some(spent) = spent.into() else { return };
        match (&self.0, &spent.account) {
            (Some(mine), _) => mine.take_over(spent),
            (None, Some(account)) => self.0 = Some(account.clone()),
            (None, None) => self.0 = Some(Account::beginning_with(Spent::clone(spent))),
        }
    }
}

impl Drop for Carried {
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(account) = self.0.take() {
            report(account);
        }
    }
}

// Out of line and by value, so that requests without an account, which are many, need not lie in
// memory for the sake of their drop.
#[inline(never)]
fn report(account: Arc<Account>) {
    if drop_scope::is_active()
        && let Some(spent) = account.spent()
    {
        drop_scope::report(spent);
    }
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().and_then(Account::spent).fmt(f)
    }
}
