//! Random stacks: any layers, in any order, with any limits, around any work, and the invariants
//! that hold for all.

mod bounds;
mod leaf;
mod stack;

use std::{pin::pin, sync::Arc, time::Duration};

use proptest::{collection::vec, option, prelude::*};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceExt};
use tower_dspy::{Cancel, Cause, Deadline, Error, Scope, Stage};

use self::{
    bounds::{Around, enforces, latest, longest_grace, most_attempts, rings},
    leaf::{Behaviour, End, Leaf, Ledger, Work},
    stack::{Kind, Reports, Share, build},
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
        (some_time(), option::weighted(0.3, 0..3_u32))
            .prop_map(|(delay, budget)| Kind::Hedge { delay, budget }),
        (share(), option::of(some_time()), extra()).prop_map(|(share, default, grace)| {
            Kind::Allot {
                share,
                default,
                grace,
            }
        }),
        (option::of(some_time()), option::weighted(0.3, time()))
            .prop_map(|(limit, over)| Kind::Session { limit, over }),
        (time(), time(), extra()).prop_map(|(at, drain, grace)| Kind::Shutdown {
            at,
            drain,
            grace
        }),
        Just(Kind::Track),
    ]
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![
        (1..4_u32).prop_map(Share::Even),
        time().prop_map(Share::AllBut)
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
    fn any_stack_of_layers_keeps_the_invariants(case in case()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(&case));
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_waits_beside_one_that_runs_does_not_start_within_the_grace() {
    let hedge = |delay| Kind::Hedge {
        delay: millis(delay),
        budget: None,
    };
    let deadline = Kind::Deadline {
        limit: Some(millis(10)),
        reserve: Duration::ZERO,
        grace: millis(3),
    };
    let attempt = Kind::Attempt {
        limit: millis(7),
        grace: millis(2),
    };
    let fallback = Kind::Fallback {
        reserve: Duration::ZERO,
    };
    for (layers, work, readiness) in [
        (
            [deadline, hedge(3), hedge(1)],
            Behaviour::Fails(millis(4)),
            4,
        ),
        (
            [attempt, hedge(2), fallback],
            Behaviour::Answers(millis(6)),
            3,
        ),
    ] {
        run(&Case {
            layers: layers.into(),
            deadline: None,
            cancel: None,
            dropped: None,
            attempts: vec![work],
            readiness: millis(readiness),
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_first_attempt_does_not_leave_the_call_to_a_second_that_waits_too_late() {
    run(&Case {
        layers: vec![
            Kind::Hedge {
                delay: millis(2),
                budget: None,
            },
            Kind::Allot {
                share: Share::Even(2),
                default: None,
                grace: Duration::ZERO,
            },
        ],
        deadline: Some(millis(9)),
        cancel: Some(millis(2)),
        dropped: None,
        attempts: vec![Behaviour::Answers(Duration::ZERO)],
        readiness: millis(6),
    })
    .await;
}

async fn run(case: &Case) {
    let ledger = Ledger::new();
    let (mut service, reports) = build(
        &case.layers,
        Leaf {
            ledger: Arc::clone(&ledger),
            attempts: case.attempts.clone().into(),
            readiness: case.readiness,
            waits: None,
            ready: false,
        },
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

    let most = most_attempts(&case.layers, took);
    assert!(works.len() <= most, "more than {most}: {works:?}");
    for work in &works {
        ended_for_a_reason(case, work, &works, outcome.is_none());
    }
    counted_once(reports).await;
}

/// Work ends by itself, or because of something that has happened by then.
fn ended_for_a_reason(case: &Case, work: &Work, works: &[Work], dropped: bool) {
    let (ended, end) = work.end.unwrap();
    if enforces(&case.layers)
        && let Some(limit) = work.limit.map(rings)
    {
        assert!(work.began <= limit, "{work:?} began too late");
        let end = limit + longest_grace(&case.layers);
        assert!(ended <= end, "{work:?} ran for too long");
    }
    let End::Dropped(cause) = end else { return };
    let past = |work: &Work| work.limit.is_some_and(|limit| limit <= ended);
    let hedged = case.has(|layer| matches!(layer, Kind::Hedge { .. }));
    let allowed = match cause {
        Cause::Elapsed => past(work),
        // Of two attempts beside each other the one ends with the other's deadline.
        Cause::Deadline => past(work) || hedged && works.iter().any(past),
        Cause::Superseded => hedged,
        Cause::Dropped => dropped,
        cause => case.was_cancelled(cause, ended),
    };
    assert!(allowed, "{work:?} was ended without a reason");
}

/// Each call that a layer counts has left it, and with one status.
async fn counted_once(reports: Reports) {
    let counts = reports.tracker.counts();
    let ended = counts.completed + counts.failed + counts.timed_out + counts.cancelled;
    assert_eq!((counts.live(), counts.accepted), (0, ended), "{counts:?}");
    for shutdown in reports.shutdowns {
        let report = shutdown.await.unwrap();
        let ended = report.completed + report.failed + report.cancelled;
        let ends = (report.abandoned, report.accepted);
        assert_eq!(ends, (0, ended), "{report}");
    }
}

impl Case {
    fn has(&self, layer: impl Fn(&Kind) -> bool) -> bool {
        self.layers.iter().any(layer)
    }

    /// Whether what names this cause has happened at the latest `now`.
    fn was_cancelled(&self, cause: Cause, now: Duration) -> bool {
        match cause {
            Cause::Caller => self.cancel.is_some_and(|at| at <= now),
            Cause::ClientGone => self.has(|layer| match *layer {
                Kind::Session { over, .. } => over.is_some_and(|at| at <= now),
                _ => false,
            }),
            Cause::Shutdown => self.has(|layer| match *layer {
                Kind::Shutdown { at, .. } => at <= now,
                _ => false,
            }),
            _ => false,
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
            if let Some(least) = least(case, elapsed.scope()) {
                assert!(least <= took, "{elapsed:?} after {took:?}, too early");
            }
        }
        Err(Error::Cancelled(cancelled)) => {
            assert!(
                case.was_cancelled(cancelled.cause(), took),
                "{cancelled:?} after {took:?}"
            );
        }
        _ => {}
    }
}

/// Before this, no limit of the name can have passed; `None` if there may be one of any length.
fn least(case: &Case, scope: Scope) -> Option<Duration> {
    let deadline = scope == Scope::Deadline;
    // What a share leaves may be less than any limit; so may what is inside be told as its deadline.
    let shares = case.has(|layer| matches!(layer, Kind::Allot { .. }));
    if !matches!(scope, Scope::Attempt | Scope::Deadline) || deadline && shares {
        return None;
    }
    let limits = case.layers.iter().filter_map(|layer| match *layer {
        Kind::Attempt { limit, .. } => Some(limit),
        Kind::Deadline { limit, .. } | Kind::Session { limit, .. } if deadline => limit,
        _ => None,
    });
    let asked = case.deadline.filter(|_| deadline);
    let least = limits.chain(asked).min().expect("a limit that passed");
    // An inner deadline may be what some attempt's limit, or a deadline, left of it.
    let reserves = case.layers.iter().map(|layer| match *layer {
        Kind::Deadline { reserve, .. } | Kind::Fallback { reserve } if deadline => reserve,
        _ => Duration::ZERO,
    });
    Some(least.saturating_sub(reserves.sum()))
}
