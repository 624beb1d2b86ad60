//! The ways to name a program.

use serde_json::json;
use tower::ServiceExt;

use crate::support::{ask, host, lm, lm_server, load};

#[tokio::test]
async fn a_program_is_a_factory_a_class_an_instance_a_signature_or_a_function() {
    let host = host().await;
    for target in [
        "shapes:factory",
        "shapes:Ask",
        "shapes:instance",
        "shapes:Holder.nested",
        "shapes:Question",
        "shapes:OneWay",
        "shapes:function",
        "question -> answer",
        "question: str -> reasoning, answer: str",
    ] {
        let program = load(&host, target, target).await;
        assert_eq!(program.program(), target);
        assert_eq!(program.schema().inputs[0].name, "question");
        let answer = program.oneshot(ask("why?")).await.unwrap();
        assert_eq!(answer.outputs["answer"], "You said: why?", "{target}");
        assert_eq!(lm_server().await.requests(target).len(), 1);
    }
}

#[tokio::test]
async fn a_program_can_be_loaded_from_source() {
    let host = host().await;
    let source = "async def shout(text: str): return {'text': text.upper()}";
    let shout = host.load_source(source, "shout").await.unwrap();
    let request = tower_dspy::PredictRequest::new(json!({"text": "hey"}));
    assert_eq!(shout.oneshot(request).await.unwrap().outputs["text"], "HEY");

    let error = host
        .load_source("def broken(:", "broken")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("SyntaxError"), "{error}");
}

#[tokio::test]
async fn each_load_has_limits_and_an_lm_of_its_own() {
    let host = host().await;
    for model in ["load-a", "load-b"] {
        let load = host.load("shapes:instance").lm(lm(model).await);
        load.await.unwrap().oneshot(ask("?")).await.unwrap();
        assert_eq!(lm_server().await.requests(model).len(), 1);
    }
}

#[tokio::test]
async fn the_options_of_an_lm_reach_the_provider() {
    let host = host().await;
    let lm = lm("options").await.temperature(0.25).max_tokens(77);
    let qa = host.load("question -> answer").lm(lm).await.unwrap();
    qa.oneshot(ask("?")).await.unwrap();
    let body = &lm_server().await.requests("options")[0].body;
    assert_eq!(body["temperature"], 0.25);
    assert!(body.to_string().contains(":77"), "{body}");
}
