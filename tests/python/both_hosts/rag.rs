//! Retrieval-augmented generation: ended in whichever phase its call is cancelled, and litellm and
//! numpy imported when a program that needs them is loaded.

use std::{cell::Cell, future::pending, path::PathBuf};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tower::{BoxError, ServiceExt};
use tower_dspy::{
    Cause, DspyService, Error, Host, LoadErrorKind, PredictRequest, Tool, ToolCall,
    testing::scripted_lm::{Outcome, Reply, RequestRecord, ScriptedLm},
};

use crate::{
    held_import::HeldImport,
    support::{
        TestHost, ask, call, eventually, eventually_seen, host, in_a_worker, lm, lm_server, load,
        own_process, programs, venv,
    },
};

/// On the loop, and on a thread.
const FORMS: [&str; 2] = ["Rag", "RagOnThread"];

/// The phases of a call, and the LM calls and embeddings that were made when each has begun.
const PHASES: [(&str, usize, usize); 5] = [
    ("rewrite", 1, 0),
    ("embed", 1, 1),
    ("search", 1, 1),
    ("respond", 2, 1),
    ("check", 3, 1),
];

async fn prepared() -> (TestHost, &'static ScriptedLm) {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    (host, server)
}

async fn rag(host: &Host, form: &str, model: &str) -> DspyService {
    load(host, &format!("rag:{form}"), model).await
}

fn question(key: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key, "question": "Where is Rome?"}))
}

fn arrived(count: usize) -> impl Fn(&[RequestRecord]) -> bool {
    move |requests| requests.len() == count
}

fn outcomes(requests: &[RequestRecord]) -> Vec<Outcome> {
    requests.iter().map(|request| request.outcome).collect()
}

/// All answered, but the last one if the call was cancelled in it.
fn expected(count: usize, cancelled_in_last: bool) -> Vec<Outcome> {
    let mut outcomes = vec![Outcome::Answered; count];
    if cancelled_in_last {
        outcomes[count - 1] = Outcome::ClientGone;
    }
    outcomes
}

#[tokio::test]
async fn passages_are_found_by_an_embedder_and_given_to_the_lm() {
    let (host, server) = prepared().await;
    for form in FORMS {
        let key = format!("rag-whole-{form}");
        let query = Reply::fields([("query", "Rome in Italy")]);
        server.script(&key, [query, Reply::answer("In Italy"), Reply::echo()]);
        call(&host, "rag:let_search", json!({"key": key})).await;
        let answer = rag(&host, form, &key).await.oneshot(question(&key)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.outputs["passage"], "Rome is in Italy.");
        assert_eq!(answer.lm_calls.len(), 4);
        let embeds = server.requests(&format!("{key}-embed"));
        assert_eq!(embeds[0].authorization(), Some("Bearer test-key"));
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_in_whichever_phase_it_is() {
    let (host, server) = prepared().await;
    for form in FORMS {
        for (phase, lm_calls, embeddings) in PHASES {
            let key = format!("rag-{phase}-{form}");
            let embeds = format!("{key}-embed");
            let mut script = vec![Reply::echo(); 3];
            match phase {
                "embed" => server.script(&embeds, Reply::hang()),
                "search" => {}
                _ => script[lm_calls - 1] = Reply::hang(),
            }
            server.script(&key, script);
            if phase != "search" {
                call(&host, "rag:let_search", json!({"key": key})).await;
            }
            let rag = rag(&host, form, &key).await;
            let token = CancellationToken::new();
            let request = question(&key).with_cancel(token.clone());
            let cancelled = tokio::spawn(rag.clone().oneshot(request));
            server.wait_for(&key, arrived(lm_calls)).await.unwrap();
            server.wait_for(&embeds, arrived(embeddings)).await.unwrap();
            if phase == "search" {
                eventually_seen(&host, &key, &["searching"]).await;
            }
            token.cancel();
            match cancelled.await.unwrap() {
                Err(Error::Cancelled(error)) => assert_eq!(error.cause(), Cause::Caller),
                other => panic!("{phase} of {form}: {other:?}"),
            }
            // No connection is open, and none of its code runs that could open another.
            eventually("the end of its work", || rag.in_flight() == 0).await;
            let over = |all: &[RequestRecord]| !outcomes(all).contains(&Outcome::Running);
            let asked = server.wait_for(&key, over).await.unwrap();
            let in_lm_call = !matches!(phase, "embed" | "search");
            assert_eq!(outcomes(&asked), expected(lm_calls, in_lm_call), "{key}");
            let embedded = server.wait_for(&embeds, over).await.unwrap();
            let in_embedding = phase == "embed";
            assert_eq!(
                outcomes(&embedded),
                expected(embeddings, in_embedding),
                "{key}"
            );
        }
    }
}

#[tokio::test]
async fn a_cancelled_call_ends_the_search_of_a_tool() {
    struct Dropped(mpsc::UnboundedSender<&'static str>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send("dropped");
        }
    }
    let (host, server) = prepared().await;
    let (sender, mut events) = mpsc::unbounded_channel();
    let search = Tool::new("search", "Never ends.", move |_: ToolCall| {
        let guard = Dropped(sender.clone());
        async move {
            let _ = guard.0.send("began");
            pending::<Result<(), BoxError>>().await
        }
    });
    let search = search.argument("query", json!({"type": "string"}));
    let load = host.load("rag:RagByTool").lm(lm("rag-tool").await);
    let rag = load.tool(search).await.unwrap();
    let call = tokio::spawn(rag.clone().oneshot(question("rag-tool")));
    assert_eq!(events.recv().await, Some("began"));
    call.abort();
    assert_eq!(events.recv().await, Some("dropped"));
    eventually("the end of its work", || rag.in_flight() == 0).await;
    assert!(server.requests("rag-tool").is_empty());
}

async fn imported(host: &Host) -> Value {
    call(host, "rag:imported", json!({})).await
}

#[tokio::test]
async fn litellm_and_numpy_are_imported_when_a_program_that_needs_them_is_loaded() {
    let name = "both_hosts::rag::\
        litellm_and_numpy_are_imported_when_a_program_that_needs_them_is_loaded";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = prepared().await;
    // It holds no embedder: its module does, for others.
    let tool = Tool::new("search", "Finds.", |_: ToolCall| async {
        Ok::<_, BoxError>("")
    });
    let search = tool.argument("query", json!({"type": "string"}));
    let by_tool = host.load("rag:RagByTool").lm(lm("rag-import").await);
    by_tool.tool(search).await.unwrap();
    let held = HeldImport::prepare(&host).await;
    assert_eq!(
        imported(&host).await,
        json!({"litellm": false, "numpy": false})
    );

    // The loop goes on meanwhile.
    let meanwhile = async {
        held.begun().await;
        held.call_meanwhile().await;
    };
    tokio::join!(rag(&host, "Rag", "rag-import"), meanwhile);
    assert_eq!(
        imported(&host).await,
        json!({"litellm": true, "numpy": true})
    );
    assert!(server.requests("rag-embed").is_empty());
}

#[tokio::test]
async fn calls_go_on_while_a_second_load_needs_the_package_that_a_first_one_imports() {
    let name = "both_hosts::rag::\
        calls_go_on_while_a_second_load_needs_the_package_that_a_first_one_imports";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, _server) = prepared().await;
    let held = HeldImport::prepare(&host).await;
    let are_loaded = Cell::new(false);
    let second = async {
        // The module is there, and its import goes on.
        held.begun().await;
        rag(&host, "Rag", "rag-second").await
    };
    let loads = async {
        tokio::join!(rag(&host, "Rag", "rag-first"), second);
        are_loaded.set(true);
    };
    let calls = async {
        held.begun().await;
        held.call_meanwhile().await;
        while !are_loaded.get() {
            held.call().await;
        }
    };
    tokio::join!(loads, calls);
}

#[tokio::test]
async fn loads_of_one_instance_at_the_same_time_keep_their_own_lms() {
    let name = "both_hosts::rag::loads_of_one_instance_at_the_same_time_keep_their_own_lms";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = prepared().await;
    // The first one waits for the import of litellm.
    let mistral = tower_dspy::Lm::new("mistral/rag-own-first").key("unused");
    let mistral = mistral.base_url(server.base_url());
    let openai = lm("rag-own-second").await;
    let load = |lm| {
        let load = host.load("shapes:instance").lms([("own", lm)]);
        load.predictor_lm("qa.predict", "own").into_future()
    };
    let (first, second) = tokio::join!(load(mistral), load(openai));
    for program in [first, second] {
        program.unwrap().oneshot(ask("?")).await.unwrap();
    }
    for model in ["rag-own-first", "rag-own-second"] {
        assert_eq!(server.requests(model).len(), 1, "{model}");
    }
}

#[tokio::test]
async fn litellm_is_imported_for_an_lm_that_dspy_has_no_client_for() {
    let name = "both_hosts::rag::litellm_is_imported_for_an_lm_that_dspy_has_no_client_for";
    if own_process(name).await.is_some() {
        return;
    }
    let (host, server) = prepared().await;
    let mistral = tower_dspy::Lm::new("mistral/rag-mistral").key("unused");
    let mistral = mistral.base_url(server.base_url());
    host.load("question -> answer").lm(mistral).await.unwrap();
    assert_eq!(
        imported(&host).await,
        json!({"litellm": true, "numpy": false})
    );
}

#[tokio::test]
async fn numpy_is_named_when_a_program_with_an_embedder_is_loaded_without_it() {
    let name = "both_hosts::rag::\
        numpy_is_named_when_a_program_with_an_embedder_is_loaded_without_it";
    if own_process(name).await.is_some() {
        return;
    }
    let (server, venv, programs): (_, _, PathBuf) = (lm_server().await, venv().await, programs());
    let host = if in_a_worker() {
        Host::workers(1)
            .venv(venv)
            .python_path(programs)
            .start()
            .await
    } else {
        Host::embedded()
            .venv(venv)
            .python_path(programs)
            .start()
            .await
    };
    let host = host.expect("a host");
    let load = host.load("rag:Rag").lm(lm("rag-bare").await);
    let error = load.await.unwrap_err();
    assert_eq!(error.kind(), LoadErrorKind::Package);
    let said = error.to_string();
    assert!(
        said.contains("dspy.Embedder") && said.contains("pip install numpy"),
        "{said}"
    );
    assert_eq!(
        imported(&host).await,
        json!({"litellm": false, "numpy": false})
    );
    assert!(server.requests("rag-bare").is_empty());
}
