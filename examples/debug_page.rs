//! How do I see what my programs do now, and what became of their calls?
//!
//! Run: `cargo run --release --example debug_page`, and open <http://127.0.0.1:8080/debug/calls>.
//!
//! It keeps itself busy: calls that are answered early or late, that fail, are retried, cancelled, and
//! that clean up. With `--quiet` it has none of its own, and the LM of `slow` never answers; then ask it:
//!
//! ```sh
//! curl localhost:8080/ask/slow --json '{"question": "Why is the sky blue?"}'
//! curl localhost:8080/debug/calls/page.txt
//! ```
//!
//! It talks to a scripted LM on loopback. `PAGE_TOKEN` is the password of the page, if it is to have
//! one, and `ADDRESS` another address to listen at.

use std::{env, error::Error, time::Duration};

use axum::Router;
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_dspy::{
    Carrier, Cause, Deadline, DeadlineLayer, DspyService, Error as CallError, Host, InboundLayer,
    Lm, PredictRequest, Prediction, RetryBudget, RetryLayer, TimeoutLayer, TrackLayer, Tracker,
    inbound::axum::{liveness, predict},
    page::DebugPage,
    server::serve,
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// Three LM calls, one after the other, and a clean-up that takes its time.
const RESEARCH: &str = r#"
import asyncio

import dspy


class Research(dspy.Module):
    def __init__(self):
        super().__init__()
        self.plan = dspy.Predict("question -> plan")
        self.read = dspy.Predict("question, plan -> notes")
        self.answer = dspy.Predict("question, notes -> answer")

    async def aforward(self, question):
        try:
            plan = await self.plan.acall(question=question)
            notes = await self.read.acall(question=question, plan=plan.plan)
            return await self.answer.acall(question=question, notes=notes.notes)
        finally:
            await asyncio.sleep(0.2)


research = Research()
"#;

type Program = BoxCloneSyncService<PredictRequest, Prediction, CallError>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    let host = Host::workers(2).create_venv(".venv").start().await?;
    let scripted = ScriptedLm::start().await?;
    let tracker = Tracker::new();
    let budget = RetryBudget::default();

    let program = |label: &'static str, service: DspyService| -> Program {
        let stack = ServiceBuilder::new()
            .layer(TrackLayer::new(tracker.clone()).with_label(label))
            .layer(DeadlineLayer::new(Duration::from_secs(30)).with_grace(Duration::from_secs(1)))
            .layer(RetryLayer::new(1).with_budget(budget.clone()))
            .layer(TimeoutLayer::new(Duration::from_secs(20)))
            .service(service);
        BoxCloneSyncService::new(stack)
    };
    let is_quiet = env::args().any(|arg| arg == "--quiet");
    let mut programs = Vec::new();
    for (label, model, reply) in replies(is_quiet) {
        scripted.script(model, reply);
        let lm = Lm::new(format!("openai/{model}")).base_url(scripted.base_url());
        let load = match label {
            "research" => host.load_source(RESEARCH, "research"),
            _ => host.load("question -> answer"),
        };
        programs.push((label, program(label, load.lm(lm).max_in_flight(8).await?)));
    }

    let mut app = Router::new();
    for (label, program) in &programs {
        app = app.route(&format!("/ask/{label}"), predict(program.clone()));
    }
    let mut page = DebugPage::new(tracker.clone())
        .host(&host)
        .retry_budget("all programs", &budget)
        .allow_cancel();
    if let Ok(token) = env::var("PAGE_TOKEN") {
        page = page.token(token);
    }
    let app = app
        .layer(InboundLayer::new().max(Duration::from_secs(60)))
        .nest("/debug/calls", page.into_router())
        .route("/livez", axum::routing::get(liveness));

    if !is_quiet {
        keep_busy(programs, tracker);
    }
    let address = env::var("ADDRESS").unwrap_or_else(|_| "127.0.0.1:8080".into());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    let report = serve(listener, app, host.shutdown(Duration::from_secs(5))).await?;
    eprintln!("{report}");
    Ok(())
}

/// The programs, each with its model and what that answers.
fn replies(is_quiet: bool) -> [(&'static str, &'static str, Reply); 4] {
    let answer = || Reply::answer("Because air scatters blue light more than red.");
    let ms = Duration::from_millis;
    let steps = Reply::fields([
        ("plan", "Look at the light, then at the air."),
        ("notes", "Short waves are scattered more than long ones."),
        ("answer", "Because air scatters blue light more than red."),
    ]);
    let slow = match is_quiet {
        true => Reply::hang(),
        false => answer().delay(ms(6000)),
    };
    [
        ("quick", "gpt-small", answer().delay(ms(150))),
        ("research", "gpt-large", steps.delay(ms(800)).drip(ms(20))),
        ("slow", "gpt-slow", slow),
        ("busy", "gpt-busy", Reply::status(429)),
    ]
}

/// Asks the programs again and again, with time that is enough or not.
fn keep_busy(programs: Vec<(&'static str, Program)>, tracker: Tracker) {
    tokio::spawn(async move {
        for n in 0u64.. {
            sleep(Duration::from_millis(120)).await;
            let (label, program) = &programs[match n % 20 {
                0..14 => 0,
                14..17 => 1,
                17 | 18 => 2,
                _ => 3,
            }];
            let limit = match *label {
                "quick" => [400, 250, 1000, 160][n as usize % 4],
                "research" => 2_500 + n % 7 * 700,
                _ => 2_000 + n % 5 * 2_000,
            };
            let mut request = PredictRequest::new(json!({"question": "Why is the sky blue?"}));
            let context = request.context_mut();
            context.deadline = Some(Deadline::within(Duration::from_millis(limit)));
            let id = context.id();
            tokio::spawn(program.clone().oneshot(request));
            if n % 40 == 17 {
                let tracker = tracker.clone();
                tokio::spawn(async move {
                    sleep(Duration::from_millis(900)).await;
                    tracker.cancel_as(id, Cause::ClientGone).settled().await;
                });
            }
        }
    });
}
