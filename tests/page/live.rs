//! The streams by which a page is live.

use std::time::Duration;

use axum::Router;
use reqwest::{Response, StatusCode};
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tower_dspy::{
    Shutdown, Tracker,
    page::DebugPage,
    server::{GracefulShutdown, serve},
};

use crate::support::{LONG, SOON, Site, Work, calls, make, under_way};

/// Reads on until `text` has come.
async fn until(stream: &mut Response, text: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = timeout(SOON, stream.chunk())
            .await
            .expect("an event in time");
        let chunk = chunk
            .unwrap()
            .unwrap_or_else(|| panic!("the end, after {seen}"));
        seen.push_str(&String::from_utf8_lossy(&chunk));
    }
    seen
}

async fn ends(stream: &mut Response) {
    let end = async { while stream.chunk().await.unwrap().is_some() {} };
    timeout(SOON, end).await.expect("the stream did not end");
}

#[tokio::test]
async fn a_page_learns_of_calls_that_come_and_end() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let mut live = site.get("/live").await;
    assert_eq!(live.headers()["content-type"], "text/event-stream");
    until(&mut live, "No call is under way").await;
    let call = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    until(&mut live, &format!("call-{}", call.id)).await;
    assert!(tracker.cancel(call.id).signalled());
    until(&mut live, "No call is under way").await;
}

#[tokio::test]
async fn the_stream_of_a_call_ends_with_its_work() {
    let tracker = Tracker::new();
    let site = Site::of(DebugPage::new(tracker.clone())).await;
    let call = make(&calls(&tracker, "qa"), Work::Hang, LONG);
    under_way(&tracker, 1).await;
    let mut live = site.get(&format!("/{}/live", call.id)).await;
    until(&mut live, "event: sections").await;
    assert!(tracker.cancel(call.id).signalled());
    let last = until(&mut live, "event: last").await;
    ends(&mut live).await;
    assert!(last.contains("data: "), "{last}");
    let mut of_none = site.get("/999999999/live").await;
    until(&mut of_none, "event: end").await;
    ends(&mut of_none).await;
}

#[tokio::test]
async fn a_bounded_number_of_pages_is_live_at_once() {
    let site = Site::of(DebugPage::new(Tracker::new())).await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let stream = site.get("/live").await;
        assert_eq!(stream.status(), StatusCode::OK);
        streams.push(stream);
    }
    let refused = site.get("/live").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(site.get("").await.status(), StatusCode::OK);
    streams.clear();
    let again = async {
        while site.get("/live").await.status() != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, again)
        .await
        .expect("a client that goes makes room");
}

#[tokio::test]
async fn a_shutdown_ends_the_streams() {
    let shutdown = Shutdown::new();
    let page = DebugPage::new(Tracker::new()).shutdown(&shutdown);
    let site = Site::of(page).await;
    let mut live = site.get("/live").await;
    until(&mut live, "event: sections").await;
    shutdown.run(Duration::ZERO, Duration::ZERO).await;
    ends(&mut live).await;
}

#[tokio::test]
async fn a_live_page_does_not_hold_up_the_drain_of_a_server() {
    let shutdown = Shutdown::new();
    let page = DebugPage::new(Tracker::new()).shutdown(&shutdown);
    let app = Router::new().nest("/debug/calls", page.into_router());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (signal, signalled) = oneshot::channel::<()>();
    let graceful = GracefulShutdown::new(shutdown, LONG).with_signal(async move {
        let _ = signalled.await;
    });
    let server = tokio::spawn(serve(listener, app, graceful).into_future());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/debug/calls/live");
    let mut live = client.get(url).send().await.unwrap();
    until(&mut live, "event: sections").await;
    signal.send(()).unwrap();
    ends(&mut live).await;
    let report = timeout(SOON, server).await.expect("a drain that ends");
    report.unwrap().unwrap();
}
