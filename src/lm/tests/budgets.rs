//! LM calls with budgets: what is reserved, refused and charged.

use std::{convert::Infallible, future::pending};

use futures_util::{future::join_all, stream};
use http_body_util::{Full, StreamBody};

use super::*;
use crate::{
    call::{Budget, BudgetLimits, Cost, LmCall, Price, Usd},
    layers::HedgeLayer,
    testing::scripted_lm::{Reply, ScriptedLm},
};

pub(super) const MICRO: f64 = 1e-6;

/// A request with an answer of at most 40 tokens.
pub(super) fn ask(base: &str, budget: &Budget) -> LmRequest {
    let mut asked = request(base, "x", false);
    let body = json!({"messages": [{"role": "user", "content": "ping"}], "max_tokens": 40});
    *asked.body_mut() = body.to_string().into();
    asked.context_mut().add_budget(budget);
    asked
}

/// Of the prompt of such a request, by its length.
pub(super) fn prompt() -> u64 {
    let asked = ask(URL, &tokens(1));
    (asked.body().len() as u64).div_ceil(3)
}

pub(super) fn tokens(tokens: u64) -> Budget {
    Budget::new(BudgetLimits::new().with_tokens(tokens))
}

/// One USD for a million tokens of prompts, four for those of answers.
pub(super) fn priced(lm: Lm) -> Lm {
    lm.price(Price::per_million(1.0, 4.0))
}

/// An answer with 60 tokens of a prompt and 40 of an answer.
fn counted() -> Response<Full<Bytes>> {
    let usage = r#"{"usage":{"prompt_tokens":60,"completion_tokens":40,"total_tokens":100}}"#;
    Response::new(usage.into())
}

pub(super) async fn run(lm: &LmHandle, request: LmRequest) -> Result<String, LmFailure> {
    text(lm.send(request).await?.into_body()).await
}

/// The tokens that were spent, and those that no provider counted.
pub(super) fn spent(budget: &Budget) -> (u64, u64) {
    let spent = budget.spent();
    assert_eq!((spent.reserved_tokens, spent.reserved_usd), (0, Usd::ZERO));
    (spent.tokens, spent.estimated_tokens)
}

/// The one call of a log, and that the budget was charged what it says.
pub(super) fn charged(log: &LmLog, budget: &Budget) -> LmCall {
    let [call] = log.calls().try_into().expect("one call");
    let estimated = call.estimated_tokens;
    let tokens = call.total_tokens.or(call.prompt_tokens).unwrap_or_default();
    assert_eq!(spent(budget), (tokens + estimated, estimated));
    let usd = budget.spent().usd;
    assert_eq!(
        Some(usd),
        call.cost.zip(call.estimated_cost).map(|(a, b)| a + b)
    );
    call
}

#[tokio::test(start_paused = true)]
async fn calls_at_once_pass_a_budget_by_one_estimate_at_most() {
    let (lm, sent) = lm(|_, _| async {
        sleep(SECOND).await;
        Ok::<_, Infallible>(counted())
    });
    let lm = connect(&lm);
    let ten = tokens(1000);
    let estimate = prompt() + 40;
    let got = join_all((0..64).map(|_| run(&lm, ask(URL, &ten)))).await;
    let answered = got.iter().filter(|got| got.is_ok()).count() as u64;
    assert_eq!(answered, 1000_u64.div_ceil(estimate));
    assert_eq!(u64::from(sent.load(Ordering::Relaxed)), answered);
    for refused in got.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind(), LmFailureKind::Refused);
        assert_eq!(Classify::kind(&refused), ErrorKind::BudgetExceeded);
    }
    assert_eq!(spent(&ten), (100 * answered, 0));
    assert_eq!(ten.spent().refused, 64 - answered);
}

#[tokio::test(start_paused = true)]
async fn calls_within_their_estimates_pass_a_budget_by_less_than_one_estimate() {
    let (lm, _) = lm(|_, _| async {
        sleep(SECOND).await;
        Ok::<_, Infallible>(counted())
    });
    let lm = connect(&lm);
    let budget = tokens(1000);
    // A prompt so long that no call takes more than its estimate.
    let ask = || {
        let mut asked = ask(URL, &budget);
        let body = json!({"messages": [" ".repeat(200)], "max_tokens": 40});
        *asked.body_mut() = body.to_string().into();
        asked
    };
    let estimate = (ask().body().len() as u64).div_ceil(3) + 40;
    assert!(estimate >= 100);
    while run(&lm, ask()).await.is_ok() {
        join_all((0..64).map(|_| run(&lm, ask()))).await;
    }
    let (tokens, _) = spent(&budget);
    assert!((1000..1000 + estimate).contains(&tokens), "{tokens}");
}

#[tokio::test(start_paused = true)]
async fn each_attempt_of_a_retry_is_charged_and_an_error_costs_nothing() {
    let (lm, sent) = lm(|number, _| async move {
        match number {
            0 => pending().await,
            1 => {
                let answer = Response::builder().status(503);
                Ok::<_, Infallible>(answer.body(Full::from("busy")).expect("an answer"))
            }
            _ => Ok(counted()),
        }
    });
    let limits = LmLimits::new().with_first_byte(SECOND);
    let lm = connect(&priced(lm).limits(limits).layer(retries(2)));
    let budget = tokens(1000);
    let (request, log) = with_log(ask(URL, &budget));
    run(&lm, request).await.expect("the third is answered");
    assert_eq!(sent.load(Ordering::Relaxed), 3);
    assert_eq!(spent(&budget), (prompt() + 100, prompt()));
    let costs: Vec<_> = log.calls().iter().map(Cost::of).collect();
    let usd = |tokens: u64| Usd::new(tokens as f64 * MICRO);
    let expected = [
        (usd(0), usd(prompt())),
        (usd(0), usd(0)),
        (usd(220), usd(0)),
    ];
    assert_eq!(
        costs
            .iter()
            .map(|cost| (cost.usd, cost.estimated_usd))
            .collect::<Vec<_>>(),
        expected
    );
    assert!(costs.iter().all(|cost| cost.unknown_calls == 0));
    assert_eq!(budget.spent().usd, usd(220 + prompt()));
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_a_hedge_is_charged() {
    let (lm, _) = lm(|number, _| async move {
        match number {
            0 => pending().await,
            _ => Ok::<_, Infallible>(counted()),
        }
    });
    let lm = connect(&lm.layer(HedgeLayer::after(SECOND)));
    let budget = tokens(1000);
    run(&lm, ask(URL, &budget))
        .await
        .expect("the second is answered");
    assert_eq!(spent(&budget), (prompt() + 100, prompt()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_off_is_charged_what_came_of_it() {
    let event = |text: &str| {
        let event = json!({"choices": [{"delta": {"content": text}}]});
        Ok::<_, Infallible>(Frame::data(Bytes::from(format!("data: {event}\n\n"))))
    };
    let (lm, _) = lm(move |_, _| {
        let events = stream::iter([event("a"), event("b"), event("c")]);
        let body = StreamBody::new(futures_util::StreamExt::chain(events, stream::pending()));
        let answer = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(answer.body(body))
    });
    let lm = connect(&priced(lm).limits(LmLimits::new().with_idle(SECOND)));
    let budget = tokens(1000);
    let (request, log) = with_log(ask(URL, &budget));
    run(&lm, request).await.expect_err("it pauses");
    let call = charged(&log, &budget);
    assert_eq!(call.outcome, LmOutcome::Elapsed);
    assert_eq!(call.estimated_tokens, prompt() + 3);
    assert_eq!((call.total_tokens, call.cost), (None, Some(Usd::ZERO)));
    let estimated = Usd::new((prompt() + 12) as f64 * MICRO);
    assert_eq!(call.estimated_cost, Some(estimated));
}

#[tokio::test(start_paused = true)]
async fn what_a_provider_counted_of_a_stream_that_is_cut_off_is_no_estimate() {
    let events = concat!(
        "data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"a\"}}\n\n",
    );
    let (lm, _) = lm(move |_, _| {
        let events = events.split_inclusive("\n\n");
        let frames = events.map(|event| Ok::<_, Infallible>(Frame::data(Bytes::from(event))));
        let body = StreamBody::new(futures_util::StreamExt::chain(
            stream::iter(frames),
            stream::pending(),
        ));
        let answer = Response::builder().header("content-type", "text/event-stream");
        std::future::ready(answer.body(body))
    });
    let lm = connect(&priced(lm).limits(LmLimits::new().with_idle(SECOND)));
    let budget = tokens(1000);
    let (request, log) = with_log(ask(URL, &budget));
    run(&lm, request).await.expect_err("it pauses");
    let call = charged(&log, &budget);
    assert_eq!((call.total_tokens, call.estimated_tokens), (Some(26), 1));
    assert_eq!(call.cost, Some(Usd::new(29.0 * MICRO)));
    assert_eq!(call.estimated_cost, Some(Usd::new(4.0 * MICRO)));
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_without_counts_is_charged_by_its_length() {
    let (lm, _) = lm(|_, _| async {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("a".repeat(400))))
    });
    let lm = connect(&priced(lm));
    let budget = tokens(1000);
    let (request, log) = with_log(ask(URL, &budget));
    run(&lm, request).await.expect("an answer");
    let call = charged(&log, &budget);
    assert_eq!(call.estimated_tokens, prompt() + 100);
}

#[tokio::test]
async fn a_request_that_no_connection_took_costs_nothing() {
    let budget = tokens(1000);
    let (_bound, url) = nowhere();
    let (request, log) = with_log(ask(&url, &budget));
    let failure = run(&connect(&priced(lm_at(&url))), request).await;
    let failure = failure.expect_err("nothing listens");
    assert_eq!(failure.kind(), LmFailureKind::Connect);
    let call = charged(&log, &budget);
    assert_eq!(
        (call.cost, call.estimated_cost),
        (Some(Usd::ZERO), Some(Usd::ZERO))
    );

    // Sent, by the same client, to a server that never answers.
    let server = ScriptedLm::start().await.expect("a server");
    server.script("x", Reply::hang());
    // It counts from before the connection, and the request has to be sent before it passes.
    let limits = LmLimits::new().with_first_byte(5 * SECOND);
    let lm = lm_at(server.base_url()).limits(limits);
    let mut asked = ask(server.base_url(), &budget);
    *asked.body_mut() = json!({"model": "x", "messages": []}).to_string().into();
    let estimate = (asked.body().len() as u64).div_ceil(3);
    let (request, log) = with_log(asked);
    run(&connect(&priced(lm)), request)
        .await
        .expect_err("it hangs");
    assert_eq!(charged(&log, &budget).estimated_tokens, estimate);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_money_refuses_an_lm_without_a_price() {
    let (lm, sent) = lm(|_, _| async { Ok::<_, Infallible>(counted()) });
    let budget = Budget::new(BudgetLimits::new().with_usd(Usd::new(300.0 * MICRO)));
    let (request, log) = with_log(ask(URL, &budget));
    let refused = run(&connect(&lm), request).await.expect_err("no price");
    assert_eq!(Classify::kind(&refused), ErrorKind::BudgetExceeded);
    assert!(refused.message().contains("price"), "{refused}");
    assert_eq!(outcomes(&log), [LmOutcome::Refused]);
    assert_eq!((sent.load(Ordering::Relaxed), spent(&budget)), (0, (0, 0)));

    let lm = connect(&priced(lm));
    let mut answered = 0;
    while run(&lm, ask(URL, &budget)).await.is_ok() {
        answered += 1;
    }
    assert_eq!((answered, budget.spent().usd), (2, Usd::new(440.0 * MICRO)));
}

#[tokio::test(start_paused = true)]
async fn the_cost_of_an_lm_without_a_price_is_unknown_and_not_zero() {
    let (lm, _) = lm(|number, _| async move {
        let answer = match number {
            0 => counted(),
            _ => Response::builder()
                .status(503)
                .body(Full::from("busy"))
                .expect("an answer"),
        };
        Ok::<_, Infallible>(answer)
    });
    let lm = connect(&lm);
    let log = LmLog::default();
    for _ in 0..2 {
        let mut asked = request(URL, "x", false);
        asked.extensions_mut().insert(log.clone());
        run(&lm, asked).await.expect("an answer");
    }
    let costs: Vec<_> = log.calls().iter().map(|call| call.cost).collect();
    assert_eq!(costs, [None, Some(Usd::ZERO)]);
    let cost = log.0.record().read(|spent| spent.cost);
    assert_eq!((cost.usd, cost.unknown_calls), (Usd::ZERO, 1));
}
