//! What calls cost in money, by DSPy's table of prices.

use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Budget, BudgetLimits, Classify, DeadlineLayer, ErrorKind, Lm, Price, Usd,
    testing::scripted_lm::Reply,
};

use crate::support::{ask, eventually, host, host_alone, lm, lm_server, load};

/// The LM of this name, with the server of the tests for its provider's.
async fn lm_of(name: &str) -> Lm {
    let url = lm_server().await.base_url();
    Lm::new(name).base_url(url).key("test-key")
}

#[tokio::test]
async fn the_cost_of_a_call_is_the_one_that_dspy_estimates() {
    let (host, server) = (host().await, lm_server().await);
    let plain = || Reply::answer("a short answer");
    for (provider, model, reply) in [
        ("openai", "gpt-4o-mini", plain()),
        (
            "openai",
            "gpt-4o-mini-2024-07-18",
            plain().cached_tokens(100),
        ),
        ("openai", "o4-mini", plain().reasoning_tokens(64)),
        ("openai", "gpt-4.1", plain().cached_tokens(300_000)),
        ("anthropic", "claude-sonnet-4-5", plain()),
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            plain().cached_tokens(100),
        ),
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            plain().cached_tokens(300_000),
        ),
        ("gemini", "gemini-2.5-flash", plain().cached_tokens(10)),
        (
            "gemini",
            "gemini-2.5-pro",
            plain().reasoning_tokens(64).cached_tokens(300_000),
        ),
    ] {
        server.script(model, reply);
        let name = format!("{provider}/{model}");
        let program = host.load("spends:ReportsCost").lm(lm_of(&name).await);
        let program = program.await.unwrap();
        let answer = program.oneshot(ask("why")).await.unwrap();
        let estimated = answer.outputs["cost"].as_f64();
        let estimated = estimated.unwrap_or_else(|| panic!("DSPy has no price of {name}"));
        let cost = answer.cost;
        assert!(
            (cost.usd.as_f64() - estimated).abs() < 1e-12,
            "{name}: {cost:?} {estimated}"
        );
        assert!(cost.usd > Usd::ZERO);
        assert_eq!((cost.estimated_usd, cost.unknown_calls), (Usd::ZERO, 0));
        assert_eq!(answer.lm_calls[0].cost, Some(cost.usd));
    }
}

#[tokio::test]
async fn a_model_that_is_in_no_table_has_an_unknown_cost_unless_it_is_given_a_price() {
    let host = host().await;
    let program = load(&host, "question -> answer", "unpriced").await;
    let answer = program.oneshot(ask("why")).await.unwrap();
    assert_eq!((answer.cost.usd, answer.cost.unknown_calls), (Usd::ZERO, 1));
    assert_eq!(answer.lm_calls[0].cost, None);

    let priced = lm("unpriced").await.price(Price::per_million(1.0, 1.0));
    let program = host.load("question -> answer").lm(priced).await.unwrap();
    let answer = program.oneshot(ask("why")).await.unwrap();
    let tokens = answer.usage.total_tokens as f64;
    assert_eq!(answer.cost.usd, Usd::new(tokens * 1e-6));
    assert_eq!(answer.cost.unknown_calls, 0);
}

#[tokio::test]
async fn an_error_has_the_estimated_cost_of_the_lm_call_that_it_ended() {
    let (host, server) = (host().await, lm_server().await);
    server.script("gpt-4o-mini-hangs", Reply::hang());
    let hangs = lm("gpt-4o-mini-hangs")
        .await
        .price(Price::per_million(1.0, 1.0));
    let program = host.load("question -> answer").lm(hangs).await.unwrap();
    // Long enough for the LM call to begin, on a busy machine as well.
    let limit = std::time::Duration::from_secs(5);
    let service = ServiceBuilder::new()
        .layer(DeadlineLayer::new(limit))
        .service(program);
    let error = service.oneshot(ask("why")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Deadline);
    let spent = error.spent().expect("an LM call");
    let call = &spent.lm_calls[0];
    assert!(call.estimated_tokens > 0, "{call:?}");
    assert_eq!(spent.cost.usd, Usd::ZERO);
    assert_eq!(
        spent.cost.estimated_usd,
        Usd::new(call.estimated_tokens as f64 * 1e-6)
    );
}

#[tokio::test]
async fn the_host_adds_up_what_its_lm_calls_cost() {
    let host = host_alone().await;
    let (before, lms) = (host.stats().lm.cost, host.lm_stats());
    let priced = lm("adds-up").await.price(Price::per_million(1.0, 1.0));
    let program = host.load("question -> answer").lm(priced).await.unwrap();
    let first = program.clone().oneshot(ask("why")).await.unwrap();
    let second = program.oneshot(ask("why")).await.unwrap();
    let spent = first.cost.usd + second.cost.usd;
    assert_eq!(host.stats().lm.cost.usd, before.usd + spent);
    assert!(lms.iter().all(|lm| &*lm.model != "adds-up"));
    let row = host
        .lm_stats()
        .into_iter()
        .find(|lm| &*lm.model == "adds-up");
    assert_eq!(row.expect("a row").cost.usd, spent);
}

#[tokio::test]
async fn a_budget_of_money_holds_by_dspys_prices() {
    let (host, server) = (host().await, lm_server().await);
    server.script("gpt-4.1-nano", Reply::answer("a short answer"));
    let program = host
        .load("question -> answer")
        .lm(lm_of("openai/gpt-4.1-nano").await);
    let program = program.await.unwrap();
    let cost = program.clone().oneshot(ask("why")).await.unwrap().cost.usd;
    let limits = BudgetLimits::new().with_usd(Usd::new(cost.as_f64() * 2.5));
    let budget = Budget::new(limits);
    for _ in 0..3 {
        let request = ask("why").with_budget(&budget);
        program.clone().oneshot(request).await.unwrap();
    }
    let request = ask("why").with_budget(&budget);
    let error = program.clone().oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BudgetExceeded);
    assert_eq!(budget.spent().usd, cost + cost + cost);
    // Settled, and not only counted.
    eventually("the reservations to end", || {
        budget.spent().reserved_usd == Usd::ZERO
    })
    .await;

    let program = load(&host, "question -> answer", "not-in-the-table").await;
    let request = ask("why").with_budget(&budget);
    let error = program.oneshot(request).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BudgetExceeded);
    assert!(error.to_string().contains("price"), "{error}");
    assert_eq!(server.requests("not-in-the-table").len(), 0);
}
