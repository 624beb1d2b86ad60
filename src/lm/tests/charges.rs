//! What an LM call is charged by its answer, and by what is known of that.

use std::{convert::Infallible, future::pending};

use http_body_util::Full;

use super::{
    budgets::{MICRO, ask, charged, priced, prompt, run, spent, tokens},
    *,
};
use crate::call::Usd;

/// An answer of JSON.
fn says(body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let answer = Response::builder().header("content-type", "application/json");
    answer.body(Full::new(body.into())).expect("an answer")
}

#[tokio::test(start_paused = true)]
async fn vectors_are_no_tokens_of_an_answer() {
    let vectors = format!(r#"{{"embeddings":[[{}0.25]]}}"#, "0.25,".repeat(1000));
    let (lm, _) = lm(move |_, _| {
        let answer = says(vectors.clone());
        async { Ok::<_, Infallible>(answer) }
    });
    let lm = connect(&priced(lm));
    for path in [
        "/v1/embeddings",
        "/openai/deployments/x/embeddings",
        "/v1beta/models/gemini-embedding-001:embedContent",
        "/v1beta/models/gemini-embedding-001:batchEmbedContents",
        "/v1/projects/p/locations/l/publishers/google/models/text-embedding-005:predict",
        "/api/embed",
        "/v1/embed",
        "/v2/embed",
        "/model/amazon.titan-embed-text-v2:0/invoke",
        "/model/cohere.embed-english-v3/invoke",
    ] {
        let budget = tokens(1_000_000);
        let (mut request, log) = with_log(ask(URL, &budget));
        *request.uri_mut() = format!("http://lm{path}").parse().expect("a URL");
        run(&lm, request).await.expect("vectors");
        assert_eq!(charged(&log, &budget).estimated_tokens, prompt(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_model_that_is_named_like_an_embedding_has_answers_in_tokens() {
    let (lm, _) = lm(|_, _| async { Ok::<_, Infallible>(says("a".repeat(400))) });
    let lm = connect(&priced(lm));
    let budget = tokens(1_000_000);
    let (mut request, log) = with_log(ask(URL, &budget));
    let path = "http://lm/openai/deployments/embedded-chat/chat/completions";
    *request.uri_mut() = path.parse().expect("a URL");
    run(&lm, request).await.expect("an answer");
    assert_eq!(charged(&log, &budget).estimated_tokens, prompt() + 100);
}

#[tokio::test(start_paused = true)]
async fn an_error_in_the_body_of_a_200_costs_nothing() {
    let (lm, _) = lm(|_, _| async {
        let error = json!({"error": {"code": 400, "message": "m".repeat(400)}});
        Ok::<_, Infallible>(says(error.to_string()))
    });
    let lm = connect(&priced(lm));
    let budget = tokens(1000);
    let (request, log) = with_log(ask(URL, &budget));
    run(&lm, request).await.expect("an answer");
    let call = charged(&log, &budget);
    assert_eq!((call.status, call.estimated_tokens), (Some(200), 0));
    assert_eq!(
        (call.cost, call.estimated_cost),
        (Some(Usd::ZERO), Some(Usd::ZERO))
    );
    assert_eq!(budget.spent().tokens, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_a_total_alone_is_charged_once() {
    for (usage, expected) in [
        (json!({"total_tokens": 100}), None),
        (
            json!({"prompt_tokens": 60, "total_tokens": 100}),
            Some(Usd::new(220.0 * MICRO)),
        ),
    ] {
        for is_stream in [false, true] {
            let body =
                json!({"choices": [{"delta": {"content": "a".repeat(400)}}], "usage": usage});
            let (lm, _) = lm(move |_, _| {
                let answer = match is_stream {
                    false => says(body.to_string()),
                    true => Response::builder()
                        .header("content-type", "text/event-stream")
                        .body(Full::new(Bytes::from(format!("data: {body}\n\n"))))
                        .expect("an answer"),
                };
                async { Ok::<_, Infallible>(answer) }
            });
            let budget = tokens(1000);
            let (request, log) = with_log(ask(URL, &budget));
            run(&connect(&priced(lm)), request)
                .await
                .expect("an answer");
            let [call] = log.calls().try_into().expect("one call");
            assert_eq!((call.total_tokens, call.estimated_tokens), (Some(100), 0));
            assert_eq!(call.cost, expected);
            assert_eq!(spent(&budget), (100, 0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_in_the_history_of_estimates_once() {
    let (lm, _) = lm(|number, _| async move {
        let completion = match number {
            0 => 4000,
            1 => 10,
            _ => pending().await,
        };
        let usage = json!({"prompt_tokens": 60, "completion_tokens": completion});
        Ok::<_, Infallible>(says(json!({"usage": usage}).to_string()))
    });
    let lm = connect(&lm.limits(LmLimits::new().with_first_byte(SECOND)));
    let budget = tokens(1_000_000);
    let ask = || {
        let mut asked = request(URL, "x", false);
        asked.context_mut().add_budget(&budget);
        asked
    };
    for _ in 0..2 {
        run(&lm, ask()).await.expect("an answer");
    }
    let prompt = (ask().body().len() as u64).div_ceil(3);
    let under_way = tokio::spawn(lm.send(ask()));
    tokio::task::yield_now().await;
    assert_eq!(budget.spent().reserved_tokens, prompt + 3500);
    under_way.abort();
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_shed_below_the_attempt_costs_nothing() {
    let (lm, _) = lm(|_, _| async {
        Err::<Response<Full<Bytes>>, BoxError>(tower::load_shed::error::Overloaded::new().into())
    });
    let budget = tokens(1000);
    let (request, log) = with_log(ask(URL, &budget));
    run(&connect(&priced(lm)), request).await.expect_err("shed");
    assert_eq!(charged(&log, &budget).estimated_tokens, 0);
}
