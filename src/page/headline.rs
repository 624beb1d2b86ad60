//! The sentence at the head of the page: what is wrong, and how much is under way.

use std::time::Duration;

use super::{
    timeline::format::{count, thousands},
    units::time,
};

/// What the sentence is made of.
#[derive(Clone, Debug, Default)]
pub(super) struct HeadFacts {
    /// What the health of the host is; `None` without a host.
    pub(super) health: Option<HealthFact>,
    pub(super) running: u64,
    pub(super) waiting: u64,
    pub(super) stopping: u64,
    /// Since when the oldest call waits in the host's queue.
    pub(super) queue_age: Duration,
    pub(super) orphans: u64,
    /// Calls under way whose deadline has passed.
    pub(super) overdue: u64,
    /// LM calls under way; `None` without a host.
    pub(super) in_lm_calls: Option<u64>,
    /// The retries left of each budget; `None` if it has no bound.
    pub(super) budgets: Vec<(String, Option<u64>)>,
    /// Workers that take calls, all of them, and starts in a row that failed.
    pub(super) workers: Option<(u64, u64, u32)>,
}

/// The health of a host, as the sentence needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "_host"), expect(dead_code, reason = "there is no host"))]
pub(super) enum HealthFact {
    Starting,
    Ready,
    Saturated,
    Blocked {
        frame: Option<String>,
        gil_held: bool,
    },
    Exhausted {
        abandoned: u64,
    },
    Lost,
}

/// The sentence.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Headline {
    /// Nothing is wrong.
    pub(super) is_well: bool,
    /// What is wrong, the worst first; or that nothing is.
    pub(super) state: String,
    /// How much is under way.
    pub(super) figures: String,
}

impl Headline {
    pub(super) fn of(facts: &HeadFacts) -> Self {
        let mut wrong = Vec::new();
        wrong.extend(facts.health.as_ref().and_then(HealthFact::problem));
        if facts.orphans > 0 {
            let calls = count(facts.orphans, "orphan");
            wrong.push(format!("{calls}: answered, and still at work."));
        }
        if facts.overdue > 0 {
            let calls = count(facts.overdue, "call");
            wrong.push(format!("{calls} past the deadline."));
        }
        for (name, left) in &facts.budgets {
            if *left == Some(0) {
                wrong.push(format!("Retry budget {name} is empty."));
            }
        }
        wrong.extend(facts.worker_problem());
        let is_well = wrong.is_empty();
        let ready = match facts.health {
            Some(_) => "Ready.",
            None => "Nothing is wrong.",
        };
        Self {
            is_well,
            state: if is_well {
                ready.to_owned()
            } else {
                wrong.join(" ")
            },
            figures: facts.figures(),
        }
    }
}

impl HeadFacts {
    fn worker_problem(&self) -> Option<String> {
        let (ready, all, failed) = self.workers?;
        if failed > 0 {
            let starts = count(failed.into(), "start");
            return Some(format!("{starts} of workers in a row failed."));
        }
        (ready == 0 && all > 0).then(|| "No worker takes calls.".to_owned())
    }

    fn figures(&self) -> String {
        let mut calls = vec![
            format!("{} running", thousands(self.running)),
            match self.queue_age {
                Duration::ZERO => format!("{} waiting", thousands(self.waiting)),
                age => format!(
                    "{} waiting (the oldest in the queue for {})",
                    thousands(self.waiting),
                    time(age)
                ),
            },
        ];
        if self.stopping > 0 {
            calls.push(format!("{} stopping", thousands(self.stopping)));
        }
        calls.push(count(self.orphans, "orphan"));
        let mut sentences = vec![calls.join(", ") + "."];
        if let Some(in_flight) = self.in_lm_calls {
            let calls = count(in_flight, "LM call");
            sentences.push(format!("{calls} in flight."));
        }
        if let Some((ready, all, _)) = self.workers {
            sentences.push(format!("{ready} of {} ready.", count(all, "worker")));
        }
        for (name, left) in &self.budgets {
            let left = match left {
                Some(left) => count(*left, "retry").replace("retrys", "retries"),
                None => "unlimited retries".to_owned(),
            };
            sentences.push(format!("Budget {name}: {left} left."));
        }
        sentences.join(" ")
    }
}

impl HealthFact {
    fn problem(&self) -> Option<String> {
        Some(match self {
            Self::Ready => return None,
            Self::Starting => "Starting.".to_owned(),
            Self::Saturated => "Saturated: more Python work than one thread does.".to_owned(),
            Self::Blocked { frame, gil_held } => {
                let by = match frame {
                    Some(frame) => format!(" by {frame}"),
                    None => String::new(),
                };
                let held = match gil_held {
                    true => " It holds the GIL: no Python code runs.",
                    false => "",
                };
                format!("Blocked{by}.{held}")
            }
            Self::Exhausted { abandoned } => {
                let threads = count(*abandoned, "thread");
                format!("Exhausted: {threads} did not stop; sync programs are refused.")
            }
            Self::Lost => "Lost: the host has stopped and takes no calls.".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> HeadFacts {
        HeadFacts {
            health: Some(HealthFact::Ready),
            running: 12,
            waiting: 3,
            queue_age: Duration::from_millis(40),
            in_lm_calls: Some(11),
            budgets: vec![("qa".into(), Some(84))],
            ..HeadFacts::default()
        }
    }

    #[test]
    fn a_host_that_is_well_is_ready() {
        let headline = Headline::of(&ready());
        assert_eq!((headline.is_well, &*headline.state), (true, "Ready."));
        assert_eq!(
            headline.figures,
            "12 running, 3 waiting (the oldest in the queue for 40 ms), 0 orphans. 11 LM calls in \
             flight. Budget qa: 84 retries left."
        );
    }

    #[test]
    fn without_a_host_there_is_no_health() {
        let headline = Headline::of(&HeadFacts::default());
        assert_eq!(headline.state, "Nothing is wrong.");
        assert_eq!(headline.figures, "0 running, 0 waiting, 0 orphans.");
    }

    #[test]
    fn what_is_wrong_is_named_the_worst_first() {
        let facts = HeadFacts {
            health: Some(HealthFact::Blocked {
                frame: Some("program.py:41 tokenize".into()),
                gil_held: true,
            }),
            orphans: 1,
            overdue: 2,
            budgets: vec![("qa".into(), Some(0)), ("all".into(), None)],
            workers: Some((0, 2, 3)),
            ..ready()
        };
        let headline = Headline::of(&facts);
        assert!(!headline.is_well);
        assert_eq!(
            headline.state,
            "Blocked by program.py:41 tokenize. It holds the GIL: no Python code runs. 1 orphan: \
             answered, and still at work. 2 calls past the deadline. Retry budget qa is empty. 3 \
             starts of workers in a row failed."
        );
        assert!(
            headline
                .figures
                .ends_with("Budget all: unlimited retries left.")
        );
    }

    #[test]
    fn each_health_but_ready_is_a_problem() {
        let wrong = [
            HealthFact::Starting,
            HealthFact::Saturated,
            HealthFact::Blocked {
                frame: None,
                gil_held: false,
            },
            HealthFact::Exhausted { abandoned: 1 },
            HealthFact::Lost,
        ];
        for health in wrong {
            let headline = Headline::of(&HeadFacts {
                health: Some(health.clone()),
                ..HeadFacts::default()
            });
            assert!(!headline.is_well, "{health:?}");
        }
        let no_worker = HeadFacts {
            workers: Some((0, 2, 0)),
            ..ready()
        };
        assert_eq!(Headline::of(&no_worker).state, "No worker takes calls.");
    }
}
