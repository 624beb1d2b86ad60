//! The bounds on each stack that follow from its layers alone.

use std::time::Duration;

use super::{
    leaf::Behaviour,
    stack::{Kind, Share},
};
use crate::support::millis;

/// How many attempts one call that `took` so long may have caused.
pub(crate) fn most_attempts(layers: &[Kind], took: Duration) -> usize {
    // What a budget's second holds is there again in the next.
    let budgeted = |more: usize, budget: Option<u32>| match budget {
        Some(budget) if took < millis(900) => more.min(budget as usize),
        _ => more,
    };
    layers.iter().fold(1, |calls, layer| match *layer {
        Kind::Retry {
            retries, budget, ..
        } => calls + budgeted(calls * retries as usize, budget),
        Kind::Hedge { budget, .. } => calls + budgeted(calls, budget),
        _ => calls,
    })
}

/// Whether a layer enforces the deadline that a request brings.
pub(crate) fn enforces(layers: &[Kind]) -> bool {
    layers.iter().any(|layer| {
        matches!(
            layer,
            Kind::Deadline { .. }
                | Kind::Attempt { .. }
                | Kind::Allot { .. }
                | Kind::Session { .. }
        )
    })
}

pub(crate) fn longest_grace(layers: &[Kind]) -> Duration {
    let graces = layers.iter().map(|layer| match *layer {
        Kind::Deadline { grace, .. }
        | Kind::Cancel { grace }
        | Kind::Attempt { grace, .. }
        | Kind::Allot { grace, .. }
        | Kind::Shutdown { grace, .. } => grace,
        _ => Duration::ZERO,
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
        Kind::Allot {
            share,
            default,
            grace,
        } => {
            let limit = around.deadline.map(|left| left_by(share, left)).or(default);
            ended(latest(inside, limited(around, limit)), limit, grace, around)
        }
        Kind::Session { limit, over } => {
            let limit = earlier(around.deadline, limit);
            let inside = latest(inside, limited(around, limit));
            let inside = ended(inside, earlier(around.cancel, over), Duration::ZERO, around);
            ended(inside, limit, Duration::ZERO, around)
        }
        Kind::Shutdown { at, drain, grace } => {
            ended(latest(inside, around), Some(at + drain), grace, around)
        }
        Kind::Cancel { grace } => ended(latest(inside, around), around.cancel, grace, around),
        Kind::Fallback { reserve } => {
            let limit = around
                .deadline
                .filter(|_| !reserve.is_zero())
                .map(|at| at - reserve.min(at / 2));
            let inner = limit.map_or(around, |limit| limited(around, Some(limit)));
            ended(latest(inside, inner), limit, Duration::ZERO, around)
        }
        Kind::Hedge { delay, .. } => {
            let first = latest(inside, around)?;
            let later = Around {
                later: true,
                ..around
            };
            // It is due so long after the service has taken the first, however far in that waits.
            let second = around.readiness + delay + latest(inside, later)?;
            Some(first.max(second))
        }
        Kind::Retry {
            retries, backoff, ..
        } => {
            let first = latest_call(inside, around)?;
            let later = Around {
                later: true,
                ..around
            };
            let next = backoff + latest(inside, later)?;
            Some(first + next * retries)
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

/// What a step gets of the time that is `left`.
fn left_by(share: Share, left: Duration) -> Duration {
    match share {
        Share::Even(steps) => left / steps,
        Share::AllBut(reserve) => left.saturating_sub(reserve),
    }
}
