//! A program that was written for FastAPI (programs/migrated): its file is loaded as it is, and answers
//! the same requests. The page `guide::migrate` shows both files.

use std::{env, fs, process::Stdio};

use axum::Router;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::Command,
};
use tower_dspy::{
    Host, InboundLayer,
    inbound::axum::{predict_typed, stream::predict_stream},
    testing::scripted_lm::{Reply, RequestRecord},
};

use crate::support::{host, lm_server, load, programs};

/// Serves the program with the LM `model`; returns the server's URL.
async fn serve(host: &Host, model: &str) -> String {
    let program = load(host, "migrated.triage:Triage", model).await;
    let stream = predict_stream(program.clone(), program.streaming());
    let app = Router::new()
        .route("/triage", predict_typed::<Value, Value, _, _>(program))
        .route("/triage/stream", stream)
        .layer(InboundLayer::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    url
}

async fn script(model: &str) {
    let sorted = Reply::fields([("team", "billing"), ("urgent", "True")]);
    let reply = Reply::fields([("reply", "We have refunded it.")]);
    lm_server().await.script(model, [sorted, reply]);
}

fn ticket(body: &str) -> Value {
    json!({"ticket": {"subject": "Charged twice", "body": body, "priority": 1}})
}

async fn ask(url: &str, inputs: &Value) -> (u16, Value) {
    let sent = reqwest::Client::new().post(url).json(inputs).send();
    let response = sent.await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn a_program_of_a_fastapi_service_answers_its_requests_unchanged() {
    let host = host().await;
    script("migrated").await;
    let url = serve(&host, "migrated").await;
    let answer = json!({"team": "billing", "urgent": true, "reply": "We have refunded it."});
    let asked = ask(&format!("{url}/triage"), &ticket("In May.")).await;
    assert_eq!(asked, (200, answer));
}

#[tokio::test]
async fn its_pydantic_model_refuses_an_input_before_any_lm_call() {
    let host = host().await;
    let url = serve(&host, "migrated-refused").await;
    let wrong = json!({"ticket": {"subject": "Charged twice", "body": "", "priority": 9}});
    let (status, problem) = ask(&format!("{url}/triage"), &wrong).await;
    assert_eq!((status, &problem["field"]), (422, &json!("ticket")));
    assert!(lm_server().await.requests("migrated-refused").is_empty());
}

#[tokio::test]
async fn its_answer_streams_without_streamify() {
    let host = host().await;
    script("migrated-stream").await;
    let url = serve(&host, "migrated-stream").await;
    let sent = reqwest::Client::new()
        .post(format!("{url}/triage/stream"))
        .header("accept", "text/event-stream")
        .json(&ticket("In June."))
        .send();
    let events = sent.await.unwrap().text().await.unwrap();
    assert!(events.contains("\"field\":\"reply\""), "{events}");
    assert!(events.contains("event: done"), "{events}");
}

/// A listing of a page of the guide cannot differ from the file that was tried.
#[test]
fn the_page_shows_the_files_as_they_are() {
    let root = env!("CARGO_MANIFEST_DIR");
    let page = fs::read_to_string(format!("{root}/src/docs/migrate.md")).unwrap();
    for file in ["triage.py", "main.py"] {
        let source = fs::read_to_string(programs().join("migrated").join(file)).unwrap();
        assert!(page.contains(&format!("```python\n{source}```")), "{file}");
    }
}

/// The chat that a request sends.
fn messages(request: &RequestRecord) -> &Value {
    &request.body["messages"]
}

#[tokio::test]
#[ignore = "needs a Python with DSPy, fastapi and uvicorn: FASTAPI_PYTHON=/path/to/python"]
async fn fastapi_and_axum_send_the_same_requests_and_give_the_same_answer() {
    let python = env::var("FASTAPI_PYTHON").expect("FASTAPI_PYTHON");
    // The model that main.py asks for.
    let model = "triage";
    // What an earlier run answered is not to answer this one.
    let cache = tempfile::tempdir().unwrap();
    let mut uvicorn = Command::new(python)
        .args(["-m", "uvicorn", "migrated.main:app", "--port", "0"])
        .current_dir(programs())
        .env("LM_URL", lm_server().await.base_url())
        .env("LM_KEY", "test-key")
        .env("DSPY_CACHEDIR", cache.path())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("uvicorn");
    let mut log = BufReader::new(uvicorn.stderr.take().unwrap()).lines();
    let fastapi = loop {
        let line = log.next_line().await.unwrap().expect("uvicorn's address");
        if let Some((_, url)) = line.split_once("running on ") {
            break url.split(' ').next().unwrap().to_owned();
        }
    };

    let (host, mut asked) = (host().await, Vec::new());
    for url in [fastapi, serve(&host, model).await] {
        script(model).await;
        let before = lm_server().await.requests(model).len();
        let answer = ask(&format!("{url}/triage"), &ticket("In July.")).await;
        let requests = lm_server().await.requests(model).split_off(before);
        let chats: Vec<_> = requests.iter().map(messages).cloned().collect();
        asked.push((answer, chats));
    }
    assert_eq!(asked[0], asked[1]);
    assert_eq!(asked[0].1.len(), 2);
}
