//! How do I put limits around a DSPy program?
//!
//! Run: `cargo run --release --example stack`
//!
//! The first attempt hangs and is stopped after a second; the second one answers. What the LM saw is
//! printed: one request was closed by its client. It talks to a scripted LM on loopback. For a real one, give `Lm` its model and key instead.

use std::{error::Error, time::Duration};

use serde_json::json;
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    DeadlineLayer, Host, Lm, PredictRequest, RetryLayer, TimeoutLayer,
    testing::scripted_lm::{Reply, ScriptedLm},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    let server = ScriptedLm::start().await?;
    // The first answer would take a minute, the second comes at once.
    let slow = Reply::answer("too late").delay(Duration::from_secs(60));
    server.script("small", [slow, Reply::answer("Rayleigh scattering")]);

    let host = Host::embedded().create_venv(".venv").start().await?;
    let lm = Lm::new("openai/small").base_url(server.base_url());
    let qa = host
        .load("question -> answer")
        .lm(lm)
        .max_in_flight(64)
        .await?;

    let qa = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_secs(10)))
        .layer(RetryLayer::new(2)) // at most 3 attempts
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .service(qa);

    let request = PredictRequest::new(json!({"question": "Why is the sky blue?"}));
    let answer = qa.oneshot(request).await?;
    println!("{}", answer.outputs["answer"]);
    println!("the LM saw: {:?}", server.summary(""));
    Ok(())
}
