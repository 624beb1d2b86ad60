//! The real program, asked by HTTP, against a scripted LM.

use axum::{
    body::{Body, to_bytes},
    http::Request,
};
use qa_service::{
    config::Config,
    qa::Qa,
    routes,
    server::{PROGRAM, host},
};
use serde_json::{Value, json};
use tower::{BoxError, ServiceExt};
use tower_dspy::{
    Lm,
    testing::scripted_lm::{Reply, ScriptedLm},
};

#[tokio::test]
async fn the_program_answers_by_the_lm() -> Result<(), BoxError> {
    let scripted = ScriptedLm::start().await?;
    let fields = [
        ("reasoning", "It says so."),
        ("answer", "The battery is low."),
        ("confidence", "0.9"),
    ];
    scripted.script("small", Reply::fields(fields));
    let lm = Lm::new("openai/small").base_url(scripted.base_url());

    let config = Config::load()?;
    let host = host(&config).start().await?;
    let program = host.load(PROGRAM).lm(lm).await?;
    let qa = Qa::new(program.clone(), program.streaming(), config.stack.layer()?);

    let body = json!({"question": "Why does it blink?", "passages": ["Low battery: it blinks."]});
    let request = Request::post("/qa")
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))?;
    let response = routes::router(qa).oneshot(request).await?;
    let answer: Value = serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await?)?;
    assert_eq!(
        answer,
        json!({"answer": "The battery is low.", "confidence": 0.9})
    );
    assert_eq!(scripted.requests("small").len(), 1);
    Ok(())
}
