//! The start of a pool of workers.

use std::{sync::Arc, thread::Builder};

use tokio::{
    runtime,
    sync::{mpsc, oneshot},
};

use super::{
    exchanges::Exchanges, handle::PoolHandle, pool::Pool, process::EVENTS, settings::Workers,
    stats::SharedStats, supervisor::Supervisor,
};
use crate::host::{
    core::{host_core::HostCore, host_thread::HostThread},
    start_error::StartError,
};

impl Workers {
    /// Starts the pool, and waits until all workers are ready. Dropping the future ends the pool.
    pub(crate) async fn start_pool(
        mut self,
    ) -> Result<(HostCore, PoolHandle, HostThread), StartError> {
        let env = self.venv.standalone().await?;
        // Read once: workers that are started later get the same folders.
        if self.spawn.python_path.is_empty() {
            self.spawn.working_dir = std::env::current_dir().ok();
        }
        self.spawn.require_utf8()?;
        self.spawn.python = env.python().to_path_buf();
        let mut core =
            HostCore::new(usize::MAX, env.dspy_version()).map_err(StartError::interpreter)?;
        core.budget = self.budget.take();
        let stats = Arc::<SharedStats>::default();
        let workers = PoolHandle {
            stats: stats.clone(),
            queue: core.queue.clone(),
        };
        let (ready, started) = oneshot::channel();
        let shared = core.clone();
        let builder = Builder::new().name("tower-dspy-workers".into());
        let queue = core.queue.clone();
        let run = move || {
            let (sender, events) = mpsc::channel(EVENTS);
            let pool = Pool {
                supervisor: Supervisor::new(core, self, stats, sender, ready),
                exchanges: Exchanges::default(),
                events,
            };
            // `Supervisor::fill` starts the zygote; when that is warm, workers are forked from it.
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(pool.run())) {
                tracing::error!(target: "tower_dspy", %error, "the pool of workers failed");
            }
        };
        let thread = HostThread::spawn(builder, queue, "its workers were stopped", run);
        let thread = thread.map_err(StartError::interpreter)?;
        let ended = |_| Err(StartError::interpreter("the pool's thread ended"));
        started.await.unwrap_or_else(ended)?;
        Ok((shared, workers, thread))
    }
}
