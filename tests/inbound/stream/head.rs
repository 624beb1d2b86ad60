//! When the head of a response is sent, and what keeps its connection alive.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, StreamExt, poll, stream};
use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::{sync::mpsc, time::advance};
use tokio_stream::wrappers::ReceiverStream;
use tower_dspy::inbound::axum::stream::StreamOptions;

use super::{
    super::support::secs, DIALECTS, Item, Streaming, app_with, ask, busy, done, read, stalled,
    streams, text,
};

/// A service with one call, whose events are sent by hand.
fn by_hand() -> (mpsc::Sender<Item>, Streaming) {
    let (send, receive) = mpsc::channel(8);
    let receive = std::sync::Mutex::new(Some(receive));
    let service = streams(move |_| match receive.lock().unwrap().take() {
        Some(receive) => ReceiverStream::new(receive).left_stream(),
        None => stream::empty().right_stream(),
    });
    (send, service)
}

#[tokio::test(start_paused = true)]
async fn the_head_is_sent_with_the_first_event() {
    for (path, body) in DIALECTS {
        let (send, service) = by_hand();
        let app = app_with(&service, StreamOptions::new().with_head_after(None));
        let mut response = pin!(ask(&app, path, body));
        assert!(poll!(&mut response).is_pending());
        advance(secs(3600)).await;
        assert!(poll!(&mut response).is_pending(), "{path}");
        send.send(text(1, "answer", "a")).await.unwrap();
        let response = response.await;
        assert_eq!(response.status(), StatusCode::OK);
        send.send(done(json!({"answer": "a"}))).await.unwrap();
        assert!(read(response).await.contains("\"a\""));
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_is_sent_after_its_time_and_an_error_is_then_an_event() {
    for (path, body) in DIALECTS {
        let (send, service) = by_hand();
        let app = app_with(&service, StreamOptions::new());
        let mut response = pin!(ask(&app, path, body));
        assert!(poll!(&mut response).is_pending());
        advance(Duration::from_millis(4_990)).await;
        assert!(poll!(&mut response).is_pending(), "{path}");
        advance(Duration::from_millis(20)).await;
        let response = response.now_or_never().expect("the head is due");
        assert_eq!(response.status(), StatusCode::OK);
        send.send(Err(busy())).await.unwrap();
        let body = read(response).await;
        assert!(body.contains("error"), "{body}");
        assert!(!body.contains("done") && !body.contains("finish"), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_slow_to_answer_gets_its_time_after_the_head() {
    let service = tower::util::BoxCloneSyncService::new(tower::service_fn(|_| async {
        tokio::time::sleep(secs(60)).await;
        let events = vec![text(1, "answer", "a"), done(json!({"answer": "a"}))];
        Ok(tower_dspy::PredictionStream::new(stream::iter(events)))
    }));
    for (path, body) in DIALECTS {
        let options = StreamOptions::new().with_head_after(Some(secs(1)));
        let response = ask(&app_with(&service, options), path, body).await;
        let body = read(response).await;
        // Keep-alives came while it was waited for: after 16 s, 31 s and 46 s.
        assert!(body.starts_with(":\n\n:\n\n:\n\n"), "{body}");
        assert!(body.contains("\"a\""), "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn comments_keep_the_connection_alive() {
    for (path, body) in DIALECTS {
        let service = stalled(|| vec![text(1, "answer", "a")]);
        let options = StreamOptions::new().with_keep_alive(secs(2));
        let response = ask(&app_with(&service, options), path, body).await;
        let mut body = response.into_body();
        let start = tokio::time::Instant::now();
        let mut comments = 0;
        while comments < 3 {
            let frame = body.frame().await.unwrap().unwrap();
            comments += u64::from(frame.into_data().unwrap() == ":\n\n");
        }
        assert_eq!(start.elapsed(), secs(6), "{path}");
    }
}
