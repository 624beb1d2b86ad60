//! Thousands of requests whose clients disconnect at any moment. They leave nothing behind: no
//! call, no task, no descriptor.

use std::{
    fs,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use axum::{Router, body::Body, routing::get};
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpStream, runtime::Handle};
use tower::ServiceBuilder;
use tower_dspy::{
    DeadlineLayer, InboundLayer, Shutdown, TrackLayer, Tracker,
    inbound::axum::predict,
    testing::mock::{MockDspy, Reply},
};

use super::{
    own_process::{again, passes},
    raw::ASK,
    served::{LONG, Server},
    support::{SOON, secs},
};

const AT_ONCE: usize = 64;

/// Sends a part of a request, or all of it, waits for a part of the answer, and goes.
async fn client(server: std::net::SocketAddr, mut random: fastrand::Rng) {
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    let sent = match random.u8(..4) {
        0 => random.usize(..ASK.len()),
        _ => ASK.len(),
    };
    let request = match random.u8(..8) {
        0 => "GET /drip HTTP/1.1\r\nhost: h\r\n\r\n",
        _ => &ASK[..sent],
    };
    stream
        .write_all(request.as_bytes())
        .await
        .expect("a server that reads");
    match random.u8(..4) {
        0 => {}
        1 => tokio::time::sleep(Duration::from_micros(random.u64(..3_000))).await,
        2 => drop(stream.set_zero_linger()),
        _ => {
            let mut part = [0; 16];
            let read = stream.read(&mut part);
            let _ = tokio::time::timeout(Duration::from_millis(random.u64(..20)), read).await;
        }
    }
}

async fn leave_nothing_behind(many: u64) {
    let work = |n: u64| Duration::from_micros(n % 4_000);
    let count = AtomicU64::new(0);
    let mock = MockDspy::from_fn(move |_| match count.fetch_add(1, Relaxed) % 16 {
        0 => Reply::hang(),
        n => Reply::answer(json!({"answer": "x".repeat(100)})).after(work(n * 300)),
    });
    let mock = mock.max_in_flight(8);
    let (shutdown, tracker) = (Shutdown::new(), Tracker::new());
    let program = ServiceBuilder::new()
        .layer(TrackLayer::new(tracker.clone()))
        .layer(DeadlineLayer::new(secs(5)))
        .service(mock.clone());
    let app = Router::new()
        .route("/qa", predict(program))
        .route(
            "/drip",
            get(|| async {
                Body::from_stream(stream::repeat("drip").then(|chunk| async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    Ok::<_, std::io::Error>(chunk)
                }))
            }),
        )
        .layer(InboundLayer::new().max(secs(5)));
    let mut server = Server::with(shutdown.clone(), app, LONG, LONG).await;
    let address = server.address;
    let descriptors = || fs::read_dir("/proc/self/fd").expect("Linux").count();
    let tasks = || Handle::current().metrics().num_alive_tasks();
    let before = (descriptors(), tasks());

    let seed = fastrand::u64(..);
    println!("seed {seed}");
    stream::iter(0..many)
        .map(|n| client(address, fastrand::Rng::with_seed(seed ^ n)))
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;

    let left = || (descriptors(), tasks());
    let quiet = async {
        while mock.in_flight() + shutdown.in_flight() > 0 || left() != before {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let seen = tokio::time::timeout(SOON, quiet).await;
    let in_flight = (mock.in_flight(), shutdown.in_flight());
    seen.unwrap_or_else(|_| panic!("{in_flight:?}, {before:?} became {:?}", left()));
    assert_eq!(tracker.calls().len(), 0);
    server.stop();
    let report = server.report().await;
    println!("{report}");
    assert_eq!(report.connections_cut, 0);
    assert!(report.is_clean(), "{report}");
    assert!(report.requests.accepted > many / 4, "{report}");
    assert!(report.requests.cancelled > 0, "{report}");
}

#[tokio::test]
async fn a_thousand_clients_that_disconnect_at_any_moment_leave_nothing() {
    let name = "many::a_thousand_clients_that_disconnect_at_any_moment_leave_nothing";
    match again(name) {
        Some(child) => passes(child).await,
        None => leave_nothing_behind(1_000).await,
    }
}

#[tokio::test]
#[ignore = "takes longer than a test should; `cargo test --test inbound -- --ignored ten_thousand`"]
async fn ten_thousand_clients_that_disconnect_at_any_moment_leave_nothing() {
    let name = "many::ten_thousand_clients_that_disconnect_at_any_moment_leave_nothing";
    match again(name) {
        Some(child) => passes(child).await,
        None => leave_nothing_behind(10_000).await,
    }
}
