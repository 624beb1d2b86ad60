//! A loaded program, shared by the clones of its service.

use std::sync::Arc;

use super::Schema;
use crate::{
    Host,
    bridge::{Leases, ProgramCounts},
    innermost::{LmNames, Permits},
};

#[derive(Debug)]
pub(super) struct Program {
    pub(super) host: Host,
    pub(super) name: Box<str>,
    pub(super) target: u64,
    pub(super) schema: Schema,
    /// It is sync: its calls take a thread each.
    pub(super) blocking: bool,
    /// The names that a request may choose an LM by.
    pub(super) lms: LmNames,
    pub(super) permits: Permits,
    pub(super) counts: Arc<ProgramCounts>,
    /// Held by the calls in flight as well: their work may go on when all services are gone.
    pub(super) leases: Option<Arc<Leases>>,
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
            lms,
            permits: Permits::new(max_in_flight, max_waiting),
            counts: Arc::new(ProgramCounts::new(name)),
            leases: None,
        }
    }

    /// The same, with what it is loaded with.
    pub(super) fn holding(mut self, leases: Arc<Leases>) -> Self {
        self.leases = Some(leases);
        self
    }

    /// The same, as a sync program or as an async one.
    pub(super) fn blocking(mut self, yes: bool) -> Self {
        self.blocking = yes;
        self
    }
}
