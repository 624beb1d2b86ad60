//! LMs that answer a stream with something else, or with nothing.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{future::join_all, stream};
use http_body::Frame;
use http_body_util::{Full, StreamBody};
use serde_json::json;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_dspy::{
    Classify, DspyService, Error, ErrorKind, Lm, Scope, StreamTimeoutLayer,
    lm::{LmBody, LmRequest},
    testing::scripted_lm::Reply,
};

use super::reading::{Reading, assert_elapsed, is_well_after, read};
use crate::support::{HOUR, ask, eventually, host, lm_server, load};

const ANSWER: &str = "[[ ## answer ## ]]\nfour [[it]] is\n\n[[ ## completed ## ]]";
const SECOND: Duration = Duration::from_secs(1);

/// In a task, and on a thread.
const PROGRAMS: [&str; 2] = ["question -> answer", "shapes:SyncOnly"];

async fn stream(program: &DspyService, limits: StreamTimeoutLayer) -> Result<Reading, Error> {
    let stream = limits.layer(program.streaming()).oneshot(ask("?")).await?;
    Ok(read(stream).await)
}

/// What each program makes of a model that replies so, and that it is well after.
async fn each(
    model: &str,
    reply: Reply,
    limits: StreamTimeoutLayer,
    gone: impl Into<Option<usize>> + Copy,
    check: impl Fn(Result<Reading, Error>, usize),
) {
    let (host, server) = (host().await, lm_server().await);
    join_all(PROGRAMS.iter().enumerate().map(async |(n, target)| {
        let model = format!("hostile-{model}-{n}");
        server.script(&model, reply.clone());
        let program = load(&host, target, &model).await;
        let ended = stream(&program, limits).await;
        check(ended, server.requests(&model).len());
        is_well_after(&program, &model, gone, ask("?")).await;
    }))
    .await;
}

fn none() -> StreamTimeoutLayer {
    StreamTimeoutLayer::new()
}

#[tokio::test]
async fn an_lm_that_sends_no_content_is_left_at_the_limit_of_the_first() {
    let silent = BTreeMap::from([
        ("nothing", Reply::hang()),
        ("head", Reply::content(ANSWER).trickle(HOUR)),
        ("stalls", Reply::content(ANSWER).stall_after(0)),
        (
            "pings",
            Reply::content(ANSWER).pings_after(0, 10_000, SECOND / 20),
        ),
        (
            "comments",
            Reply::content(ANSWER).comments_after(0, 10_000, SECOND / 20),
        ),
        (
            "empty",
            Reply::content(ANSWER).empty_deltas_after(0, 10_000, SECOND / 20),
        ),
    ]);
    let limits = none().with_first_content(10 * SECOND).with_idle(HOUR);
    join_all(silent.into_iter().map(async |(name, reply)| {
        let check = |ended: Result<Reading, Error>, requests| {
            assert_elapsed(&ended.unwrap_err(), Scope::FirstContent);
            assert_eq!(requests, 1);
        };
        each(name, reply, limits, 1, check).await;
    }))
    .await;
}

#[tokio::test]
async fn an_lm_that_stops_in_mid_stream_is_left_at_the_limit_between_two_events() {
    let stops = BTreeMap::from([
        ("stops", Reply::content(ANSWER).stall_after(6)),
        (
            "then-pings",
            Reply::content(ANSWER).pings_after(6, 10_000, SECOND / 20),
        ),
        (
            "then-empty",
            Reply::content(ANSWER).empty_deltas_after(6, 10_000, SECOND / 20),
        ),
    ]);
    let limits = none().with_first_content(HOUR).with_idle(2 * SECOND);
    join_all(stops.into_iter().map(async |(name, reply)| {
        let check = |ended: Result<Reading, Error>, _| {
            let read = ended.unwrap();
            assert_elapsed(read.error(), Scope::Idle);
            assert_eq!(read.partial(), json!({"answer": "four"}));
        };
        each(name, reply, limits, 1, check).await;
    }))
    .await;
}

#[tokio::test]
async fn a_drip_is_life() {
    // The text takes longer than the limit. The marker after it, which is no event, does not.
    let limits = none().with_idle(8 * SECOND);
    let text = "drips".repeat(20);
    let drip = Reply::answer(&text).split_every(1).drip(SECOND / 10);
    let check = |ended: Result<Reading, Error>, _| {
        let read = ended.unwrap();
        assert_eq!(read.text(1, "answer"), text);
        assert!(read.deltas > 1);
    };
    each("drips", drip, limits, 0, check).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    // Bytes of events, of which each word is some 170.
    let cut = 1900;
    let broken = BTreeMap::from([
        ("cut", (Reply::content(ANSWER).cut_after(cut), "four")),
        (
            "bad-json",
            (Reply::content(ANSWER).garbage_after(6), "four"),
        ),
        (
            "error",
            (Reply::content(ANSWER).error_after(6, 500), "four"),
        ),
        (
            "overloaded",
            (Reply::content(ANSWER).error_after(6, 529), "four"),
        ),
    ]);
    join_all(broken.into_iter().map(async |(name, (reply, text))| {
        let check = |ended: Result<Reading, Error>, requests| {
            let read = ended.unwrap();
            let kind = read.error().kind();
            assert_ne!(kind, ErrorKind::Other, "{name}: {read:?}");
            if name != "cut" && name != "bad-json" {
                assert_eq!(kind, ErrorKind::LmUnavailable, "{name}: {read:?}");
            }
            let partial = read.partial();
            let partial = partial["answer"].as_str().unwrap_or_default();
            assert!(partial.starts_with(text), "{name}: {partial}, {read:?}");
            assert_eq!(requests, 1, "{name}");
        };
        // It may notice late that its client went.
        each(name, reply, none(), None, check).await;
    }))
    .await;
}

#[tokio::test]
async fn an_error_before_any_byte_is_that_of_the_response() {
    for (code, kind) in [
        (500, ErrorKind::LmUnavailable),
        (429, ErrorKind::LmUnavailable),
        (401, ErrorKind::LmRejected),
    ] {
        let check = |ended: Result<Reading, Error>, requests| {
            let error = ended.unwrap_err();
            assert_eq!(error.kind(), kind, "{code}: {error:?}");
            let Error::Lm(error) = error else {
                panic!("{error:?}")
            };
            assert_eq!(error.status(), Some(code));
            assert_eq!(requests, 1, "{code}");
        };
        each(
            &format!("status-{code}"),
            Reply::status(code),
            none(),
            0,
            check,
        )
        .await;
    }
    let check = |ended: Result<Reading, Error>, _| {
        ended.unwrap_err();
    };
    each("garbage", Reply::garbage(), none(), 0, check).await;
}

/// An LM of one answer.
fn lm_of(answer: impl Fn() -> LmBody + Clone + Send + Sync + 'static, kind: &'static str) -> Lm {
    Lm::new("openai/x")
        .base_url("http://lm/v1")
        .key("test-key")
        .http(service_fn(move |_: LmRequest| {
            let answer = answer.clone();
            async move {
                let response = http::Response::builder().header("content-type", kind);
                Ok::<_, BoxError>(response.body(answer())?)
            }
        }))
}

#[tokio::test]
async fn a_json_answer_where_a_stream_was_asked_for_is_an_answer_or_an_error() {
    let host = host().await;
    let json = json!({
        "id": "x", "object": "chat.completion", "created": 0, "model": "x",
        "choices": [{
            "index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": ANSWER},
        }],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    });
    let json = json.to_string();
    for target in PROGRAMS {
        let json = json.clone();
        let lm = lm_of(
            move || LmBody::new(Full::from(json.clone())),
            "application/json",
        );
        let program = host.load(target).lm(lm).await.unwrap();
        match stream(&program, none()).await {
            Ok(read) => assert_eq!(read.answer(), "four [[it]] is"),
            Err(error) => assert_ne!(error.kind(), ErrorKind::Other, "{error:?}"),
        }
        eventually("its permit", || program.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn an_answer_in_single_bytes_is_read() {
    let host = host().await;
    let event = |delta: &str| {
        let chunk = json!({
            "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "x",
            "choices": [{"index": 0, "delta": {"content": delta}, "finish_reason": null}],
        });
        format!("data: {chunk}\r\n\r\n")
    };
    let end = json!({
        "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "x",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    });
    let whole = [
        "[[ ## answer ## ]]\n",
        "ü",
        "😀",
        "\n\n[[ ## completed ## ]]",
    ]
    .map(event);
    let whole = format!("{}data: {end}\r\n\r\ndata: [DONE]\r\n\r\n", whole.concat());
    for target in PROGRAMS {
        let whole = whole.clone();
        let body = move || {
            let bytes: Vec<_> = whole.bytes().collect();
            let frames = bytes
                .into_iter()
                .map(|byte| Ok::<_, BoxError>(Frame::data(Bytes::copy_from_slice(&[byte]))));
            LmBody::new(StreamBody::new(stream::iter(frames)))
        };
        let program = host.load(target).lm(lm_of(body, "text/event-stream"));
        let read = stream(&program.await.unwrap(), none()).await.unwrap();
        assert_eq!(read.text(1, "answer"), "ü😀");
        assert_eq!(read.answer(), "ü😀");
    }
}
