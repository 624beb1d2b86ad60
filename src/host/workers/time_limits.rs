//! The limits of time of processes: of their start, and of a load that blocks their loop.

use super::{numbers::WorkerId, settings::TimeLimits, supervisor::Supervisor};
use crate::host::core::clock;

impl TimeLimits {
    fn late_start(self) -> String {
        let limit = self.start;
        format!(
            "it was killed: it had not imported DSPy after {limit:?}, the `start_limit` of the host's settings"
        )
    }

    fn late_load(self) -> String {
        let limit = self.load;
        format!(
            "it was killed: a load blocked its loop for {limit:?}, the `load_limit` of the host's settings"
        )
    }
}

impl Supervisor {
    /// Kills the processes that have reached a limit.
    pub(super) fn kill_late_processes(&mut self) {
        let limits = self.time_limits;
        if let Some(zygote) = self.spawner.zygote()
            && !zygote.is_warm
            && zygote.verdict.is_none()
            && zygote.since.elapsed() >= limits.start
        {
            zygote.verdict = Some(limits.late_start());
            zygote.link.kill();
        }
        for (worker, verdict) in self.late_workers() {
            self.lifecycle.broken(worker, Some(verdict), clock::now());
            self.kill(worker);
        }
    }

    fn late_workers(&self) -> Vec<(WorkerId, String)> {
        let limits = self.time_limits;
        let late = self.workers.iter().filter_map(|(&id, worker)| {
            let is_late = worker.since.elapsed() >= limits.start;
            if is_late && self.lifecycle.is_importing(id) {
                return Some((id, limits.late_start()));
            }
            let is_blocked = worker.heartbeat.lag() >= limits.load && worker.is_blocked();
            let loads = is_blocked && self.programs.is_loading(id) && !self.lifecycle.is_ending(id);
            loads.then(|| (id, limits.late_load()))
        });
        late.collect()
    }
}
