//! The innermost service: one program.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use tower::Service;

use super::{PredictFuture, Schema, Typed, program::Program};
use crate::{
    Error, PredictRequest, Prediction, bridge,
    innermost::{Stop, Turn},
};

/// A DSPy program as a [`tower::Service`], from [`Host::load`](crate::Host::load).
///
/// # What it does to a request
/// It checks the inputs against the program's schema, refuses a request whose deadline has passed
/// or that is already cancelled, and hands it to Python. Dropping the returned future cancels the
/// work there.
///
/// # Readiness
/// `poll_ready` waits for one of `max_in_flight` permits. The permit moves into the work and comes
/// back when that has really ended: after a timeout, not before the Python work stopped. With
/// `max_waiting` calls waiting already it is ready at once, and the call answers
/// [`Overloaded`](crate::Overloaded): an error from `poll_ready` would say that the service is dead.
///
/// # Limits
/// A deadline in the request's context is kept, and a cancelled context ends the call, also
/// without a layer. Layers add the rest, and grace for clean-up.
#[derive(Debug)]
pub struct DspyService {
    program: Arc<Program>,
    turn: Turn,
}

impl DspyService {
    pub(super) fn new(program: Arc<Program>) -> Self {
        Self {
            program,
            turn: Turn::Idle,
        }
    }

    /// What the program takes and gives.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        &self.program.schema
    }

    /// The program, as it was asked for.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program.name
    }

    /// How many calls of this program are in flight: their work has not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.program.permits.in_flight()
    }

    /// The same service with the inputs and outputs as structs.
    #[must_use]
    pub fn typed<In, Out>(self) -> Typed<Self, In, Out> {
        Typed::new(self)
    }

    fn admit(&self, request: &PredictRequest) -> Result<(), Error> {
        let program = &*self.program;
        program.schema.check(&program.name, request.inputs())?;
        if let Some(error) = Stop::refuse(request.context_ref()) {
            return Err(error);
        }
        match program.host.closed() {
            Some(reason) => Err(bridge::lost(reason)),
            None => Ok(()),
        }
    }
}

/// A clone waits for a permit of its own.
impl Clone for DspyService {
    fn clone(&self) -> Self {
        Self::new(self.program.clone())
    }
}

impl Service<PredictRequest> for DspyService {
    type Response = Prediction;
    type Error = Error;
    type Future = PredictFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.turn.poll(&self.program.permits, cx).map(Ok)
    }

    /// # Panics
    /// Never: a call without readiness answers [`Overloaded`](crate::Overloaded).
    fn call(&mut self, request: PredictRequest) -> PredictFuture {
        let program = &self.program;
        let Some(permit) = self.turn.take(&program.permits) else {
            return PredictFuture::refused(program.permits.overloaded(&program.name).into());
        };
        match self.admit(&request) {
            Ok(()) => PredictFuture::submit(self.program.clone(), request, permit),
            Err(error) => PredictFuture::refused(error),
        }
    }
}
