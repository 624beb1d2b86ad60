//! The default client against a real server.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use tower::Service;

use super::*;
use crate::{
    call::{Cause, drop_scope},
    testing::scripted_lm::{Gate, Outcome, Reply, RequestRecord, ScriptedLm},
};

async fn server() -> ScriptedLm {
    ScriptedLm::start().await.expect("a server starts")
}

fn limited(base: &str, limits: LmLimits) -> LmHandle {
    connect(&lm_at(base).limits(limits))
}

fn gone(requests: &[RequestRecord]) -> bool {
    requests.len() == 1 && requests[0].outcome == Outcome::ClientGone
}

/// A port at which a server answers each connection with these bytes and closes it.
async fn says(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = tcp.read(&mut request).await;
            let _ = tcp.write_all(bytes).await;
        }
    });
    format!("http://{address}/v1")
}

#[tokio::test]
async fn a_request_carries_the_key_and_its_answers_tokens_are_counted() {
    let server = server().await;
    let lm = limited(server.base_url(), LmLimits::new());
    for stream in [false, true] {
        let model = format!("counted-{stream}");
        let (request, log) = with_log(request(server.base_url(), &model, stream));
        let answer = lm.send(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let body = text(answer.into_body()).await.expect("a body");
        assert!(body.contains("ping"), "{body}");
        let sent = server.requests(&model);
        assert_eq!(sent[0].authorization(), Some("Bearer very-secret-key"));
        let call = &log.calls()[0];
        assert_eq!(
            (call.outcome, call.status),
            (LmOutcome::Answered, Some(200))
        );
        assert!(
            call.prompt_tokens.is_some() && call.completion_tokens.is_some(),
            "{call:?}"
        );
        assert_eq!(
            log.usage().total_tokens,
            call.total_tokens.expect("a total")
        );
    }
    assert_eq!(server.connections(), 1, "the connection was used again");
}

#[tokio::test]
async fn dropping_the_call_closes_its_connection() {
    let server = server().await;
    server.script("stuck", Reply::hang());
    let lm = limited(server.base_url(), LmLimits::new());
    let (request, log) = with_log(request(server.base_url(), "stuck", false));
    let mut call = Box::pin(lm.send(request));
    tokio::select! {
        _ = &mut call => unreachable!("it never answers"),
        asked = server.wait_for("stuck", |requests| requests.len() == 1) => asked.expect("asked"),
    };
    drop_scope::with(Cause::Deadline, || drop(call));
    server
        .wait_for("stuck", gone)
        .await
        .expect("the client is gone");
    assert_eq!(outcomes(&log), [LmOutcome::Elapsed]);
}

#[tokio::test]
async fn dropping_the_body_closes_its_connection() {
    let server = server().await;
    let gate = Gate::new();
    server.script(
        "half",
        Reply::content("one two three").pause_after(1, &gate),
    );
    let lm = limited(server.base_url(), LmLimits::new());
    let (request, log) = with_log(request(server.base_url(), "half", true));
    let mut body = lm.send(request).await.expect("a head").into_body();
    assert!(body.frame().await.is_some_and(|frame| frame.is_ok()));
    drop(body);
    server
        .wait_for("half", gone)
        .await
        .expect("the client is gone");
    assert_eq!(outcomes(&log), [LmOutcome::Cancelled]);
    assert_eq!(log.calls()[0].status, Some(200));
}

#[tokio::test]
async fn a_limit_closes_the_connection() {
    let server = server().await;
    // The request has to reach the server before it passes.
    let limit = 3 * SECOND;
    let gate = Gate::new();
    server.script("head", Reply::hang());
    server.script("body", Reply::content("one two").pause_after(1, &gate));
    for (model, limits, kind) in [
        (
            "head",
            LmLimits::new().with_first_byte(limit),
            LmFailureKind::FirstByteTimeout,
        ),
        (
            "body",
            LmLimits::new().with_idle(limit),
            LmFailureKind::IdleTimeout,
        ),
    ] {
        let lm = limited(server.base_url(), limits);
        // The body is kept: it is the limit that closes the connection, not its reader.
        let mut kept = None;
        let error = match lm.send(request(server.base_url(), model, true)).await {
            Ok(answer) => {
                let body = kept.insert(answer.into_body());
                loop {
                    let frame = body.frame().await.expect("it has no end");
                    if let Err(error) = frame {
                        break LmFailure::of(&*error);
                    }
                }
            }
            Err(error) => error,
        };
        assert_eq!(error.kind(), kind);
        server
            .wait_for(model, gone)
            .await
            .expect("the client is gone");
        drop(kept);
    }
}

#[tokio::test]
async fn pings_of_a_server_are_no_content_and_its_tokens_are() {
    let server = server().await;
    let (limit, each) = (3 * SECOND, Duration::from_millis(20));
    let (never, limits) = (600 * SECOND, LmLimits::new());
    for (model, limits, reply, kind) in [
        (
            "pings",
            limits.with_first_content(limit),
            Reply::content("a b").pings_after(0, 10_000, each),
            Some(LmFailureKind::FirstContentTimeout),
        ),
        (
            "pings-late",
            limits.with_first_content(never).with_idle(limit),
            Reply::content("a b").comments_after(1, 10_000, each),
            Some(LmFailureKind::IdleTimeout),
        ),
        (
            "thinks",
            limits.with_first_content(never).with_idle(never),
            Reply::content("a b").thinking(["so"]),
            None,
        ),
    ] {
        server.script(model, reply);
        let lm = limited(server.base_url(), limits);
        let (request, log) = with_log(request(server.base_url(), model, true));
        let failed = match lm.send(request).await {
            Ok(answer) => text(answer.into_body()).await.err(),
            // The limit may pass before the head has come.
            Err(failure) => Some(failure),
        };
        assert_eq!(failed.map(|failure| failure.kind()), kind, "{model}");
        let call = &log.calls()[0];
        let content = kind != Some(LmFailureKind::FirstContentTimeout);
        assert_eq!(call.first_content.is_some(), content, "{model}");
    }
    server.wait_for("pings", gone).await.expect("it is closed");
}

#[tokio::test]
async fn errors_of_the_client_do_not_contain_the_url() {
    let mut client = LmClient::new(None).expect("a client");
    let url = format!("http://127.0.0.1:1/m:generate?key={KEY}");
    let request = ::http::Request::post(url).body(Bytes::new());
    let error = client.call(request.expect("a request")).await;
    let error = error.expect_err("nothing listens");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(KEY), "{shown}");
}

#[tokio::test]
async fn a_truncated_body_is_a_read_error() {
    let server = server().await;
    server.script("cut", Reply::echo().cut_after(20));
    let lm = limited(server.base_url(), LmLimits::new());
    for stream in [false, true] {
        let (request, log) = with_log(request(server.base_url(), "cut", stream));
        let answer = lm.send(request).await.expect("a head");
        let error = text(answer.into_body()).await.expect_err("it is cut");
        assert_eq!(error.kind(), LmFailureKind::Read, "{error}");
        assert_eq!(outcomes(&log), [LmOutcome::Failed]);
        shows_no_key(&error);
    }
}

#[tokio::test]
async fn failures_before_an_answer_are_distinguished() {
    let (_bound, closed) = nowhere();
    for (base, kind) in [
        (closed, LmFailureKind::Connect),
        (says(b"").await, LmFailureKind::Read),
        (
            says(b"SSH-2.0-OpenSSH_9.2\r\n").await,
            LmFailureKind::Protocol,
        ),
        (
            says(b"HTTP/1.1 200 OK\r\ncontent-le").await,
            LmFailureKind::Read,
        ),
    ] {
        let lm = limited(&base, LmLimits::new());
        // The key in the URL, as for Gemini: no error may repeat the URL.
        let url = format!("{base}/m:generate?key={PLACEHOLDER}");
        let request = ::http::Request::post(url)
            .body(Bytes::new())
            .expect("a request");
        let (request, log) = with_log(request);
        let error = lm.send(request).await.expect_err("no answer");
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(Classify::kind(&error), ErrorKind::LmUnavailable);
        assert_eq!(outcomes(&log), [LmOutcome::Failed]);
        shows_no_key(&error);
    }
}

#[tokio::test]
async fn connecting_has_a_limit() {
    // A full backlog answers no connection: the kernel drops what does not fit.
    let listener = socket(0).expect("a socket");
    let address = listener.local_addr().expect("an address");
    let mut filling = Vec::new();
    for _ in 0..8 {
        let connect = tokio::net::TcpStream::connect(address);
        filling.push(tokio::time::timeout(Duration::from_millis(50), connect).await);
    }
    let base = format!("http://{address}/v1");
    let limits = LmLimits::new().with_connect(Duration::from_millis(100));
    let error = limited(&base, limits)
        .send(request(&base, "x", false))
        .await
        .expect_err("no answer");
    assert_eq!(error.kind(), LmFailureKind::ConnectTimeout, "{error}");
    assert_eq!(Classify::kind(&error), ErrorKind::Elapsed);
}

fn socket(backlog: u32) -> std::io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    socket.listen(backlog)
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let base = says(
        b"HTTP/1.1 307 Over There\r\nlocation: http://evil.example/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    let answer = limited(&base, LmLimits::new())
        .send(request(&base, "x", false))
        .await;
    assert_eq!(answer.expect("an answer").status(), 307);
}
