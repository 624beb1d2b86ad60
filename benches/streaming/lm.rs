//! The LM server of the bench: it streams the times at which it sends.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::{Body, Bytes},
    response::Response,
    routing::post,
    serve::ListenerExt,
};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};

/// The seconds since the epoch, which processes share.
pub(crate) fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("a time after 1970").as_secs_f64()
}

pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    println!("http://{address}/v1");
    let app = Router::new().route("/v1/chat/completions", post(answer));
    // A token is not to wait for the acknowledgement of the one before it.
    let listener = listener.tap_io(|tcp| tcp.set_nodelay(true).expect("no delay"));
    axum::serve(listener, app).await.expect("a server");
}

/// The model says how many tokens the answer has, the milliseconds before the first, and those between
/// two of them: `3000-0-0`.
async fn answer(Json(request): Json<Value>) -> Response {
    let model = request["model"].as_str().expect("a model").to_owned();
    let mut numbers = model.split('-').map(|n| n.parse().expect("a number"));
    let [tokens, before, between] = [(); 3].map(|()| numbers.next().expect("three numbers"));
    let pieces = stream::unfold(0_u64, move |n| {
        let model = model.clone();
        async move {
            let wait = match n {
                0 => before,
                1 => 0,
                _ => between,
            };
            if wait > 0 {
                sleep(Duration::from_millis(wait)).await;
            }
            let delta = match n {
                0 => json!({"role": "assistant", "content": "[[ ## answer ## ]]\n"}),
                n if n <= tokens => json!({"content": format!(" {:.6}", now())}),
                n if n == tokens + 1 => json!({"content": "\n\n[[ ## completed ## ]]"}),
                _ => return None,
            };
            let finish = (n == tokens + 1).then_some("stop");
            let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
            let event = json!({
                "id": "1", "object": "chat.completion.chunk", "created": 0, "model": model,
                "choices": [choice],
            });
            let end = if finish.is_some() {
                "data: [DONE]\n\n"
            } else {
                ""
            };
            let bytes = Bytes::from(format!("data: {event}\n\n{end}"));
            Some((Ok::<_, Infallible>(bytes), n + 1))
        }
    });
    Response::builder()
        .header("content-type", "text/event-stream")
        .body(Body::from_stream(pieces))
        .expect("a response")
}
