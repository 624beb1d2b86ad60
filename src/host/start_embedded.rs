//! The start of the one host in this process.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::host::{
    core::{host_core::HostCore, loop_monitor::LoopMonitor, runtime},
    embedded::{self, Embedded},
    env::{LinkedPython, libpython, python_home},
    handle::{Backend, Host},
    start_error::StartError,
};

/// The one host of this process, and what it was started with.
static STARTED: Mutex<Option<(Embedded, Host)>> = Mutex::const_new(None);

impl Embedded {
    /// Starts the interpreter, imports DSPy and makes one prediction on a canned answer, so that
    /// the host that is returned is warm. Takes about a second.
    ///
    /// A second start in a process returns the first host, if it asks for the same.
    ///
    /// # Errors
    /// If no venv fits, with the command that mends it; if the interpreter or DSPy does not start;
    /// if this process has already started another host, or stopped its one.
    pub async fn start(self) -> Result<Host, StartError> {
        // On a runtime of the process's own: a caller that gives up, or whose runtime ends, must
        // not leave an interpreter behind that nobody can reach.
        let starting = runtime::handle()
            .map_err(StartError::interpreter)?
            .spawn(self.start_once());
        starting
            .await
            .unwrap_or_else(|error| Err(StartError::interpreter(error)))
    }

    async fn start_once(self) -> Result<Host, StartError> {
        let mut started = STARTED.lock().await;
        if let Some((earlier, host)) = &*started {
            return match host.closed() {
                Some(reason) => Err(StartError::Over {
                    reason: reason.to_owned(),
                }),
                None if *earlier == self => Ok(host.clone()),
                None => Err(StartError::Another),
            };
        }
        let linked = LinkedPython::build_time()?.with_version(&embedded::linked_version());
        libpython::check(&linked)?;
        python_home::check(&linked)?;
        let env = self.venv.linked(&linked).await?;
        let mut core = HostCore::new(self.max_abandoned, env.dspy_version())
            .map_err(StartError::interpreter)?;
        core.budget = self.budget.clone();
        let monitor = Arc::<LoopMonitor>::default();
        let python = env.python().to_path_buf();
        let thread = embedded::launch(self.clone(), python, core.clone(), monitor.clone()).await?;
        let host = Host::new(core, Backend::Embedded(monitor), thread);
        *started = Some((self, host.clone()));
        Ok(host)
    }
}
