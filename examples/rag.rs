//! How do I run retrieval-augmented generation under one deadline, and what stops when it passes?
//!
//! Run: `cargo run --release --example rag`, or `cargo test --example rag`
//!
//! The program (`rag/rag.py`) rewrites a question, retrieves passages, answers and checks: three LM
//! calls. It retrieves by a `dspy.Embedder` with an index in Python, or by a tool that is a Rust
//! function. A call is then cancelled in each of its phases: the connection of that phase closes, and
//! no further request comes.
//!
//! It talks to a scripted LM on loopback. For a real one, give `Lm` its model and key instead, and
//! have `ingest` no address.

#[path = "rag/packages.rs"]
mod packages;

use std::{future::pending, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{sync::Notify, time::sleep};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_dspy::{
    DspyService, DspyServiceBuilderExt, Error, Host, Lm, PredictRequest, Prediction, Tool,
    ToolCall,
    host::env::PythonEnv,
    testing::scripted_lm::{Outcome, Reply, RequestRecord, ScriptedLm},
};

const PASSAGES: [&str; 4] = [
    "Rome is the capital of Italy. It lies on the Tiber.",
    "Bern is the capital of Switzerland. It lies on the Aare.",
    "Honey bees dance to tell where flowers are.",
    "Rayleigh scattering makes the sky blue.",
];
/// The model of the program's embedder.
const EMBEDDER: &str = "text-embedding-3-small";

/// What the LM answers to the three calls of the program.
fn replies() -> [Reply; 3] {
    [
        Reply::fields([("query", "river of Italy capital")]),
        Reply::fields([("answer", "On the Tiber.")]),
        Reply::fields([("grounded", "yes")]),
    ]
}

/// The program with an index in Python, or with a retriever in Rust.
async fn load(
    host: &Host,
    server: &ScriptedLm,
    model: &str,
    retriever: Option<Tool>,
) -> Result<DspyService, BoxError> {
    let lm = Lm::new(format!("openai/{model}")).base_url(server.base_url());
    let load = match retriever {
        // litellm and numpy are imported now, and not by the first call: the embedder needs them.
        None => host.load("rag:RagByIndex"),
        Some(tool) => host.load("rag:RagByTool").tool(tool),
    };
    Ok(load.lm(lm).await?)
}

/// Asks a question; all phases of the call share one deadline.
async fn ask(rag: DspyService) -> Result<Prediction, Error> {
    let question = json!({"question": "On which river does the capital of Italy lie?"});
    let rag = ServiceBuilder::new()
        .deadline(Duration::from_secs(30))
        .service(rag);
    rag.oneshot(PredictRequest::new(question)).await
}

/// The passages that share the most words with the query.
fn search() -> Tool {
    let search = Tool::new("search", "Finds passages.", |call: ToolCall| async move {
        let query = call.arguments["query"].as_str().unwrap_or_default();
        let words = |text: &&str| query.split(' ').filter(|word| text.contains(word)).count();
        let mut found = PASSAGES.to_vec();
        found.sort_by_key(|text| usize::MAX - words(text));
        found.truncate(2);
        Ok::<_, BoxError>(found)
    });
    search.argument("query", json!({"type": "string"}))
}

/// A search that never ends, and says when it began.
fn endless_search(began: &Arc<Notify>) -> Tool {
    let began = began.clone();
    let search = Tool::new("search", "Finds nothing.", move |_: ToolCall| {
        began.notify_one();
        pending::<Result<(), BoxError>>()
    });
    search.argument("query", json!({"type": "string"}))
}

/// Drops a call in one phase: after some LM calls and embeddings, the last of which never answers.
async fn cancel(
    host: &Host,
    server: &ScriptedLm,
    phase: &str,
    lm_calls: usize,
    embeddings: usize,
) -> Result<(), BoxError> {
    let model = format!("cancelled-in-{phase}");
    let embedded = server.requests(EMBEDDER).len();
    let searches = Arc::new(Notify::new());
    let mut script = replies().to_vec();
    let mut retriever = None;
    match phase {
        "embed" => server.script(EMBEDDER, Reply::hang()),
        "search" => retriever = Some(endless_search(&searches)),
        _ => script[lm_calls - 1] = Reply::hang(),
    }
    server.script(&model, script);
    let rag = load(host, server, &model, retriever).await?;

    let call = tokio::spawn(ask(rag.clone()));
    let arrived = |count| move |all: &[RequestRecord]| all.len() == count;
    server.wait_for(&model, arrived(lm_calls)).await?;
    server
        .wait_for(EMBEDDER, arrived(embedded + embeddings))
        .await?;
    if phase == "search" {
        searches.notified().await;
    }
    call.abort(); // as a client that hangs up

    // The permit is free when all work of the call has ended, in Python too.
    while rag.in_flight() > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    // The server reads the end of a connection in its own time.
    let closed = |all: &[RequestRecord]| all.iter().all(|r| r.outcome != Outcome::Running);
    let asked = server.wait_for(&model, closed).await?.len();
    let embeds = server.wait_for(EMBEDDER, closed).await?.len();
    assert_eq!(asked + embeds, lm_calls + embedded + embeddings, "requests");
    server.script(EMBEDDER, Reply::echo());
    println!("cancelled in {phase}: {lm_calls} LM calls, {embeddings} embeddings, none after it");
    Ok(())
}

async fn run() -> Result<(), BoxError> {
    let server = ScriptedLm::start().await?;
    let env = PythonEnv::create(".venv")
        .progress(|line| eprintln!("{line}"))
        .run()
        .await?;
    let host = Host::embedded()
        .venv(env.prefix())
        .python_path(packages::numpy(&env).await?)
        .python_path(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/rag"))
        .start()
        .await?;

    let ingest = host.function("rag:ingest", None).await?;
    let address = json!({"api_base": server.base_url(), "api_key": "none"});
    ingest
        .call(json!({"passages": PASSAGES, "connection": address}))
        .await?;

    for (form, retriever) in [
        ("an index in Python", None),
        ("a tool in Rust", Some(search())),
    ] {
        server.script("small", replies().to_vec());
        let answer = ask(load(&host, &server, "small", retriever).await?).await?;
        let passages = &answer.outputs["passages"];
        println!("by {form}: {} from {passages}", answer.outputs["answer"]);
        assert_eq!(passages[0], PASSAGES[0]);
    }
    for (phase, lm_calls, embeddings) in [
        ("rewrite", 1, 0),
        ("embed", 1, 1),
        ("search", 1, 0), // by the tool
        ("respond", 2, 1),
        ("check", 3, 1),
    ] {
        cancel(&host, &server, phase, lm_calls, embeddings).await?;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    run().await
}

/// Its assertions are the test.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_in_whichever_phase_it_is_cancelled() -> Result<(), BoxError> {
    run().await
}
