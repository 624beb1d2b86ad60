//! Any layers, in any order, with any limits, around work that does anything: what always holds.

mod leaf;
mod stack;

use std::{pin::pin, sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};
use tower_dspy::{Cancel, Cause, Deadline, Error, Scope, Stage, Tracker};

use self::{
    leaf::{Behaviour, End, Leaf, Ledger},
    stack::{Around, Kind, build, enforces, latest, longest_grace, most_attempts, rings},
};
use crate::support::{millis, request, secs};

/// Longer than anything that ends at all.
const FOR_EVER: Duration = secs(3600);

#[derive(Clone, Debug)]
struct Case {
    layers: Vec<Kind>,
    deadline: Option<Duration>,
    cancel: Option<Duration>,
    /// When the caller loses interest.
    dropped: Option<Duration>,
    attempts: Vec<Behaviour>,
    readiness: Duration,
}

fn time() -> impl Strategy<Value = Duration> {
    // Few values, so that many of them coincide.
    (0..12_u64).prop_map(millis)
}

fn some_time() -> impl Strategy<Value = Duration> {
    (1..12_u64).prop_map(millis)
}

/// Nothing, mostly.
fn extra() -> impl Strategy<Value = Duration> {
    prop_oneof![3 => Just(Duration::ZERO), 1 => time()]
}

fn layer() -> impl Strategy<Value = Kind> {
    prop_oneof![
        (option::weighted(0.8, some_time()), extra(), extra()).prop_map(
            |(limit, reserve, grace)| Kind::Deadline {
                limit,
                reserve,
                grace
            }
        ),
        extra().prop_map(|grace| Kind::Cancel { grace }),
        extra().prop_map(|reserve| Kind::Fallback { reserve }),
        (0..4_u32, extra(), option::weighted(0.3, 0..3_u32)).prop_map(
            |(retries, backoff, budget)| Kind::Retry {
                retries,
                backoff,
                budget
            }
        ),
        (some_time(), extra()).prop_map(|(limit, grace)| Kind::Attempt { limit, grace }),
        Just(Kind::Track),
    ]
}

fn behaviour() -> impl Strategy<Value = Behaviour> {
    prop_oneof![
        3 => time().prop_map(Behaviour::Answers),
        4 => time().prop_map(Behaviour::Fails),
        2 => Just(Behaviour::Never),
        1 => time().prop_map(Behaviour::Tidies),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        vec(layer(), 0..6),
        option::of(some_time()),
        option::weighted(0.3, time()),
        option::weighted(0.2, time()),
        vec(behaviour(), 1..4),
        extra(),
    )
        .prop_map(
            |(layers, deadline, cancel, dropped, attempts, readiness)| Case {
                layers,
                deadline,
                cancel,
                dropped,
                attempts,
                readiness,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_stack_keeps_its_promises(case in case()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(&case));
    }
}

async fn run(case: &Case) {
    let ledger = Ledger::new();
    let tracker = Tracker::new();
    let mut service = build(
        &case.layers,
        Leaf {
            ledger: Arc::clone(&ledger),
            attempts: case.attempts.clone().into(),
            readiness: case.readiness,
            waits: None,
            ready: false,
        },
        &tracker,
    );
    let mut request = request();
    if let Some(deadline) = case.deadline {
        request.context.limit(Deadline::within(deadline));
    }
    let cancel = Cancel::new();
    if let Some(at) = case.cancel {
        request.context.cancel = cancel.clone();
        let cancel = cancel.clone();
        tokio::spawn(async move {
            sleep(at).await;
            cancel.cancel(Cause::Caller);
        });
    }

    let outcome = {
        let call = async {
            let mut call = pin!(service.ready().await?.call(request));
            let outcome = call.as_mut().await;
            // The future is still there; the work is not.
            assert!(ledger.works().iter().all(|work| work.end.is_some()));
            outcome
        };
        timeout(case.dropped.unwrap_or(FOR_EVER), call).await.ok()
    };
    let took = ledger.now();
    let works = ledger.works();
    assert!(works.iter().all(|work| work.end.is_some()), "{works:?}");
    assert!(tracker.is_empty(), "{:?}", tracker.calls());

    let around = Around {
        deadline: case.deadline,
        cancel: case.cancel,
        attempts: &case.attempts,
        readiness: case.readiness,
        later: !case.readiness.is_zero(),
    };
    let latest = latest(&case.layers, around);
    match &outcome {
        Some(outcome) => in_time(case, outcome, took, latest),
        None => assert!(
            latest.is_none_or(|latest| latest >= took),
            "still under way after {took:?}, but at most {latest:?} were allowed"
        ),
    }

    assert!(works.len() <= most_attempts(&case.layers), "{works:?}");
    for work in &works {
        let (ended, end) = work.end.unwrap();
        if enforces(&case.layers)
            && let Some(limit) = work.limit.map(rings)
        {
            assert!(work.began <= limit, "{work:?} began too late");
            let end = limit + longest_grace(&case.layers);
            assert!(ended <= end, "{work:?} ran for too long");
        }
        match end {
            End::Done => {}
            End::Dropped(Cause::Elapsed | Cause::Deadline) => {
                assert!(
                    work.limit.is_some_and(|limit| limit <= ended),
                    "{work:?} ended early"
                );
            }
            End::Dropped(Cause::Caller) => {
                assert!(
                    case.cancel.is_some_and(|at| at <= ended),
                    "{work:?} ended early"
                );
            }
            End::Dropped(cause) => {
                assert_eq!(
                    (cause, outcome.is_none()),
                    (Cause::Dropped, true),
                    "{work:?}"
                );
            }
        }
    }
}

fn in_time(
    case: &Case,
    outcome: &Result<&'static str, Error>,
    took: Duration,
    latest: Option<Duration>,
) {
    assert!(
        latest.is_none_or(|latest| took <= latest),
        "{outcome:?} after {took:?}, but at most {latest:?} were allowed"
    );
    match outcome {
        Err(Error::Elapsed(elapsed)) => {
            assert!(
                elapsed.stage() == Stage::BeforeStart || elapsed.limit() <= took,
                "{elapsed:?} after {took:?}"
            );
            if elapsed.scope() != Scope::Reserve {
                let least = least(case, elapsed.scope());
                assert!(least <= took, "{elapsed:?} after {took:?}, too early");
            }
        }
        Err(Error::Cancelled(cancelled)) => {
            assert_eq!(cancelled.cause(), Cause::Caller);
            assert!(case.cancel.is_some_and(|at| at <= took), "after {took:?}");
        }
        _ => {}
    }
}

/// Before this, no limit of the name can have passed.
fn least(case: &Case, scope: Scope) -> Duration {
    let limits = case.layers.iter().filter_map(|layer| match *layer {
        Kind::Attempt { limit, .. } => Some(limit),
        Kind::Deadline { limit, .. } if scope == Scope::Deadline => limit,
        _ => None,
    });
    let asked = case.deadline.filter(|_| scope == Scope::Deadline);
    let least = limits.chain(asked).min().expect("a limit that passed");
    // An inner deadline may be what some attempt's limit, or a deadline, left of it.
    let reserves = case.layers.iter().map(|layer| match *layer {
        Kind::Deadline { reserve, .. } | Kind::Fallback { reserve } if scope == Scope::Deadline => {
            reserve
        }
        _ => Duration::ZERO,
    });
    least.saturating_sub(reserves.sum())
}
