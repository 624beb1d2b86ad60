//! An LM for trying the service without a key: it gives each question the same answer, word by word.
//!
//! Run: `cargo run --example scripted_lm`, and in another terminal the line that it prints.

use std::time::Duration;

use tower_dspy::testing::scripted_lm::{Reply, ScriptedLm};

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let reply = Reply::fields([
        ("reasoning", "The passage says when the lamp blinks."),
        ("answer", "The lamp blinks because its battery is low."),
        ("confidence", "0.9"),
    ]);
    let lm = ScriptedLm::start().await?;
    lm.script("gpt-4o-mini", reply.drip(Duration::from_millis(100)));
    let url = lm.base_url();
    println!("export OPENAI_API_KEY=none OPENAI_BASE_URL={url}; cargo run");
    tokio::signal::ctrl_c().await
}
