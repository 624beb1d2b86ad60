//! The calls that a budget lets through beyond what it has, of many at once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tower::ServiceExt;
use tower_dspy::{
    Budget, BudgetLimits, Deadline, Error, Host, Lm, PredictRequest,
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// Calls at once, again and again until none is answered.
pub(super) const AT_ONCE: usize = 64;
/// The budget, in calls.
pub(super) const CALLS: u64 = 10;

const LIMIT: Duration = Duration::from_secs(3);
const LM_CALL: Duration = Duration::from_millis(50);
/// The most tokens of an answer.
const ANSWER: u64 = 16;

/// What came of the calls of one LM.
pub(super) struct Use {
    pub(super) name: &'static str,
    pub(super) answered: u64,
    pub(super) refused: u64,
    /// Calls beyond the budget and one estimate.
    pub(super) overrun: u64,
    /// Calls that ended in another way.
    pub(super) failed: u64,
}

/// One LM, and one whose first member hangs in every other call.
pub(super) async fn measure(host: &Host, server: &ScriptedLm) -> [Use; 2] {
    let healthy = Reply::answer("so").delay(LM_CALL);
    server.script("budget", healthy.clone());
    let hanging = (0..AT_ONCE * 4).map(|n| match n % 2 {
        0 => Reply::hang(),
        _ => healthy.clone(),
    });
    server.script("budget-hangs", hanging.collect::<Vec<_>>());
    let lm = |model: &str| {
        let lm = Lm::new(format!("openai/{model}")).option("max_tokens", ANSWER);
        lm.base_url(server.base_url()).key("unused")
    };
    let members = [lm("budget-hangs"), lm("budget")];
    [
        run(host, server, "plain", lm("budget")).await,
        run(host, server, "failover", Lm::fallback(members)).await,
    ]
}

async fn run(host: &Host, server: &ScriptedLm, name: &'static str, lm: Lm) -> Use {
    let load = host.load("question -> answer").lm(lm);
    let program = load.max_in_flight(AT_ONCE).await.expect("a program");
    let ask = |budget: &Budget| {
        let request = PredictRequest::new(json!({"question": "Why?"})).with_budget(budget);
        let request = request.with_deadline(Deadline::within(LIMIT));
        program.clone().oneshot(request)
    };
    let unlimited = Budget::new(BudgetLimits::new());
    let one = ask(&unlimited).await.expect("an answer").usage.total_tokens;
    let body = server.requests("budget")[0].body.to_string();
    // By the length of the request, and the most of its answer.
    let estimate = (body.len() as u64).div_ceil(3) + ANSWER;

    let limit = CALLS * one;
    let budget = Budget::new(BudgetLimits::new().with_tokens(limit));
    let mut found = Use {
        name,
        answered: 0,
        refused: 0,
        overrun: 0,
        failed: 0,
    };
    loop {
        let before = found.answered;
        for end in join_all((0..AT_ONCE).map(|_| ask(&budget))).await {
            match end {
                Ok(_) => found.answered += 1,
                Err(Error::BudgetExceeded(_)) => found.refused += 1,
                Err(_) => found.failed += 1,
            }
        }
        if found.answered == before {
            break;
        }
    }
    let spent = budget.spent().tokens;
    found.overrun = spent.saturating_sub(limit + estimate).div_ceil(one);
    found
}
