//! Gauges of hosts, programs, trackers and budgets.

use std::{fmt, sync::Arc};

#[cfg(feature = "_host")]
use super::host_gauges::{ObservedProgram, sample_host, sample_program};
#[cfg(feature = "_host")]
use crate::{host::Host, service::DspyService};
use crate::{
    layers::{RetryBudget, Tracker},
    telemetry::{
        metric_names::{IN_FLIGHT, RETRY_BUDGET, STOPPING, WAITING},
        metrics::{label, set, watch_retries},
    },
};

/// The metrics that have to be asked for: how many calls wait, run and stop now, how a host is, what
/// is left of a budget.
///
/// Each [`sample`](Self::sample) reads all of them and gives them to the recorder. The handler of
/// `/metrics` does that before it answers (feature `axum`, `inbound::axum::metrics`); with another
/// exporter, a timer of yours does, as often as that exporter sends.
///
/// It holds clones of what it observes: a host or a program lives as long as this does.
///
/// ```
/// use tower_dspy::{RetryBudget, Tracker, metrics::Gauges};
///
/// let (tracker, budget) = (Tracker::new(), RetryBudget::default());
/// let gauges = Gauges::new()
///     .observe_tracker("qa", &tracker)
///     .observe_budget("retries", &budget);
/// gauges.sample();
/// ```
#[derive(Clone, Default)]
pub struct Gauges {
    #[cfg(feature = "_host")]
    hosts: Vec<(Arc<str>, Host)>,
    #[cfg(feature = "_host")]
    programs: Vec<ObservedProgram>,
    trackers: Vec<(Arc<str>, Tracker)>,
    budgets: Vec<(Arc<str>, RetryBudget)>,
}

impl Gauges {
    /// Of nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Observes a host, labelled `host="embedded"` or `host="workers"`; a second host with workers is
    /// `workers-2`, and so on.
    #[cfg(feature = "_host")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
    #[must_use]
    pub fn observe_host(mut self, host: &Host) -> Self {
        let kind = host.kind();
        let alike = self.hosts.iter().filter(|(_, other)| other.kind() == kind);
        let name = match alike.count() {
            0 => kind.into(),
            before => format!("{kind}-{}", before + 1).into(),
        };
        self.hosts.push((name, host.clone()));
        self
    }

    /// Observes the permits of a program, labelled `program="<label>"`: best as by
    /// [`TrackLayer::with_label`](crate::TrackLayer::with_label). Its `version` names what is deployed,
    /// such as a commit, or the hash of a state file. Its calls count from 0 by each known outcome, so
    /// that a first burst of failures is an increase.
    #[cfg(feature = "_host")]
    #[cfg_attr(docsrs, doc(cfg(any(feature = "python", feature = "workers"))))]
    #[must_use]
    pub fn observe_program(
        mut self,
        label: impl Into<Arc<str>>,
        version: impl Into<Arc<str>>,
        program: &DspyService,
    ) -> Self {
        self.programs.push(ObservedProgram {
            label: label.into(),
            version: version.into(),
            service: program.clone(),
        });
        self
    }

    /// Observes the calls of a tracker, labelled `tracker="<label>"`.
    #[must_use]
    pub fn observe_tracker(mut self, label: impl Into<Arc<str>>, tracker: &Tracker) -> Self {
        self.trackers.push((label.into(), tracker.clone()));
        self
    }

    /// Observes what is left of a budget of retries or hedges, labelled `budget="<name>"`. One that is
    /// [unlimited](RetryBudget::unlimited) has no gauge.
    #[must_use]
    pub fn observe_budget(mut self, name: impl Into<Arc<str>>, budget: &RetryBudget) -> Self {
        self.budgets.push((name.into(), budget.clone()));
        self
    }

    /// Reads all that is observed, and sets its metrics in the recorder that is installed.
    pub fn sample(&self) {
        #[cfg(feature = "_host")]
        {
            for (name, host) in &self.hosts {
                sample_host(name, host);
            }
            for program in &self.programs {
                sample_program(program);
            }
        }
        for (name, tracker) in &self.trackers {
            let phases = tracker.phases();
            let values = [
                (
                    &IN_FLIGHT,
                    phases.waiting + phases.running + phases.stopping,
                ),
                (&WAITING, phases.waiting),
                (&STOPPING, phases.stopping),
            ];
            for (metric, value) in values {
                set(metric, vec![label("tracker", name.clone())], value as f64);
            }
        }
        if !self.budgets.is_empty() {
            watch_retries();
        }
        for (name, budget) in &self.budgets {
            let available = budget.available();
            if available < u64::MAX {
                let labels = vec![label("budget", name.clone())];
                set(&RETRY_BUDGET, labels, available as f64);
            }
        }
    }
}

impl fmt::Debug for Gauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gauges").finish_non_exhaustive()
    }
}
