//! The time of answers where the first of two LMs hangs in some of its calls.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::Instant;
use tower::ServiceExt;
use tower_dspy::{
    Deadline, DspyService, Host, Lm, PredictRequest,
    testing::scripted_lm::{Reply, ScriptedLm},
};

use super::support::{Durations, until};

/// Calls of each side.
pub(super) const CALLS: usize = 1000;
/// Calls that are under way at once.
pub(super) const AT_ONCE: usize = 40;
/// The sides take turns, with so many calls each.
const TURN: usize = 250;

/// The deadline of a call.
const LIMIT: Duration = Duration::from_secs(3);
/// How long a healthy LM takes.
const LM_CALL: Duration = Duration::from_millis(150);
/// A given share of the time.
const SHARE: f64 = 0.2;
/// The time after which a hedge begins.
const AFTER: Duration = Duration::from_millis(400);

/// One way to combine the two LMs, and what it took.
pub(super) struct Side {
    pub(super) name: String,
    pub(super) took: Durations,
    /// The time after which the second LM is asked where the first hangs.
    trigger: Duration,
    /// Calls without an answer.
    pub(super) failed: u64,
    /// LM calls whose connection did not close.
    pub(super) open: u64,
    model: String,
    program: DspyService,
}

impl Side {
    /// Its p99 over that of the healthy LM alone and the trigger.
    pub(super) fn ratio(&self, alone: &Durations) -> f64 {
        let trigger = self.trigger.as_secs_f64() * 1e3;
        self.took.ms(99.0) / (alone.ms(99.0) + trigger)
    }
}

/// The answers of the healthy LM alone, and those of each side.
pub(super) async fn measure(host: &Host, server: &ScriptedLm) -> (Durations, Vec<Side>) {
    let lm = |model: &str| {
        let lm = Lm::new(format!("openai/{model}"));
        lm.base_url(server.base_url()).key("unused")
    };
    let healthy = Reply::answer("so").delay(LM_CALL);
    server.script("healthy", healthy.clone());
    let mut sides = Vec::new();
    for percent in [1, 2, 50] {
        for combined in ["even", "share", "hedge"] {
            let model = format!("hangs-{percent}-{combined}");
            // Spread evenly.
            let hangs = |n: usize| n * percent / 100 != (n + 1) * percent / 100;
            let replies = (0..CALLS).map(|n| match hangs(n) {
                true => Reply::hang(),
                false => healthy.clone(),
            });
            server.script(&model, replies.collect::<Vec<_>>());
            let members = [lm(&model), lm("healthy")];
            let (lm, trigger) = match combined {
                "even" => (Lm::fallback(members), LIMIT / 2),
                "share" => {
                    let lm = Lm::fallback(members).failover_share(SHARE);
                    (lm, LIMIT.mul_f64(SHARE))
                }
                _ => (Lm::hedge(members, AFTER), AFTER),
            };
            sides.push(Side {
                name: format!("{combined}_{percent}"),
                took: Durations::new(),
                trigger,
                failed: 0,
                open: 0,
                model,
                program: load(host, lm).await,
            });
        }
    }
    let program = load(host, lm("healthy")).await;
    let mut alone = Durations::new();
    // The first turn warms up.
    ask(&program, &mut Durations::new(), AT_ONCE).await;
    for _ in 0..CALLS / TURN {
        let failed = ask(&program, &mut alone, TURN).await;
        assert_eq!(failed, 0, "the healthy LM has no answer");
        for side in &mut sides {
            side.failed += ask(&side.program, &mut side.took, TURN).await;
        }
    }
    for side in &mut sides {
        let running = || server.summary(&side.model).running;
        until(|| running() == 0).await;
        side.open = running() as u64;
    }
    (alone, sides)
}

async fn load(host: &Host, lm: Lm) -> DspyService {
    let load = host.load("question -> answer").lm(lm);
    load.max_in_flight(AT_ONCE).await.expect("a program")
}

/// Makes so many calls; returns how many had no answer.
async fn ask(program: &DspyService, took: &mut Durations, calls: usize) -> u64 {
    let calls = stream::iter(0..calls).map(|n| {
        let request = PredictRequest::new(json!({"question": n.to_string()}));
        let program = program.clone();
        async move {
            let began = Instant::now();
            let request = request.with_deadline(Deadline::at(began + LIMIT));
            (program.oneshot(request).await.is_ok(), began.elapsed())
        }
    });
    let mut failed = 0;
    let mut ends = calls.buffer_unordered(AT_ONCE);
    while let Some((is_answered, elapsed)) = ends.next().await {
        took.record(elapsed);
        failed += u64::from(!is_answered);
    }
    failed
}
