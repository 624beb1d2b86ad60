//! A loaded program, shared by the clones of its service.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::Schema;
use crate::{
    error::InvalidInput,
    host::{
        Host,
        core::{registry::Leases, spending::ProgramCounts},
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

/// What is another's once the program is replaced.
#[derive(Debug)]
struct Served {
    /// The names that a request may choose an LM by.
    lms: LmNames,
    leases: Option<Arc<Leases>>,
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
            served: RwLock::new(Served { lms, leases: None }),
            permits: Permits::new(max_in_flight, max_waiting),
            counts: Arc::new(ProgramCounts::new(name)),
        }
    }

    /// The same, with what it is loaded with.
    pub(super) fn holding(self, leases: Arc<Leases>) -> Self {
        self.write().leases = Some(leases);
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
    pub(super) fn leases(&self) -> Option<Arc<Leases>> {
        self.read().leases.clone()
    }

    /// Another has taken over, with these leases and LMs.
    #[cfg(feature = "workers")]
    pub(super) fn replaced(&self, mut leases: Leases, lms: LmNames) {
        let mut served = self.write();
        let before = served.leases.take();
        if let Some(program) = before.as_ref().and_then(|before| before.without_program()) {
            leases.hold_program(program);
        }
        *served = Served {
            lms,
            leases: Some(Arc::new(leases)),
        };
        drop(served);
        // LMs and tools are the user's: what they do as they are dropped holds nobody up.
        drop(before);
    }

    /// The same, as a sync program or as an async one.
    pub(super) fn blocking(mut self, yes: bool) -> Self {
        self.blocking = yes;
        self
    }
}
