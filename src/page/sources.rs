//! What a page reads: a tracker, and where there are, a host and retry budgets.

#[cfg(feature = "workers")]
use super::readings::{EndedWorkerReading, WorkerReading};
use super::{
    headline::HeadFacts,
    readings::{LmReading, WorkersReading},
};
#[cfg(feature = "_host")]
use super::{headline::HealthFact, units::shown};
#[cfg(feature = "_host")]
use crate::host::{core::health::Health, handle::Host};
use crate::layers::{retry::RetryBudget, track::Tracker};

/// The sources of a page.
#[derive(Clone, Debug)]
pub(super) struct PageSources {
    pub(super) tracker: Tracker,
    pub(super) budgets: Vec<(String, RetryBudget)>,
    #[cfg(feature = "_host")]
    pub(super) host: Option<Host>,
}

impl PageSources {
    pub(super) const fn new(tracker: Tracker) -> Self {
        Self {
            tracker,
            budgets: Vec::new(),
            #[cfg(feature = "_host")]
            host: None,
        }
    }

    /// The retries left of each budget; `None` if it has no bound.
    pub(super) fn budgets(&self) -> Vec<(String, Option<u64>)> {
        let left = |budget: &RetryBudget| Some(budget.available()).filter(|left| *left < u64::MAX);
        let budgets = self.budgets.iter();
        budgets
            .map(|(name, budget)| (name.clone(), left(budget)))
            .collect()
    }
}

#[cfg(not(feature = "_host"))]
#[expect(clippy::unused_self, reason = "there is no host")]
impl PageSources {
    pub(super) const fn has_host(&self) -> bool {
        false
    }

    pub(super) fn host_facts(&self, _: Option<&WorkersReading>) -> HeadFacts {
        HeadFacts::default()
    }

    pub(super) const fn lms(&self) -> Option<Vec<LmReading>> {
        None
    }

    pub(super) const fn workers(&self) -> Option<WorkersReading> {
        None
    }
}

#[cfg(feature = "_host")]
impl PageSources {
    pub(super) const fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// What the host adds to the sentence.
    pub(super) fn host_facts(&self, workers: Option<&WorkersReading>) -> HeadFacts {
        let Some(host) = &self.host else {
            return HeadFacts::default();
        };
        let stats = host.stats();
        let workers = workers.map(|workers| {
            let ready = workers.processes.iter().filter(|it| it.state == "ready");
            let all = workers.processes.len() as u64;
            (ready.count() as u64, all, workers.failed_starts)
        });
        HeadFacts {
            health: Some(HealthFact::of(host.health())),
            queue_age: stats.queue_age,
            in_lm_calls: Some(stats.in_lm_calls),
            workers,
            ..HeadFacts::default()
        }
    }

    pub(super) fn lms(&self) -> Option<Vec<LmReading>> {
        let stats = self.host.as_ref()?.lm_stats();
        let readings = stats.into_iter().map(|lm| LmReading {
            name: shown(&format!("{}/{}", lm.provider, lm.model)),
            in_flight: lm.in_flight,
            first_byte_p50: lm.first_byte_p50,
            first_byte_p99: lm.first_byte_p99,
            answered: lm.answered,
            too_many_requests: lm.too_many_requests,
            server_errors: lm.server_errors,
            elapsed: lm.elapsed,
            cancelled: lm.cancelled,
            failed: lm.failed + lm.refused,
            tokens: lm.tokens,
            wasted_tokens: lm.wasted_tokens,
            cost: lm.cost,
        });
        Some(readings.collect())
    }

    #[cfg(not(feature = "workers"))]
    #[expect(clippy::unused_self, reason = "there are no workers")]
    pub(super) const fn workers(&self) -> Option<WorkersReading> {
        None
    }

    #[cfg(feature = "workers")]
    pub(super) fn workers(&self) -> Option<WorkersReading> {
        let stats = self.host.as_ref()?.worker_stats()?;
        let processes = stats.processes.iter().map(|worker| WorkerReading {
            pid: worker.pid,
            state: format!("{:?}", worker.state).to_lowercase(),
            health: HealthFact::of(worker.health.clone()).short(),
            age: worker.age(),
            resident_bytes: worker.resident_memory(),
            in_flight: worker.in_flight as u64,
            calls: worker.calls,
        });
        let ended = stats.ended.iter().rev().map(|ended| EndedWorkerReading {
            pid: ended.pid,
            before: ended.at.elapsed(),
            reason: shown(&ended.reason),
        });
        Some(WorkersReading {
            processes: processes.collect(),
            killed: stats.killed,
            lost: stats.lost,
            recycled: stats.recycled,
            failed_starts: stats.failed_starts,
            calls_lost: stats.calls_lost,
            ended: ended.collect(),
        })
    }
}

#[cfg(feature = "_host")]
impl HealthFact {
    fn of(health: Health) -> Self {
        match health {
            Health::Starting => Self::Starting,
            Health::Ready => Self::Ready,
            Health::Saturated => Self::Saturated,
            Health::Blocked { frame, gil_held } => Self::Blocked {
                frame: frame.map(|frame| shown(&frame)),
                gil_held,
            },
            Health::Exhausted { abandoned } => Self::Exhausted { abandoned },
            Health::Lost => Self::Lost,
        }
    }

    /// The state in one to three words.
    #[cfg(feature = "workers")]
    fn short(&self) -> String {
        match self {
            Self::Starting => "starting".to_owned(),
            Self::Ready => "ready".to_owned(),
            Self::Saturated => "saturated".to_owned(),
            Self::Blocked {
                frame: Some(frame), ..
            } => format!("blocked by {frame}"),
            Self::Blocked { .. } => "blocked".to_owned(),
            Self::Exhausted { .. } => "exhausted".to_owned(),
            Self::Lost => "lost".to_owned(),
        }
    }
}
