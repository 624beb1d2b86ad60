//! The start of a host with worker processes.

use std::sync::Arc;

use super::{
    handle::{Backend, Host},
    start_error::StartError,
    workers::Workers,
};

impl Workers {
    /// Starts the workers. DSPy is imported and makes one prediction on a canned answer, so that
    /// the host that is returned is warm. Takes about a second, once there is a venv.
    ///
    /// # Errors
    /// If no venv fits, with the command that mends it; if one of the workers does not start.
    ///
    /// # Cancel safety
    /// Dropping the future ends what was started, but the making of a venv, which goes on.
    pub async fn start(self) -> Result<Host, StartError> {
        let (core, pool, thread) = self.start_pool().await?;
        Ok(Host::new(core, Backend::Workers(Arc::new(pool)), thread))
    }
}
