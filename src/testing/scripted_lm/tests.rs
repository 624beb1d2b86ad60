//! Every test has models of its own on one server, which outlives the runtimes of the tests.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::*;

mod dialects;

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

/// Where a reply can be when its client goes away: how it is asked for, and after which tokens.
fn phases(model: &str) -> Vec<(&'static str, Reply, Value, usize)> {
    let never = Gate::new();
    let text = || Reply::answer("one two three four five six");
    vec![
        ("held", text().held_by(&never), chat(model), 0),
        ("delay", text().delay(HOUR), chat(model), 0),
        ("delay, streaming", text().delay(HOUR), streamed(model), 0),
        ("hang", Reply::hang(), chat(model), 0),
        (
            "before the head",
            text().pause_after(3, &never),
            chat(model),
            3,
        ),
        ("drip before the head", text().drip(HOUR), chat(model), 0),
        (
            "first token of a stream",
            text().drip(HOUR),
            streamed(model),
            0,
        ),
        ("stream", text().pause_after(3, &never), streamed(model), 3),
        (
            "status, trickled",
            Reply::status(500).trickle(HOUR),
            chat(model),
            0,
        ),
        (
            "trickle before a token",
            text().trickle(MS).drip(HOUR),
            chat(model),
            0,
        ),
    ]
}

#[tokio::test]
async fn a_closed_socket_is_seen_in_every_phase() {
    let lm = ScriptedLm::start().await.unwrap();
    for (n, (phase, reply, _, tokens)) in phases("").into_iter().enumerate() {
        let model = format!("raw-{n}");
        let (.., body, _) = phases(&model).swap_remove(n);
        lm.script(&model, reply);
        let before = Instant::now();
        let tcp = raw(&lm, &body).await;
        lm.wait_for(&model, running(tokens)).await.expect(phase);
        assert_eq!(lm.connections(), 1, "{phase}");

        drop(tcp);
        let seen = lm.wait_for(&model, gone).await.expect(phase);
        assert_eq!(seen[0].tokens, tokens, "{phase}");
        assert!(before <= seen[0].arrived, "{phase}");
        assert!(Some(seen[0].arrived) <= seen[0].client_gone, "{phase}");
        assert_eq!(seen[0].finished, None, "{phase}");
        lm.wait_for_connections(|open| open == 0)
            .await
            .expect(phase);
    }
}

#[tokio::test]
async fn a_dropped_call_is_seen_in_every_phase() {
    let lm = shared().await;
    for (n, (phase, reply, _, tokens)) in phases("").into_iter().enumerate() {
        let model = format!("reqwest-{n}");
        let (.., body, _) = phases(&model).swap_remove(n);
        lm.script(&model, reply);
        let call = async {
            // With a head sent at once the call is in its body.
            let _ = post(lm, &body).await.expect("a head comes").bytes().await;
            unreachable!("the reply never ends");
        };
        tokio::select! {
            () = call => {}
            seen = lm.wait_for(&model, running(tokens)) => { seen.expect(phase); }
        }
        lm.wait_for(&model, gone).await.expect(phase);
    }
}

#[tokio::test]
async fn a_closed_socket_is_seen_while_a_body_trickles() {
    let lm = shared().await;
    lm.script("trickle-gone", Reply::answer("x").trickle(HOUR));
    let mut tcp = raw(lm, &chat("trickle-gone")).await;
    let head = read_until(&mut tcp, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    drop(tcp);
    lm.wait_for("trickle-gone", gone).await.expect(SEEN);
}

#[tokio::test]
async fn a_client_that_only_stops_writing_counts_as_gone() {
    let lm = shared().await;
    lm.script("half-closed", Reply::hang());
    let mut tcp = raw(lm, &chat("half-closed")).await;
    lm.wait_for("half-closed", running(0)).await.expect(SEEN);
    tcp.shutdown().await.unwrap();
    lm.wait_for("half-closed", gone).await.expect(SEEN);
}

#[tokio::test]
async fn a_client_that_stops_reading_holds_the_stream_up_until_it_goes() {
    let lm = shared().await;
    let text = "word ".repeat(100_000);
    lm.script("unread", Reply::content(text));
    let tcp = raw(lm, &streamed("unread")).await;
    lm.wait_for("unread", |r| r.iter().any(|r| r.tokens > 0))
        .await
        .expect(SEEN);
    drop(tcp);
    let seen = lm.wait_for("unread", gone).await.expect(SEEN);
    assert!(seen[0].tokens < 100_000, "{}", seen[0].tokens);
}

#[tokio::test]
async fn an_answer_is_formatted_for_dspy() {
    let lm = shared().await;
    lm.script("capital", Reply::answer("Paris"));
    let expected = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]";
    assert_eq!(answer(lm, "capital").await, expected);
    let seen = lm.wait_for("capital", answered).await.expect(SEEN);
    assert_eq!(seen[0].body, Arc::new(chat("capital")));
    assert_eq!(seen[0].tokens, expected.split_whitespace().count());
    assert_eq!(seen[0].token_times().len(), seen[0].tokens);
    assert!(seen[0].finished.is_some() && seen[0].client_gone.is_none());
}

#[tokio::test]
async fn fields_are_json_if_json_is_asked_for() {
    let lm = shared().await;
    lm.script(
        "json",
        Reply::fields([("reasoning", "so"), ("answer", "x")]),
    );
    let mut body = chat("json");
    body["response_format"] = json!({"type": "json_object"});
    let body: Value = post(lm, &body).await.unwrap().json().await.unwrap();
    let content = body["choices"][0]["message"]["content"].as_str().unwrap();
    let fields: Value = serde_json::from_str(content).unwrap();
    assert_eq!(fields, json!({"reasoning": "so", "answer": "x"}));
}

#[tokio::test]
async fn fields_are_json_if_the_prompt_asks_for_json() {
    let lm = shared().await;
    lm.script("json-prompt", Reply::answer("x"));
    let mut body = chat("json-prompt");
    body["messages"][0]["content"] = json!("Respond with a JSON object: `answer`.");
    let body: Value = post(lm, &body).await.unwrap().json().await.unwrap();
    assert_eq!(
        body["choices"][0]["message"]["content"],
        r#"{"answer":"x"}"#
    );
}

#[tokio::test]
async fn a_model_without_a_script_echoes() {
    let lm = shared().await;
    assert_eq!(answer(lm, "nobody").await, "You said: ping");
}

#[tokio::test]
async fn a_stream_says_the_same_as_a_body() {
    let lm = shared().await;
    lm.script("both", Reply::answer("one two"));
    let whole = answer(lm, "both").await;
    let response = post(lm, &streamed("both")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let events = events(&text);
    assert_eq!(contents(&events), whole);

    let [.., closing, usage, done] = events[..] else {
        panic!("too few events: {events:?}");
    };
    assert_eq!(done, "[DONE]");
    let closing: Value = serde_json::from_str(closing).unwrap();
    assert_eq!(closing["choices"][0]["finish_reason"], "stop");
    let usage: Value = serde_json::from_str(usage).unwrap();
    let seen = lm.wait_for("both", answered).await.expect(SEEN);
    assert_eq!(usage["usage"]["completion_tokens"], seen[1].tokens);
    assert_eq!(seen[0].tokens, seen[1].tokens);
}

#[tokio::test]
async fn a_stream_has_usage_only_if_asked() {
    let lm = shared().await;
    let mut body = streamed("plain-stream");
    body["stream_options"] = Value::Null;
    let text = post(lm, &body).await.unwrap().text().await.unwrap();
    assert!(!text.contains("usage"), "{text}");
}

#[tokio::test]
async fn the_nth_request_gets_the_nth_reply_and_the_last_repeats() {
    let lm = shared().await;
    let script = Script::new(Reply::content("a")).then(Reply::content("b"));
    lm.script("steps", script);
    assert_eq!(answer(lm, "steps").await, "a");
    assert_eq!(answer(lm, "steps").await, "b");
    assert_eq!(answer(lm, "steps").await, "b");
    lm.script("steps", [Reply::content("c"), Reply::content("d")]);
    assert_eq!(answer(lm, "steps").await, "c");
    assert_eq!(answer(lm, "steps").await, "d");
    lm.script("steps", vec![]);
    assert_eq!(answer(lm, "steps").await, "You said: ping");
    let numbers: Vec<_> = lm.requests("steps").iter().map(|r| r.n).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn an_error_has_its_status_and_says_when_to_retry() {
    let lm = shared().await;
    lm.script("busy", Reply::status(429).retry_after(7));
    let response = post(lm, &chat("busy")).await.unwrap();
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "7");
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["error"]["type"], "rate_limit_error");
    lm.wait_for("busy", answered).await.expect(SEEN);
}

#[tokio::test]
async fn a_number_that_is_no_status_becomes_500() {
    let lm = shared().await;
    lm.script("nonsense", [Reply::status(7), Reply::status(101)]);
    for _ in 0..2 {
        assert_eq!(post(lm, &chat("nonsense")).await.unwrap().status(), 500);
    }
}

#[tokio::test]
async fn garbage_is_no_json() {
    let lm = shared().await;
    lm.script("garbage", Reply::garbage());
    let response = post(lm, &chat("garbage")).await.unwrap();
    assert_eq!(response.status(), 200);
    let text = response.text().await.unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_err(), "{text}");
    let text = post(lm, &streamed("garbage"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        serde_json::from_str::<Value>(events(&text)[0]).is_err(),
        "{text}"
    );
}

#[tokio::test]
async fn a_cut_sends_exactly_its_bytes_and_closes() {
    let lm = shared().await;
    for (model, bytes) in [("cut-0", 0), ("cut-1", 1), ("cut-40", 40)] {
        lm.script(model, Reply::cut(bytes));
        let mut tcp = raw(lm, &chat(model)).await;
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").expect("the head is whole");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body.len(), bytes);
        lm.wait_for(model, answered).await.expect(SEEN);
    }
}

#[tokio::test]
async fn a_cut_stream_breaks_off() {
    let lm = shared().await;
    lm.script("cut-stream", Reply::cut(300));
    let mut response = post(lm, &streamed("cut-stream")).await.unwrap();
    let mut length = 0;
    let error = loop {
        match response.chunk().await {
            Ok(Some(chunk)) => length += chunk.len(),
            Ok(None) => panic!("the stream ended well"),
            Err(error) => break error,
        }
    };
    assert!(!error.is_timeout());
    assert_eq!(length, 300);
}

#[tokio::test]
async fn a_body_shorter_than_the_cut_is_whole() {
    let lm = shared().await;
    lm.script("uncut", Reply::content("x").cut_after(100_000));
    assert_eq!(answer(lm, "uncut").await, "x");
}

#[tokio::test]
async fn gates_set_the_order_of_answers() {
    let lm = shared().await;
    let (first, second) = (Gate::new(), Gate::new());
    lm.script("ordered", [Reply::hold(&first), Reply::hold(&second)]);
    let mut early = raw(lm, &chat("ordered")).await;
    lm.wait_for("ordered", |r| r.len() == 1).await.expect(SEEN);
    let mut late = raw(lm, &chat("ordered")).await;
    lm.wait_for("ordered", |r| r.len() == 2).await.expect(SEEN);

    second.open();
    assert!(second.is_open() && !first.is_open());
    read_until(&mut late, "\r\n\r\n").await;
    let outcomes: Vec<_> = lm.requests("ordered").iter().map(|r| r.outcome).collect();
    assert_eq!(outcomes, [Outcome::Running, Outcome::Answered]);

    first.open();
    first.wait().await;
    read_until(&mut early, "\r\n\r\n").await;
    lm.wait_for("ordered", answered).await.expect(SEEN);
}

#[tokio::test]
async fn tokens_after_a_moment_are_counted_from_it() {
    let lm = shared().await;
    let gate = Gate::new();
    lm.script(
        "abandoned",
        Reply::content("a b c d e").pause_after(2, &gate),
    );
    let tcp = raw(lm, &chat("abandoned")).await;
    lm.wait_for("abandoned", running(2)).await.expect(SEEN);
    // The caller gives up here, but nobody tells the LM.
    let gave_up = Instant::now();
    gate.open();
    let seen = lm.wait_for("abandoned", answered).await.expect(SEEN);
    assert_eq!(seen[0].tokens_after(gave_up), 3);
    assert_eq!(seen[0].tokens_after(seen[0].arrived), 5);
    assert!(seen[0].running_at(gave_up));
    assert!(!seen[0].running_at(seen[0].finished.unwrap()));
    drop(tcp);
}

#[tokio::test]
async fn tokens_and_heads_are_never_early() {
    let lm = shared().await;
    let slow = Reply::content("a b c").delay(20 * MS).drip(10 * MS);
    lm.script("paced", slow);
    answer(lm, "paced").await;
    let seen = lm.wait_for("paced", answered).await.expect(SEEN);
    let mut last = seen[0].arrived + 20 * MS;
    for &token in seen[0].token_times() {
        assert!(token >= last + 10 * MS);
        last += 10 * MS;
    }
    assert_eq!(seen[0].tokens, 3);
}

#[tokio::test]
async fn bytes_are_never_early() {
    let lm = shared().await;
    // The bytes do not make up for the time that the token took.
    let slow = Reply::content("x").drip(50 * MS).trickle(MS / 10);
    lm.script("trickle-paced", slow);
    let body = post(lm, &chat("trickle-paced")).await.unwrap().bytes();
    let length = body.await.unwrap().len() as u32;
    let seen = lm.wait_for("trickle-paced", answered).await.expect(SEEN);
    let token = seen[0].token_times()[0];
    assert!(seen[0].finished >= Some(token + length * MS / 10));
}

#[tokio::test]
async fn a_trickled_body_comes_after_its_head() {
    let lm = shared().await;
    let gate = Gate::new();
    lm.script(
        "trickle",
        Reply::content("x")
            .trickle(Duration::ZERO)
            .pause_after(0, &gate),
    );
    let mut tcp = raw(lm, &chat("trickle")).await;
    let head = read_until(&mut tcp, "\r\n\r\n").await;
    assert!(running(0)(&lm.requests("trickle")));
    let length = head
        .split_once("content-length: ")
        .expect("it has a length")
        .1;
    let length = length.split_once("\r\n").unwrap().0.parse().unwrap();
    gate.open();
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.unwrap();
    assert!(serde_json::from_slice::<Value>(&body).is_ok());
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
    assert!(record.has_authorization());
    assert_eq!(record.authorization(), Some("Bearer sk-hush"));
    assert!(!format!("{record:?} {lm:?}").contains("hush"));
    answer(lm, "keyless").await;
    assert!(!lm.requests("keyless")[0].has_authorization());
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
        tokens_unread: 1,
    };
    assert_eq!(lm.summary("sum-"), expected);
    assert_eq!(lm.summary("").requests, 4);
    drop(stuck);
}

#[tokio::test]
async fn the_doctor_finds_models_and_wrong_requests_are_refused() {
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
async fn a_wait_in_vain_says_what_was_seen() {
    let lm = shared().await;
    answer(lm, "seen-once").await;
    lm.wait_for("seen-once", answered).await.expect(SEEN);
    let wait = lm.wait_for_within(MS, "seen-once", |r| r.len() == 2);
    assert_eq!(
        wait.await.unwrap_err().to_string(),
        "waited 1ms in vain for the model `seen-once`; saw #0 Answered with 3 tokens"
    );
    let wait = lm.wait_for_within(MS, "never-asked", |r| !r.is_empty());
    let error = wait.await.unwrap_err();
    assert!(error.to_string().ends_with("saw no requests"), "{error}");
    assert_eq!(error.limit(), MS);
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
fn it_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime starts");
    let lm = runtime().block_on(ScriptedLm::start()).unwrap();
    let said = runtime().block_on(answer(&lm, "later"));
    assert_eq!(said, "You said: ping");
}

#[tokio::test]
async fn dropping_it_closes_everything() {
    let lm = ScriptedLm::start().await.unwrap();
    let address = lm.server.address;
    lm.script("cut-short", Reply::hang());
    let mut tcp = raw(&lm, &chat("cut-short")).await;
    lm.wait_for("cut-short", running(0)).await.expect(SEEN);
    lm.stop();
    let mut rest = Vec::new();
    // Closed or reset, but not open.
    let _ = tcp.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    assert!(TcpStream::connect(address).await.is_err());
}
