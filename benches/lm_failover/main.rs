//! An LM made of two, of which the first hangs in 1 %, in 2 % and in 50 % of its calls, beside the
//! second one alone, which is healthy: how long an answer takes, where the second takes over after an
//! even share of the time, after a given one, and where it runs beside the first.
//!
//! The ratio is that of the answers' 99th percentile to the 99th percentile of the healthy LM alone
//! plus the time after which the second is asked. At 1 that time is all that a hanging LM costs. Of
//! 1000 calls the 99th percentile is the tenth slowest or the one before it: where 2 % and 50 % hang it
//! is that of a call whose first LM hangs, and where 1 % do mostly that of one whose first is healthy.
//!
//! And a budget of ten calls' tokens, of which 64 are made at once: how many it lets through beyond what
//! it has and one estimate.
//!
//! Run: `cargo bench --bench lm_failover`

#[path = "../support/mod.rs"]
mod support;

mod budget;
mod failover;

use support::{count, figure, works_left};
use tower_dspy::testing::scripted_lm::ScriptedLm;

#[tokio::main]
async fn main() {
    let host = support::host().await;
    let server = ScriptedLm::start().await.expect("a server");
    let (alone, sides) = failover::measure(&host, &server).await;
    let budgets = budget::measure(&host, &server).await;
    let left = works_left(&host).await;

    println!(
        "calls of one LM call each, {} at once, for {} each; the healthy LM alone has a p99 of \
         {:.0} ms",
        failover::AT_ONCE,
        failover::CALLS,
        alone.ms(99.0)
    );
    let mut worst: f64 = 0.0;
    for side in &sides {
        let name = &side.name;
        let ratio = side.ratio(&alone);
        worst = worst.max(ratio);
        figure(&format!("failover_p50_{name}"), side.took.ms(50.0), "ms");
        figure(&format!("failover_p99_{name}"), side.took.ms(99.0), "ms");
        figure(&format!("failover_p99_vs_alone_{name}"), ratio, "x");
    }
    let failed = sides.iter().map(|side| side.failed).sum();
    let open = sides.iter().map(|side| side.open).sum();
    count("failover_calls_without_answer", failed);
    count("failover_lm_calls_left_open", open);
    count("lm_failover_works_left", left);
    figure("failover_p99_vs_alone", worst, "x");

    println!(
        "a budget of {} calls' tokens, and {} calls at once until it is used up",
        budget::CALLS,
        budget::AT_ONCE
    );
    for side in &budgets {
        let name = side.name;
        count(&format!("budget_answered_{name}"), side.answered);
        count(&format!("budget_refused_{name}"), side.refused);
        count(&format!("budget_failed_{name}"), side.failed);
    }
    let overrun = budgets.iter().map(|side| side.overrun).sum();
    count("budget_overrun", overrun);
}
