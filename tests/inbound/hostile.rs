//! Clients that are slow, malformed, greedy or gone, byte by byte over TCP.

use std::{
    io::{self, Write},
    time::Duration,
};

use axum::Router;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tower::{ServiceBuilder, service_fn};
use tower_dspy::{
    Cause, DeadlineLayer, Error, InboundLayer, InvalidInput, PredictRequest, Prediction, Shutdown,
    inbound::axum::predict,
    testing::mock::{MockDspy, Reply},
};

use super::{
    served::{LONG, SHORT, Server, in_flight, program, rest, until},
    support::{SOON, secs},
};

/// A program that never answers, behind a limit of time that only the server sets.
fn limited(mock: &MockDspy, limit: Duration) -> Router {
    Router::new()
        .route("/qa", predict(mock.clone()))
        .layer(InboundLayer::new().max(limit))
}

fn post(body: &str, kind: &str) -> String {
    format!(
        "POST /qa HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The status and the body of one answer.
async fn answer(client: TcpStream) -> (StatusCode, Value) {
    let answer = rest(client).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let body = serde_json::from_str(body).unwrap_or_default();
    (status.expect("a status"), body)
}

#[tokio::test]
async fn an_incomplete_request_is_closed_in_time_and_others_are_served() {
    let mock = MockDspy::new([Reply::answer(json!({"answer": "blue"}))]);
    let server = Server::impatient(program(&mock), SHORT).await;
    for begun in [
        "",
        "P",
        // The first half of HTTP/2's preface.
        "PRI * HTTP/2",
        "POST /qa HTTP/1.1\r\nhost: h\r\n",
    ] {
        assert_eq!(rest(server.send(begun).await).await, "", "{begun:?}");
    }
    // One that goes on for ever, and never comes to an end.
    let mut drip = server.send("GET /livez HTTP/1.1\r\n").await;
    let dripped = async {
        while drip.write_all(b"x-more: and more\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, dripped).await.expect("the drip was suffered");
    // A client that is done is not kept either.
    let idle = server.send("GET /livez HTTP/1.1\r\nhost: h\r\n\r\n").await;
    assert!(rest(idle).await.starts_with("HTTP/1.1 200"));

    assert!(rest(server.ask().await).await.contains("blue"));
}

#[tokio::test]
async fn a_body_that_never_arrives_ends_at_the_deadline() {
    let mock = MockDspy::new([Reply::hang()]);
    let server = Server::start(limited(&mock, SHORT), LONG, LONG).await;
    let half = "POST /qa HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{\"question\":";
    let (status, problem) = answer(server.send(half).await).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(problem["kind"], "deadline");
    assert_eq!(problem["title"], "Request Timeout");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("body"), "{detail}");
    assert!(mock.calls().is_empty());
}

/// Refuses what is no question, as a program's schema does.
fn asks() -> Router {
    let program = service_fn(|request: PredictRequest| async move {
        if !request.inputs()["question"].is_string() {
            let problem = "the input `question` is an integer";
            let refused = InvalidInput::new("qa", Some("question"), problem, "question: str");
            return Err(Error::from(refused));
        }
        Ok(Prediction::new(serde_json::Map::new()))
    });
    Router::new().route("/qa", predict(program))
}

#[tokio::test]
async fn each_malformed_request_gets_its_own_status() {
    let server = Server::start(asks(), LONG, LONG).await;
    let json = "application/json";
    let deep = "[".repeat(100_000);
    for (body, kind, status) in [
        ("", json, 400),
        ("{", json, 400),
        ("{\"question\": \"\u{fffd}", json, 400),
        ("{\"question\": \"?\"} {}", json, 400),
        (&deep, json, 400),
        ("[]", json, 422),
        ("7", json, 422),
        ("{\"question\": 7}", json, 422),
        ("{\"question\": \"?\"}", "text/plain", 415),
        ("{\"question\": \"?\"}", json, 200),
    ] {
        let (came, problem) = answer(server.send(&post(body, kind)).await).await;
        assert_eq!(came, status, "{body:.40}");
        if status != 200 {
            assert_eq!(problem["status"], status, "{problem}");
            assert_eq!(problem["kind"], "invalid_input", "{problem}");
            assert!(problem["detail"].is_string(), "{problem}");
        }
    }
    let (came, _) = answer(
        server
            .send(&post("{}", json).replace("/qa", "/unknown"))
            .await,
    )
    .await;
    assert_eq!(came, StatusCode::NOT_FOUND);
    let get = "GET /qa HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
    let (came, _) = answer(server.send(get).await).await;
    assert_eq!(came, StatusCode::METHOD_NOT_ALLOWED);
    // No HTTP at all.
    for noise in [
        "\0\0\0\0\r\n\r\n",
        "hello\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
    ] {
        let said = rest(server.send(noise).await).await;
        assert!(said.starts_with("HTTP/1.1 400"), "{noise:?}: {said:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_its_client_reads_the_refusal() {
    let server = Server::start(asks(), LONG, LONG).await;
    let large = "x".repeat(3 << 20);
    for _ in 0..5 {
        // By hand: all is written before anything is read.
        let mut client = TcpStream::connect(server.address).await.unwrap();
        let request = post(&large, "application/json");
        let written = timeout(SOON, client.write_all(request.as_bytes())).await;
        written
            .expect("the server does not read")
            .expect("nor does it close before");
        let (status, problem) = answer(client).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(problem["status"], 413);

        let url = format!("http://{}/qa", server.address);
        let response = reqwest::Client::new().post(url).json(&large).send().await;
        assert_eq!(response.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn a_compressed_body_is_not_decompressed() {
    let server = Server::start(asks(), LONG, LONG).await;
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&[b' '; 10 << 20]).unwrap();
    bomb.write_all(b"{\"question\": \"?\"}").unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 20_000);
    for encoding in ["gzip", "br", "identity, gzip"] {
        let request = reqwest::Client::new()
            .post(format!("http://{}/qa", server.address))
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(bomb.clone());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{encoding}");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_answered_431() {
    let server = Server::start(asks(), LONG, LONG).await;
    for more in [
        "x-more: y\r\n".repeat(200),
        format!("x-more: {}\r\n", "y".repeat(1 << 20)),
    ] {
        let head = format!("GET /qa HTTP/1.1\r\nhost: h\r\n{more}\r\n");
        let mut client = TcpStream::connect(server.address).await.unwrap();
        // It is refused before all is written.
        let _ = client.write_all(head.as_bytes()).await;
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    // Over HTTP/2 the connection goes on.
    let client = reqwest::Client::builder().http2_prior_knowledge().build();
    let (client, url) = (client.unwrap(), format!("http://{}/qa", server.address));
    for (more, status) in [(20_000, 431), (10, 405)] {
        let request = client.get(&url).header("x-more", "y".repeat(more));
        assert_eq!(request.send().await.unwrap().status(), status);
    }
}

#[tokio::test]
async fn a_client_that_closes_its_half_counts_as_gone() {
    let mock = MockDspy::new([Reply::hang()]);
    let server = Server::start(program(&mock), LONG, LONG).await;
    let mut client = server.ask().await;
    in_flight(&mock, 1).await;
    client.shutdown().await.unwrap();
    assert_eq!(rest(client).await, "");
    in_flight(&mock, 0).await;
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let replies = ["one", "two"].map(|answer| Reply::answer(json!({"answer": answer})));
    let mock = MockDspy::new(replies);
    let server = Server::start(program(&mock), LONG, LONG).await;
    let mut client = server.ask().await;
    let last = post("{\"question\":\"\"}", "application/json");
    client.write_all(last.as_bytes()).await.unwrap();
    let answers = rest(client).await;
    let (one, two) = (answers.find("one"), answers.find("two"));
    assert!(one.is_some() && one < two, "{answers}");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);
}

#[tokio::test]
async fn the_end_of_a_pipelining_client_is_noticed_only_at_the_deadline() {
    let mock = MockDspy::new([Reply::hang()]);
    let program = ServiceBuilder::new()
        .layer(DeadlineLayer::new(Duration::from_millis(300)))
        .service(mock.clone());
    let app = Router::new()
        .route("/qa", predict(program))
        .layer(InboundLayer::new());
    let server = Server::start(app, LONG, LONG).await;
    let mut client = server.ask().await;
    in_flight(&mock, 1).await;
    client.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
    drop(client);
    in_flight(&mock, 0).await;
    assert_eq!(mock.stopped(), [Cause::Deadline]);
}

#[tokio::test]
async fn a_client_that_disconnects_in_any_phase_leaves_nothing() {
    let large = || Reply::answer(json!({"answer": "x".repeat(1 << 20)}));
    let mock = MockDspy::new([Reply::hang(), large(), large()]);
    let shutdown = Shutdown::new();
    let mut server = Server::with(shutdown.clone(), program(&mock), LONG, LONG).await;
    let head = "POST /qa HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                content-length: 15\r\n\r\n";
    for begun in [
        "",
        "POST /q",
        "POST /qa HTTP/1.1\r\nhost: h\r\n",
        head,
        &format!("{head}{{"),
    ] {
        drop(server.send(begun).await);
    }
    // At work.
    let client = server.ask().await;
    in_flight(&mock, 1).await;
    drop(client);
    in_flight(&mock, 0).await;
    // In the middle of the answer.
    let mut client = server.ask().await;
    until(&mut client, "HTTP/1.1 200").await;
    drop(client);
    // After it.
    let mut client = server.ask().await;
    until(&mut client, "xxx\"}").await;
    drop(client);

    let ended = async {
        while shutdown.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, ended)
        .await
        .expect("a request that does not end");
    server.stop();
    let report = server.report().await;
    // The drain is an hour long: nobody was waited for.
    assert_eq!(report.connections_cut, 0);
    assert!(report.is_clean());
    assert_eq!(mock.stopped(), [Cause::ClientGone]);
}

#[tokio::test]
async fn an_unread_answer_delays_the_shutdown_no_longer_than_its_bounds() {
    let answer = Reply::answer(json!({"answer": "x".repeat(32 << 20)}));
    let mock = MockDspy::new([answer]);
    let mut server = Server::start(program(&mock), SHORT, SHORT).await;
    let mut client = server.ask().await;
    until(&mut client, "HTTP/1.1 200").await;
    server.stop();
    let report = server.report().await;
    assert_eq!(report.connections_cut, 1);
    // What the server did not get rid of is missing.
    let mut rest = Vec::new();
    let read = timeout(secs(20), client.read_to_end(&mut rest))
        .await
        .unwrap();
    let cut = read.map_err(|error| error.kind());
    assert!(
        cut == Err(io::ErrorKind::ConnectionReset) || rest.len() < 32 << 20,
        "{cut:?}"
    );
}
