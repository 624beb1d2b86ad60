//! A loaded program, shared by the clones of its service.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Schema;
use crate::{
    error::InvalidInput,
    host::{
        Host,
        core::{program_counts::ProgramCounts, registry::Registrations},
    },
    service::{admission::Permits, lm_names::LmNames},
};

#[derive(Debug)]
pub(super) struct Program {
    pub(super) host: Host,
    pub(super) name: Box<str>,
    pub(super) target: u64,
    pub(super) schema: Schema,
    /// It is sync: its calls take a thread each.
    pub(super) blocking: bool,
    served: RwLock<Served>,
    pub(super) permits: Permits,
    pub(super) counts: Arc<ProgramCounts>,
}

/// The part that a replacement of the program changes.
#[derive(Debug)]
struct Served {
    /// The names that a request may choose an LM by.
    lms: LmNames,
    registrations: Option<Arc<Registrations>>,
}

impl Program {
    pub(super) fn new(
        host: Host,
        name: &str,
        target: u64,
        schema: Schema,
        lms: LmNames,
        max_in_flight: usize,
        max_waiting: usize,
    ) -> Self {
        Self {
            host,
            name: name.into(),
            target,
            schema,
            blocking: false,
            served: RwLock::new(Served {
                lms,
                registrations: None,
            }),
            permits: Permits::new(max_in_flight, max_waiting),
            counts: Arc::new(ProgramCounts::new(name)),
        }
    }

    /// The same, with the registrations that it needs.
    pub(super) fn holding(self, registrations: Arc<Registrations>) -> Self {
        self.write().registrations = Some(registrations);
        self
    }

    fn write(&self) -> RwLockWriteGuard<'_, Served> {
        self.served.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> RwLockReadGuard<'_, Served> {
        self.served.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses the name of an LM that the program was not loaded with.
    pub(super) fn check_lm(&self, asked: Option<&str>) -> Result<(), InvalidInput> {
        self.read().lms.check(&self.name, asked)
    }

    /// Held by the calls in flight as well: their work may go on when all services are gone.
    pub(super) fn registrations(&self) -> Option<Arc<Registrations>> {
        self.read().registrations.clone()
    }

    /// Another program has taken over, with these registrations and LMs.
    #[cfg(feature = "workers")]
    pub(super) fn replaced(&self, registrations: Registrations, lms: LmNames) {
        let mut served = self.write();
        let before = served.registrations.take();
        if let Some(before) = &before {
            registrations.replace_program(before.replace_program(None));
        }
        *served = Served {
            lms,
            registrations: Some(Arc::new(registrations)),
        };
        drop(served);
        // LMs and tools are the user's: their drop runs outside the lock.
        drop(before);
    }

    /// The same, as a sync program or as an async one.
    pub(super) fn blocking(mut self, yes: bool) -> Self {
        self.blocking = yes;
        self
    }
}
