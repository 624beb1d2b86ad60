//! Stacks of layers in any order.

use std::time::Duration;

use tokio::{task::JoinHandle, time::sleep};
use tower::{Layer, util::BoxCloneSyncService};
use tower_dspy::{
    AllotLayer, Backoff, CancelLayer, Cause, DeadlineLayer, Error, FallbackLayer, HedgeLayer,
    RetryBudget, RetryLayer, Session, Shutdown, ShutdownLayer, ShutdownReport, TimeoutLayer,
    TrackLayer, Tracker, layers::RetryBudgetOptions,
};

use super::leaf::Leaf;
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
    Hedge {
        delay: Duration,
        budget: Option<u32>,
    },
    Attempt {
        limit: Duration,
        grace: Duration,
    },
    Allot {
        share: Share,
        default: Option<Duration>,
        grace: Duration,
    },
    Session {
        limit: Option<Duration>,
        /// When it is cancelled.
        over: Option<Duration>,
    },
    Shutdown {
        /// When it begins.
        at: Duration,
        drain: Duration,
        grace: Duration,
    },
    Track,
}

/// What a step gets of the time left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Share {
    Even(u32),
    AllBut(Duration),
}

pub(crate) type Boxed = BoxCloneSyncService<Request, &'static str, Error>;

/// What the layers of a stack report to.
pub(crate) struct Reports {
    /// All that track share it.
    pub(crate) tracker: Tracker,
    pub(crate) shutdowns: Vec<JoinHandle<ShutdownReport>>,
}

/// The layers, outermost first, around `leaf`. What a layer times by itself begins now.
pub(crate) fn build(layers: &[Kind], leaf: Leaf) -> (Boxed, Reports) {
    let mut reports = Reports {
        tracker: Tracker::new(),
        shutdowns: Vec::new(),
    };
    let stack = layers
        .iter()
        .rev()
        .fold(BoxCloneSyncService::new(leaf), |inner, layer| {
            wrap(*layer, inner, &mut reports)
        });
    (stack, reports)
}

fn wrap(layer: Kind, inner: Boxed, reports: &mut Reports) -> Boxed {
    match layer {
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
            let layer = RetryLayer::new(retries)
                .with_backoff(Backoff::fixed(backoff))
                .with_budget(of(budget));
            BoxCloneSyncService::new(layer.layer(inner))
        }
        Kind::Hedge { delay, budget } => {
            let layer = HedgeLayer::after(delay).with_budget(of(budget));
            BoxCloneSyncService::new(layer.layer(inner))
        }
        Kind::Attempt { limit, grace } => {
            BoxCloneSyncService::new(TimeoutLayer::new(limit).with_grace(grace).layer(inner))
        }
        Kind::Allot {
            share,
            default,
            grace,
        } => {
            let layer = match share {
                Share::Even(steps) => AllotLayer::even(steps),
                Share::AllBut(reserve) => AllotLayer::all_but(reserve),
            };
            let layer = match default {
                Some(limit) => layer.with_default(limit),
                None => layer,
            };
            BoxCloneSyncService::new(layer.with_grace(grace).layer(inner))
        }
        Kind::Session { limit, over } => {
            let session = limit.map_or_else(Session::new, Session::within);
            if let Some(over) = over {
                let session = session.clone();
                tokio::spawn(async move {
                    sleep(over).await;
                    session.cancel(Cause::ClientGone);
                });
            }
            BoxCloneSyncService::new(session.wrap(inner))
        }
        Kind::Shutdown { at, drain, grace } => {
            let shutdown = Shutdown::new();
            let layer = ShutdownLayer::new(shutdown.clone());
            reports.shutdowns.push(tokio::spawn(async move {
                sleep(at).await;
                shutdown.run(drain, grace).await
            }));
            BoxCloneSyncService::new(layer.layer(inner))
        }
        Kind::Track => {
            let layer = TrackLayer::new(reports.tracker.clone());
            BoxCloneSyncService::new(layer.layer(inner))
        }
    }
}

/// A budget of so many retries in a second, whatever the calls.
fn of(budget: Option<u32>) -> RetryBudget {
    budget.map_or(RetryBudget::unlimited(), |budget| {
        RetryBudget::new(
            RetryBudgetOptions::permille(0)
                .with_reserve(budget)
                .with_ttl(Duration::from_secs(1)),
        )
    })
}
