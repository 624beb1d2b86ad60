//! Tests of the scripted LM: each has models of its own on one server, which outlives their runtimes.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::*;

mod answers;
mod dialects;
mod gone;
mod streams;
mod times;

const HOUR: Duration = Duration::from_secs(3600);
const MS: Duration = Duration::from_millis(1);

/// For `expect` on waits, whose error says the rest.
const SEEN: &str = "the server sees it";

async fn shared() -> &'static ScriptedLm {
    static LM: OnceCell<ScriptedLm> = OnceCell::const_new();
    let start = || async { ScriptedLm::start().await.expect("a server starts") };
    LM.get_or_init(start).await
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "ping"}]})
}

fn streamed(model: &str) -> Value {
    let mut body = chat(model);
    body["stream"] = json!(true);
    body["stream_options"] = json!({"include_usage": true});
    body
}

async fn post(lm: &ScriptedLm, body: &Value) -> reqwest::Result<reqwest::Response> {
    let url = format!("{}/chat/completions", lm.base_url());
    reqwest::Client::new().post(url).json(body).send().await
}

async fn answer(lm: &ScriptedLm, model: &str) -> String {
    let response = post(lm, &chat(model)).await.expect("an answer comes");
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.expect("the answer is JSON");
    let content = &body["choices"][0]["message"]["content"];
    content.as_str().expect("the content is text").to_owned()
}

/// The data of a stream's events.
fn events(text: &str) -> Vec<&str> {
    let events = text.split_terminator("\n\n");
    let data = events.map(|event| event.strip_prefix("data: ").expect("an event has data"));
    data.collect()
}

fn contents(events: &[&str]) -> String {
    let chunks = events.iter().filter_map(|e| serde_json::from_str(e).ok());
    let texts = chunks.filter_map(|chunk: Value| {
        let content = &chunk["choices"][0]["delta"]["content"];
        content.as_str().map(str::to_owned)
    });
    texts.collect()
}

/// A request on a connection of its own, over which the test has full control.
async fn raw(lm: &ScriptedLm, body: &Value) -> TcpStream {
    let mut tcp = TcpStream::connect(lm.server.address)
        .await
        .expect("the port is open");
    write_request(&mut tcp, body).await;
    tcp
}

async fn write_request(tcp: &mut TcpStream, body: &Value) {
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: lm\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let request = head + &body;
    tcp.write_all(request.as_bytes())
        .await
        .expect("it is written");
}

/// Reads until the text ends like this.
async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        read.push(tcp.read_u8().await.expect("the connection is open"));
    }
    String::from_utf8(read).expect("it is text")
}

fn running(tokens: usize) -> impl Fn(&[RequestRecord]) -> bool {
    move |r| r.len() == 1 && r[0].outcome == Outcome::Running && r[0].tokens == tokens
}

fn gone(requests: &[RequestRecord]) -> bool {
    requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

fn answered(requests: &[RequestRecord]) -> bool {
    requests.iter().all(|r| r.outcome == Outcome::Answered)
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let lm = ScriptedLm::start().await.unwrap();
    let mut tcp = TcpStream::connect(lm.server.address).await.unwrap();
    for _ in 0..2 {
        write_request(&mut tcp, &streamed("again")).await;
        read_until(&mut tcp, "0\r\n\r\n").await;
        assert_eq!(lm.connections(), 1);
    }
    assert_eq!(lm.wait_for("again", answered).await.expect(SEEN).len(), 2);
    drop(tcp);
    lm.wait_for_connections(|open| open == 0).await.expect(SEEN);
}

#[tokio::test]
async fn a_key_is_kept_out_of_debug() {
    let lm = shared().await;
    let url = format!("{}/chat/completions", lm.base_url());
    let call = reqwest::Client::new().post(url).bearer_auth("sk-hush");
    call.json(&chat("keyed")).send().await.unwrap();
    let record = lm.requests("keyed").remove(0);
    assert_eq!(record.authorization(), Some("Bearer sk-hush"));
    assert!(!format!("{record:?} {lm:?}").contains("hush"));
    answer(lm, "keyless").await;
    assert!(lm.requests("keyless")[0].authorization().is_none());
}

#[tokio::test]
async fn a_summary_counts_models_by_prefix() {
    let lm = ScriptedLm::start().await.unwrap();
    lm.script("sum-stuck", Reply::hang());
    lm.script("sum-said", Reply::content("a b"));
    lm.script(
        "sum-left",
        Reply::content("a b c").pause_after(1, &Gate::new()),
    );
    answer(&lm, "sum-said").await;
    answer(&lm, "other").await;
    let stuck = raw(&lm, &chat("sum-stuck")).await;
    lm.wait_for("sum-stuck", running(0)).await.expect(SEEN);
    let left = raw(&lm, &chat("sum-left")).await;
    lm.wait_for("sum-left", running(1)).await.expect(SEEN);
    drop(left);
    lm.wait_for("sum-left", gone).await.expect(SEEN);
    let expected = Summary {
        requests: 3,
        answered: 1,
        client_gone: 1,
        running: 1,
        tokens: 3,
    };
    assert_eq!(lm.summary("sum-"), expected);
    assert_eq!(lm.summary("").requests, 4);
    drop(stuck);
}

#[tokio::test]
async fn the_model_list_is_served_and_wrong_requests_are_refused() {
    let lm = shared().await;
    lm.script("listed", Reply::echo());
    let get = |path: &str| reqwest::get(format!("{}{path}", lm.base_url()));
    let models: Value = get("/models").await.unwrap().json().await.unwrap();
    let models = models["data"].as_array().unwrap();
    assert!(models.iter().any(|model| model["id"] == "listed"));
    assert_eq!(get("/nowhere").await.unwrap().status(), 404);
    assert_eq!(get("/chat/completions").await.unwrap().status(), 404);

    let response = post(lm, &json!({"model": "listed"})).await.unwrap();
    assert_eq!(response.status(), 400);
    let body: Value = response.json().await.unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert_eq!(message, "the request body has no list of `messages`");
    assert!(lm.requests("listed").is_empty());
}

#[tokio::test]
async fn a_failed_wait_reports_the_recorded_requests() {
    let lm = shared().await;
    answer(lm, "seen-once").await;
    lm.wait_for("seen-once", answered).await.expect(SEEN);
    let wait = lm.wait_for_within(MS, "seen-once", |r| r.len() == 2);
    assert_eq!(
        wait.await.unwrap_err().to_string(),
        "waited 1ms in vain for the model `seen-once`; saw #0 Answered with 3 tokens"
    );
    let wait = lm.wait_for_within(MS, "never-asked", |r| !r.is_empty());
    assert_eq!(
        wait.await.unwrap_err().to_string(),
        "waited 1ms in vain for the model `never-asked`; saw no requests"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_runs_on_the_real_clock() {
    let lm = shared().await;
    lm.script("paused", Reply::content("x").delay(20 * MS));
    let _tcp = raw(lm, &chat("paused")).await;
    lm.wait_for("paused", |r| r.len() == 1 && answered(r))
        .await
        .expect(SEEN);
}

#[test]
fn the_server_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime starts");
    let lm = runtime().block_on(ScriptedLm::start()).unwrap();
    let said = runtime().block_on(answer(&lm, "later"));
    assert_eq!(said, "You said: ping");
}

#[tokio::test]
async fn dropping_the_server_closes_all_connections() {
    let lm = ScriptedLm::start().await.unwrap();
    let address = lm.server.address;
    lm.script("cut-short", Reply::hang());
    let mut tcp = raw(&lm, &chat("cut-short")).await;
    lm.wait_for("cut-short", running(0)).await.expect(SEEN);
    drop(lm);
    let mut rest = Vec::new();
    // Closed or reset, but not open.
    let _ = tcp.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    assert!(TcpStream::connect(address).await.is_err());
}
