//! What other clients notice of a flood: the time of their calls, and the server's memory.

use std::{fs, net::SocketAddr, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::json;
use tokio::{runtime, sync::watch, task::JoinSet, time::Instant};
use tower::service_fn;
use tower_dspy::{
    Error, InvalidInput, PredictRequest, Prediction,
    inbound::axum::predict,
    testing::mock::{MockDspy, Reply},
};

use super::{
    http2_frames::{
        CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, ask as ask_frames, frame, post, stream,
    },
    own_process::{again, passes},
    raw::{Asked, ask},
    served::{LONG, Server, program},
    support::SOON,
};

/// How many hostile clients there are at once.
const CLIENTS: usize = 4;
/// How much slower the slowest call of a hundred may be than with as many clients that only ask, and
/// how much longer besides, on a machine that is busy.
const SLOWER: u32 = 5;
const LATER: Duration = Duration::from_millis(250);
/// What only a server that stands still takes, on any machine.
const STALL: Duration = Duration::from_secs(15);
/// How much memory the server may take for each hostile client, in KiB.
const MEMORY: u64 = 16 << 10;
/// How much for one that sends JSON of many small values, which serde reads into 32 bytes each.
const MEMORY_OF_JSON: u64 = 96 << 10;

/// One connection of a hostile client.
type Attack = fn(SocketAddr) -> BoxFuture<'static, ()>;

fn flood(server: SocketAddr, frames: fn(u32) -> Vec<u8>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let client = Frames::connect(server, &[]).await;
        client.flood(frames).await;
    })
}

const ATTACKS: [(&str, Attack); 11] = [
    (ORDINARY, |server| flood(server, |n| ask_frames(stream(n)))),
    ("rapid reset", |server| {
        flood(server, |n| {
            let reset = frame(RST_STREAM, 0, stream(n), &CANCEL);
            [ask_frames(stream(n)), reset].concat()
        })
    }),
    ("reset of calls that have begun", |server| {
        flood(server, |n| {
            let reset = |n| frame(RST_STREAM, 0, stream(n), &CANCEL);
            let reset = n.checked_sub(50).map_or_else(Vec::new, reset);
            [ask_frames(stream(n)), reset].concat()
        })
    }),
    ("resets by the server", |server| {
        flood(server, |n| {
            let headers = frame(HEADERS, END_HEADERS, stream(n), &post("/qa", &[]));
            [
                headers,
                frame(WINDOW_UPDATE, 0, stream(n), &i32::MAX.to_be_bytes()),
            ]
            .concat()
        })
    }),
    ("continuations", |server| {
        flood(server, |n| match n {
            0 => frame(HEADERS, END_STREAM, 1, &post("/qa", &[])),
            _ => frame(CONTINUATION, 0, 1, b"\0\x01x\x01y"),
        })
    }),
    ("pings", |server| {
        flood(server, |_| frame(PING, 0, 0, &[0; 8]).repeat(100))
    }),
    ("settings", |server| {
        flood(server, |_| frame(SETTINGS, 0, 0, &[]).repeat(100))
    }),
    ("window updates", |server| {
        flood(server, |_| {
            frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]).repeat(100)
        })
    }),
    ("tiny data", |server| {
        flood(server, |n| match n {
            0 => frame(
                HEADERS,
                END_HEADERS,
                1,
                &post("/qa", &[("content-type", "application/json")]),
            ),
            _ => frame(DATA, 0, 1, b" ").repeat(100),
        })
    }),
    ("large heads", |server| {
        flood(server, |n| {
            let block = post("/qa", &[("x-more", "y123456789".repeat(10).as_str()); 200]);
            let (head, more) = block.split_at(16_000);
            let head = frame(HEADERS, END_STREAM, stream(n), head);
            [head, frame(CONTINUATION, END_HEADERS, stream(n), more)].concat()
        })
    }),
    (JSON, |server| {
        Box::pin(async move {
            let body = format!("{{\"question\":[{}0]}}", "0,".repeat(999_000));
            let request = reqwest::Client::new()
                .post(format!("http://{server}/refuse"))
                .header("content-type", "application/json")
                .body(body);
            let answered = request.send().await.expect("an answer");
            assert_eq!(answered.status(), 422);
        })
    }),
];
const ORDINARY: &str = "ordinary calls";
const JSON: &str = "JSON of many values";

/// The slowest of a hundred calls, one after the other until `during` says so, and how many there were.
async fn p99(server: SocketAddr, mut during: watch::Receiver<bool>) -> (Duration, usize) {
    let (mut kept, mut took) = (None, Vec::new());
    while !*during.borrow_and_update() || took.len() < 5 {
        let began = Instant::now();
        let asked = ask(server, &mut kept).await;
        assert!(
            matches!(asked, Asked::Answered(status) if status == 200),
            "{asked:?}"
        );
        took.push(began.elapsed());
    }
    took.sort_unstable();
    (took[took.len() * 99 / 100], took.len())
}

/// The resident memory of this process in KiB: now, or at most so far.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|text| text.starts_with(line));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.expect("a number")
}

async fn others_are_served(attack_for: Duration) -> Vec<(&'static str, Duration)> {
    let mock = MockDspy::from_fn(|_| {
        Reply::answer(json!({"answer": "blue"})).after(Duration::from_millis(1))
    });
    // The mock would keep what it was asked.
    let refuse = service_fn(|_: PredictRequest| async {
        let problem = "the input `question` is a list";
        let refused = InvalidInput::new("qa", Some("question"), problem, "question: str");
        Err::<Prediction, _>(Error::from(refused))
    });
    let app = program(&mock).route("/refuse", predict(refuse));
    let mut server = Server::start(app, LONG, LONG).await;
    let address = server.address;
    let mut times = Vec::new();
    let hostile = runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for (name, attack) in ATTACKS {
        // The peak begins anew.
        fs::write("/proc/self/clear_refs", "5").expect("Linux");
        let before = memory("VmRSS");
        let (end, ends) = watch::channel(false);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let again = async move {
                loop {
                    attack(address).await;
                }
            };
            clients.spawn_on(again, hostile.handle());
        }
        let others = tokio::spawn(p99(address, ends));
        tokio::time::sleep(attack_for).await;
        end.send_replace(true);
        let (during, calls) = others.await.expect("calls");
        drop(clients);
        let grown = memory("VmHWM").saturating_sub(before);
        println!("{name}: p99 {during:?} of {calls} calls, {grown} KiB");
        times.push((name, during));
        let each = if name == JSON { MEMORY_OF_JSON } else { MEMORY };
        assert!(grown < each * CLIENTS as u64, "{name}: {grown} KiB");
    }
    hostile.shutdown_background();
    let nothing = async {
        while mock.in_flight() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(SOON, nothing)
        .await
        .expect("calls that do not end");
    server.stop();
    println!("{}", server.report().await);
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_leave_the_memory_bounded_and_others_are_answered() {
    match again("hostile_load::floods_leave_the_memory_bounded_and_others_are_answered") {
        Some(child) => passes(child).await,
        None => {
            for (name, time) in others_are_served(Duration::from_millis(300)).await {
                assert!(time < STALL, "{name}: {time:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures time; `cargo test --release --test inbound -- --ignored --nocapture floods_slow`"]
async fn floods_slow_others_down_no_more_than_ordinary_calls_do() {
    let times = others_are_served(Duration::from_secs(5)).await;
    let ordinary = times.iter().find(|(name, _)| *name == ORDINARY);
    let bound = ordinary.expect("they were made").1 * SLOWER + LATER;
    for (name, time) in times {
        assert!(time < bound, "{name}: {time:?} of {bound:?}");
    }
}
