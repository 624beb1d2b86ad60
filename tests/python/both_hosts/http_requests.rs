//! HTTP requests that a program sends itself, by httpx: with the deadline of their call, and ended
//! with it. Those to an LM have its key and its limits, and are counted.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
};
use tower::ServiceExt;
use tower_dspy::{Deadline, DspyService, Error, PredictRequest};

use crate::support::{
    TestHost, call, eventually, eventually_seen, host, in_a_worker, lm, lm_server, nowhere,
};

const PROGRAMS: [&str; 2] = ["http_requests:gets", "http_requests:Gets"];

/// The one request of a server.
struct Served {
    asked: oneshot::Receiver<String>,
    ended: JoinHandle<()>,
}

impl Served {
    /// The request, once it has come.
    async fn asked(&mut self) -> String {
        (&mut self.asked).await.unwrap()
    }

    /// Its client is gone.
    async fn ended(self) {
        self.ended.await.unwrap();
    }
}

/// A server that answers one request with `answer`, or not at all.
async fn server(answer: Option<&'static str>) -> (String, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/page?q=1", listener.local_addr().unwrap());
    let (came, asked) = oneshot::channel();
    let ended = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let _ = came.send(String::from_utf8(request).unwrap());
        if let Some(answer) = answer {
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
        // Its end, or that it was cut off.
        let _ = stream.read(&mut [0]).await;
    });
    (url, Served { asked, ended })
}

async fn program(host: &TestHost, target: &str) -> DspyService {
    let load = host.load(target).lm(lm("http-unused").await);
    load.await.unwrap()
}

fn request(url: &str) -> PredictRequest {
    PredictRequest::new(json!({"url": url}))
}

#[tokio::test]
async fn http_requests_are_carried_and_counted_apart_from_lm_calls() {
    let host = host().await;
    for target in PROGRAMS {
        let before = host.stats();
        let (url, mut served) = server(Some("hello")).await;
        let answer = program(&host, target).await.oneshot(request(&url)).await;
        let answer = answer.unwrap();
        assert_eq!(answer.outputs["text"], "hello");
        assert!(answer.lm_calls.is_empty());
        let sent = served.asked().await;
        assert!(sent.starts_with("GET /page?q=1 HTTP/1.1\r\n"), "{sent}");
        assert!(sent.to_lowercase().contains("python-httpx"), "{sent}");
        assert!(host.stats().http_requests > before.http_requests);
    }
}

#[tokio::test]
async fn a_connection_closes_when_its_call_is_dropped() {
    let host = host().await;
    for target in PROGRAMS {
        let (url, mut served) = server(None).await;
        let program = program(&host, target).await;
        let call = tokio::spawn(program.clone().oneshot(request(&url)));
        served.asked().await;
        call.abort();
        served.ended().await;
        eventually("the end of the call", || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn the_deadline_of_the_call_ends_its_http_requests() {
    let host = host().await;
    for target in PROGRAMS {
        let program = program(&host, target).await;
        // On a busy machine a deadline may pass before the request is sent.
        for limit in [300, 3_000, 20_000].map(Duration::from_millis) {
            let (url, mut served) = server(None).await;
            let request = request(&url).with_deadline(Deadline::within(limit));
            let error = program.clone().oneshot(request).await.unwrap_err();
            assert!(matches!(error, Error::Elapsed(_)), "{error:?}");
            eventually("the end of the call", || program.in_flight() == 0).await;
            if served.asked.try_recv().is_ok() {
                served.ended().await;
                break;
            }
            assert!(limit < Duration::from_secs(20), "{target} sent nothing");
        }
    }
}

#[tokio::test]
async fn a_failure_is_raised_as_an_httpx_exception() {
    let host = host().await;
    let (_bound, url) = nowhere();
    let load = host.load("http_requests:tries").lm(lm("http-unused").await);
    let request = PredictRequest::new(json!({"key": "http-refused", "url": url}));
    let error = load.await.unwrap().oneshot(request).await.unwrap_err();
    assert!(matches!(error, Error::Program(_)), "{error:?}");
    eventually_seen(&host, "http-refused", &["ConnectError"]).await;
}

#[tokio::test]
async fn a_program_can_leave_its_requests_to_httpx() {
    let host = host().await;
    let (url, mut served) = server(Some("kept")).await;
    let load = host.load("http_requests:gets").lm(lm("http-unused").await);
    let program = load.keep_httpx().await.unwrap();
    let answer = program.oneshot(request(&url)).await.unwrap();
    assert_eq!(answer.outputs["text"], "kept");
    let sent = served.asked().await;
    // httpx writes its own header first, and Rust's client writes it last.
    assert!(
        sent.starts_with("GET /page?q=1 HTTP/1.1\r\nHost:"),
        "{sent}"
    );
}

#[tokio::test]
async fn an_lm_call_of_an_sdk_is_carried_with_the_key_of_its_placeholder() {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    let load = host.load("http_requests:asks_by_sdk");
    let program = load.lm(lm("http-usual").await).await.unwrap();
    for (model, key, sent) in [
        ("http-sdk-own", "sk-own", "Bearer sk-own"),
        ("http-sdk-host", "TOWER-DSPY-KEY", "Bearer test-key"),
    ] {
        let request = PredictRequest::new(json!({"model": model, "key": key}));
        let answer = program.clone().oneshot(request).await.unwrap();
        let calls: Vec<_> = answer.lm_calls.iter().map(|call| &*call.model).collect();
        assert_eq!(calls, [model]);
        assert!(answer.usage.total_tokens > 0);
        assert_eq!(server.requests(model)[0].authorization(), Some(sent));
    }
}

#[tokio::test]
async fn a_placeholder_is_valid_for_its_program_and_its_address_alone() {
    let (host, server) = (host().await, lm_server().await);
    call(&host, "witness:use_lm", json!({"url": server.base_url()})).await;
    let (mut programs, mut keys) = (Vec::new(), Vec::new());
    for model in ["http-mine", "http-others"] {
        let load = host.load("http_requests:its_key").lm(lm(model).await);
        let program = load.await.unwrap();
        let answer = program.clone().oneshot(PredictRequest::new(json!({})));
        keys.push(answer.await.unwrap().outputs["key"].clone());
        programs.push(program);
    }
    let load = host
        .load("http_requests:lists_models")
        .lm(lm("http-mine").await);
    let lists = load.await.unwrap();
    // Whatever it asks for there.
    let request = PredictRequest::new(json!({"key": "TOWER-DSPY-KEY"}));
    let answer = lists.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.lm_calls.len(), 1);
    for (key, url) in [
        (keys[0].clone(), None),
        (json!("TOWER-DSPY-KEY"), Some("http://127.0.0.1:1/v1")),
    ] {
        let request = PredictRequest::new(json!({"key": key, "url": url}));
        let error = lists.clone().oneshot(request).await.unwrap_err();
        let said = format!("{error:?} {error}");
        assert!(!said.contains("test-key"), "{said}");
    }
    drop(programs);
}

#[tokio::test]
async fn a_payload_too_large_for_a_worker_fails_its_call_alone() {
    const SIZE: usize = 81 << 20;
    let host = host().await;
    let load = host
        .load("http_requests:answers")
        .lm(lm("http-unused").await);
    let program = load.await.unwrap();
    let answered = program
        .clone()
        .oneshot(PredictRequest::new(json!({"size": SIZE})))
        .await;
    let gets = self::program(&host, "http_requests:gets").await;
    let url = "x".repeat(SIZE);
    let asked = gets.oneshot(request(&url)).await.unwrap_err();
    assert!(matches!(asked, Error::Program(_)), "{asked:?}");
    if in_a_worker() {
        let error = answered.unwrap_err();
        assert!(matches!(error, Error::Program(_)), "{error:?}");
    } else {
        assert_eq!(
            answered.unwrap().outputs["text"].as_str().unwrap().len(),
            SIZE
        );
    }
    // The worker is there still.
    let small = program.oneshot(PredictRequest::new(json!({"size": 1})));
    assert_eq!(small.await.unwrap().outputs["text"], "x");
}
