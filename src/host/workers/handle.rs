//! The hosts' handle to a pool of workers.

use std::{sync::Arc, time::Duration};

use super::{
    life::WorkerState,
    stats::{SharedStats, WorkerProcess, WorkerStats},
};
use crate::host::core::{health::Health, queue::CommandQueue};

/// A handle to a pool. Stops the pool when the last of them is dropped.
pub(crate) struct PoolHandle {
    pub(super) stats: Arc<SharedStats>,
    pub(super) queue: Arc<CommandQueue>,
}

impl PoolHandle {
    pub(crate) fn stats(&self) -> WorkerStats {
        self.stats.read()
    }

    /// How a pool that runs is: as the best of the workers that take calls.
    pub(crate) fn health(&self) -> Health {
        best(&self.stats.read().processes)
    }

    /// How late the heartbeats of the workers that take calls are: the latest.
    #[cfg(feature = "metrics")]
    pub(crate) fn loop_lag(&self) -> Option<Duration> {
        let stats = self.stats.read();
        let ready = |process: &&WorkerProcess| process.state == WorkerState::Ready;
        let ready = stats.processes.iter().filter(ready);
        ready.map(|process| process.loop_lag).max()
    }
}

impl Drop for PoolHandle {
    fn drop(&mut self) {
        if self.queue.refusal().is_none() {
            self.queue.stop(Duration::ZERO);
        }
    }
}

fn best(processes: &[WorkerProcess]) -> Health {
    let ready = |process: &&WorkerProcess| process.state == WorkerState::Ready;
    let ready = processes.iter().filter(ready).map(|ready| &ready.health);
    let best = ready.min_by_key(|health| match health {
        Health::Ready => 0,
        Health::Saturated => 1,
        _ => 2,
    });
    best.cloned().unwrap_or(Health::Starting)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(state: WorkerState, health: Health) -> WorkerProcess {
        WorkerProcess {
            pid: 1,
            state,
            health,
            in_flight: 0,
            calls: 0,
            loop_lag: Duration::ZERO,
            since: tokio::time::Instant::now(),
        }
    }

    #[test]
    fn the_health_of_a_pool_is_that_of_its_best_ready_worker() {
        use WorkerState::{Ready, Retiring, Starting};
        let blocked = || Health::Blocked {
            frame: None,
            gil_held: false,
        };
        let pool = |workers: &[(WorkerState, Health)]| {
            let workers = workers.iter().cloned();
            let processes: Vec<_> = workers.map(|(s, health)| process(s, health)).collect();
            best(&processes)
        };
        assert_eq!(pool(&[]), Health::Starting);
        assert_eq!(pool(&[(Starting, Health::Starting)]), Health::Starting);
        assert_eq!(pool(&[(Retiring, Health::Ready)]), Health::Starting);
        assert_eq!(pool(&[(Ready, blocked())]), blocked());
        let some = [(Ready, Health::Saturated), (Ready, blocked())];
        assert_eq!(pool(&some), Health::Saturated);
        let some = [(Ready, blocked()), (Ready, Health::Ready)];
        assert_eq!(pool(&some), Health::Ready);
    }
}
