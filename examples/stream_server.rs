//! How do I stream a program to a browser?
//!
//! Run: `cargo run --release --example stream_server`, and open <http://127.0.0.1:8080>.
//!
//! The page shows each field while it is written. Stop there, or close the tab: the LM's connection
//! is closed. What the LM saw is printed here.
//!
//! It talks to a scripted LM on loopback. For a real one, with its key in the provider's variable:
//!
//! ```sh
//! export OPENAI_API_KEY=..
//! cargo run --release --example stream_server -- --lm openai/gpt-4o-mini
//! ```
//!
//! The same program is at `/api/chat` for `useChat` of Vercel's AI SDK, and at `/v1` for clients of
//! OpenAI, as the model `qa`.
//!
//! ```sh
//! curl -N localhost:8080/qa --json '{"question": "Why is the sky blue?"}' -H 'accept: text/event-stream'
//! ```

use std::{env, error::Error, time::Duration};

use axum::{
    Router,
    http::header,
    routing::{MethodRouter, get},
};
use lexopt::{Arg, Parser, ValueExt};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower_dspy::{
    DspyServiceBuilderExt, Host, InboundLayer, Lm, StreamTimeoutLayer,
    inbound::axum::stream::{
        ChatFields, ChatPrograms, chat_completions, predict_stream, ui_messages,
    },
    server::serve,
    testing::scripted_lm::{Reply, ScriptedLm},
};

/// The answer has two fields, which are written one after the other: `reasoning` and `answer`.
const PROGRAM: &str = r#"
import dspy

qa = dspy.ChainOfThought("question -> answer")
"#;

/// Nothing but this server's own script and style; no HTML that is made from text.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init(); // the first run tells how it makes the venv
    let lm = lm().await?;
    let host = Host::embedded().create_venv(".venv").start().await?;
    let qa = host
        .load_source(PROGRAM, "qa")
        .lm(lm)
        .max_in_flight(64)
        .await?;

    // A failure before the first event is tried again, and one after it is an event.
    let limits = StreamTimeoutLayer::new()
        .with_first_content(Duration::from_secs(20))
        .with_idle(Duration::from_secs(20));
    let streaming = ServiceBuilder::new()
        .retries(1)
        .stream_timeout(limits)
        .service(qa.streaming());
    let whole = ServiceBuilder::new().retries(1).service(qa);

    // A program with an input of the type `dspy.History` takes the earlier turns: `.history("history")`.
    let fields = ChatFields::new("question", "answer").reasoning("reasoning");
    let programs =
        ChatPrograms::new().program("qa", fields.clone(), whole.clone(), streaming.clone());
    // A client that hangs up cancels its call. `x-request-timeout` is its limit, of a minute at most.
    let app: Router = Router::new()
        .route("/qa", predict_stream(whole, streaming.clone()))
        .route("/api/chat", ui_messages(streaming, fields))
        .merge(chat_completions(programs))
        .layer(InboundLayer::new().max(Duration::from_secs(60)))
        .merge(page());

    let address = env::var("ADDRESS").unwrap_or("127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(address).await?;
    eprintln!("http://{}", listener.local_addr()?);
    let report = serve(listener, app, host.shutdown(Duration::from_secs(20))).await?;
    eprintln!("{report}");
    Ok(())
}

/// The page, its script and its style.
fn page() -> Router {
    Router::new()
        .route(
            "/",
            file(
                "text/html; charset=utf-8",
                include_str!("stream_server/page.html"),
            ),
        )
        .route(
            "/app.js",
            file(
                "text/javascript; charset=utf-8",
                include_str!("stream_server/app.js"),
            ),
        )
        .route(
            "/style.css",
            file(
                "text/css; charset=utf-8",
                include_str!("stream_server/style.css"),
            ),
        )
}

fn file(kind: &'static str, text: &'static str) -> MethodRouter {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    get(move || async move { (headers, text) })
}

/// The LM that `--lm MODEL` names, at `--base-url URL` if that is given; else a scripted one.
async fn lm() -> Result<Lm, Box<dyn Error>> {
    let (mut model, mut base_url) = (None, None);
    let mut args = Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("lm") => model = Some(args.value()?.string()?),
            Arg::Long("base-url") => base_url = Some(args.value()?.string()?),
            _ => return Err(arg.unexpected().into()),
        }
    }
    match (model, base_url) {
        (Some(model), Some(url)) => Ok(Lm::new(model).base_url(url)),
        (Some(model), None) => Ok(Lm::new(model)),
        (None, Some(_)) => Err("--base-url goes with --lm".into()),
        (None, None) => scripted_lm().await,
    }
}

/// An LM that answers all questions alike, a word at a time, and prints how its calls ended.
async fn scripted_lm() -> Result<Lm, Box<dyn Error>> {
    let reply = Reply::fields([
        (
            "reasoning",
            "Sunlight holds all colours. On its way it meets molecules of air, which are far smaller \
             than its waves. They scatter short waves, which are blue, much more than long ones, which \
             are red: by the fourth power of the frequency.",
        ),
        (
            "answer",
            "Because air scatters blue light more than red.\n\n\
             Look away from the sun, and what comes to you is scattered light, so it is blue. At sunset \
             the light has a long way through the air, most of the blue has left it, and what comes to \
             you is red. It is called Rayleigh scattering.\n\n\
             (This answer is scripted: whatever you ask, it is the same. Start the server with a real LM.)",
        ),
    ]);
    let server = ScriptedLm::start().await?;
    server.script("scripted", reply.drip(Duration::from_millis(60)));
    let lm = Lm::new("openai/scripted").base_url(server.base_url());
    tokio::spawn(async move {
        for n in 0.. {
            let seen = server.wait_for_within(Duration::MAX, "scripted", |calls| {
                calls.get(n).is_some_and(|call| call.ended().is_some())
            });
            let Ok(calls) = seen.await else { return };
            let (outcome, tokens) = (calls[n].outcome, calls[n].tokens);
            eprintln!("LM call {n}: {outcome:?} after {tokens} tokens");
        }
    });
    Ok(lm)
}
