//! Stacks of layers in any order, and what can be said of each beforehand.

use std::time::Duration;

use tower::{Layer, util::BoxCloneSyncService};
use tower_dspy::{
    Backoff, CancelLayer, DeadlineLayer, Error, FallbackLayer, RetryBudget, RetryLayer,
    TimeoutLayer, TrackLayer, Tracker,
};

use super::leaf::{Behaviour, Leaf};
use crate::support::Request;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Deadline {
        limit: Option<Duration>,
        reserve: Duration,
        grace: Duration,
    },
    Cancel {
        grace: Duration,
    },
    Fallback {
        reserve: Duration,
    },
    Retry {
        retries: u32,
        backoff: Duration,
        budget: Option<u32>,
    },
    Attempt {
        limit: Duration,
        grace: Duration,
    },
    Track,
}

pub(crate) type Boxed = BoxCloneSyncService<Request, &'static str, Error>;

/// The layers, outermost first, around `leaf`; all that track share `tracker`.
pub(crate) fn build(layers: &[Kind], leaf: Leaf, tracker: &Tracker) -> Boxed {
    layers.iter().rev().fold(
        BoxCloneSyncService::new(leaf),
        |inner, layer| match *layer {
            Kind::Deadline {
                limit,
                reserve,
                grace,
            } => {
                let layer = limit.map_or(DeadlineLayer::from_context(), DeadlineLayer::new);
                let layer = layer.with_reserve(reserve).with_grace(grace);
                BoxCloneSyncService::new(layer.layer(inner))
            }
            Kind::Cancel { grace } => {
                BoxCloneSyncService::new(CancelLayer::new().with_grace(grace).layer(inner))
            }
            Kind::Fallback { reserve } => {
                let layer = FallbackLayer::value("fallback").with_reserve(reserve);
                BoxCloneSyncService::new(layer.layer(inner))
            }
            Kind::Retry {
                retries,
                backoff,
                budget,
            } => {
                let budget = budget.map_or(RetryBudget::unlimited(), |budget| {
                    RetryBudget::permille(0)
                        .with_reserve(budget)
                        .with_ttl(Duration::from_secs(1))
                });
                let layer = RetryLayer::new(retries)
                    .with_backoff(Backoff::fixed(backoff))
                    .with_budget(budget);
                BoxCloneSyncService::new(layer.layer(inner))
            }
            Kind::Attempt { limit, grace } => {
                BoxCloneSyncService::new(TimeoutLayer::new(limit).with_grace(grace).layer(inner))
            }
            Kind::Track => BoxCloneSyncService::new(TrackLayer::new(tracker.clone()).layer(inner)),
        },
    )
}

/// How many attempts one call may cause.
pub(crate) fn most_attempts(layers: &[Kind]) -> usize {
    layers.iter().fold(1, |product, layer| match *layer {
        Kind::Retry { .. } => product * rounds(layer) as usize,
        _ => product,
    })
}

fn rounds(layer: &Kind) -> u32 {
    match *layer {
        // A budget of its own lasts for a second, longer than any case, and for all calls.
        Kind::Retry {
            retries, budget, ..
        } => 1 + retries.min(budget.unwrap_or(retries)),
        _ => 1,
    }
}

/// Whether a layer enforces the deadline that a request brings.
pub(crate) fn enforces(layers: &[Kind]) -> bool {
    layers
        .iter()
        .any(|layer| matches!(layer, Kind::Deadline { .. } | Kind::Attempt { .. }))
}

pub(crate) fn longest_grace(layers: &[Kind]) -> Duration {
    let graces = layers.iter().map(|layer| match *layer {
        Kind::Deadline { grace, .. } | Kind::Cancel { grace } | Kind::Attempt { grace, .. } => {
            grace
        }
        Kind::Fallback { .. } | Kind::Retry { .. } | Kind::Track => Duration::ZERO,
    });
    graces.max().unwrap_or_default()
}

/// What surrounds a call, as far as it bounds it.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) deadline: Option<Duration>,
    pub(crate) cancel: Option<Duration>,
    pub(crate) attempts: &'a [Behaviour],
    pub(crate) readiness: Duration,
    /// Whether the call may come some time after the deadline was set.
    pub(crate) later: bool,
}

/// How long `layers` and what is inside may take to be ready.
fn readiness(layers: &[Kind], around: Around<'_>) -> Duration {
    match layers.first() {
        Some(Kind::Attempt { .. } | Kind::Retry { .. }) => readiness(&layers[1..], around),
        Some(_) => Duration::ZERO,
        None => around.readiness,
    }
}

/// How long a call may take, waiting for readiness included; `None` if nothing bounds it.
pub(crate) fn latest(layers: &[Kind], around: Around<'_>) -> Option<Duration> {
    Some(readiness(layers, around) + latest_call(layers, around)?)
}

/// Likewise, from `call` on.
fn latest_call(layers: &[Kind], around: Around<'_>) -> Option<Duration> {
    let Some((layer, inside)) = layers.split_first() else {
        let lasts = around.attempts.iter().map(|behaviour| match *behaviour {
            Behaviour::Answers(delay) | Behaviour::Fails(delay) => Some(delay),
            Behaviour::Never | Behaviour::Tidies(_) => None,
        });
        return lasts.collect::<Option<Vec<_>>>()?.into_iter().max();
    };
    match *layer {
        Kind::Deadline {
            limit,
            reserve,
            grace,
        } => {
            let limit = earlier(around.deadline, limit).map(|at| at.saturating_sub(reserve));
            ended(latest(inside, limited(around, limit)), limit, grace, around)
        }
        Kind::Attempt { limit, grace } => {
            let limit = earlier(around.deadline, Some(limit));
            ended(
                latest_call(inside, limited(around, limit)),
                limit,
                grace,
                around,
            )
        }
        Kind::Track => latest(inside, around),
        Kind::Cancel { grace } => ended(latest(inside, around), around.cancel, grace, around),
        Kind::Fallback { reserve } => {
            let limit = around
                .deadline
                .filter(|_| !reserve.is_zero())
                .map(|at| at - reserve.min(at / 2));
            let inner = limit.map_or(around, |limit| limited(around, Some(limit)));
            ended(latest(inside, inner), limit, Duration::ZERO, around)
        }
        Kind::Retry { backoff, .. } => {
            let rounds = rounds(layer);
            let first = latest_call(inside, around)?;
            let later = Around {
                later: true,
                ..around
            };
            let next = backoff + latest(inside, later)?;
            Some(first + next * (rounds - 1))
        }
    }
}

/// When the timer of a limit rings: it counts whole milliseconds, and half of a reserve may be none.
pub(crate) fn rings(limit: Duration) -> Duration {
    Duration::from_millis(limit.as_micros().div_ceil(1000) as u64)
}

/// When what lasts until `latest` is ended by a limit, if that is set.
fn ended(
    latest: Option<Duration>,
    limit: Option<Duration>,
    grace: Duration,
    around: Around<'_>,
) -> Option<Duration> {
    match (latest, limit) {
        // Less may be left by then, and what would have been done in time gets the grace.
        (Some(latest), Some(limit)) if latest < limit && around.later => Some(latest + grace),
        (Some(latest), Some(limit)) if latest < limit => Some(latest),
        (_, Some(limit)) => Some(rings(limit) + grace),
        (latest, None) => latest,
    }
}

fn limited(around: Around<'_>, deadline: Option<Duration>) -> Around<'_> {
    Around { deadline, ..around }
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
