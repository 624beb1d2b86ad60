//! Readers that are slower than the LM.

use std::time::Duration;

use futures_util::{StreamExt, future::join_all};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_dspy::{
    Classify, ErrorKind, StreamEvent,
    testing::scripted_lm::{Gate, Reply, RequestRecord},
};

use super::reading::{Reading, assert_partial, is_well_after, lm_ended, read};
use crate::support::{LIMIT, TestHost, ask, host, host_alone, lm, lm_server, load, question};

const MIB: usize = 1 << 20;

/// The length of a piece of the long text.
const PIECE: usize = 8 << 10;

/// So much text.
fn long(bytes: usize) -> String {
    "0123456789abcde
"
    .repeat(bytes / 16)
    .trim_end()
    .to_owned()
}

/// Deltas of thinking, with more text than a program sends unread.
const THOUGHTS: usize = 8 * 1024;

fn step(tool: &str, arguments: &str) -> Reply {
    Reply::fields([
        ("next_thought", "let me think about it for a while"),
        ("next_tool_name", tool),
        ("next_tool_args", arguments),
    ])
}

#[tokio::test]
async fn a_slow_reader_of_an_agent_holds_up_itself_alone() {
    let (host, server) = (host().await, lm_server().await);
    let long = long(8 * MIB);
    let look_up = step("look_up_later", r#"{"word": "sky"}"#);
    let done = Reply::fields([("reasoning", "so"), ("answer", &*long)]).split_every(PIECE);
    server.script("slow-agent", [look_up, step("finish", "{}"), done]);
    server.script("slow-others", Reply::echo());
    let agent = load(&host, "streams:Agent", "slow-agent").await;
    let others = question(&host, "slow-others").await;

    let mut slow = agent.streaming().oneshot(ask("Why?")).await.unwrap();
    let mut reading = Reading::default();
    // The thought, the tool, and the first of the long answer.
    while !reading.texts.keys().any(|(_, field)| field == "answer") {
        assert!(reading.next(&mut slow).await, "{reading:?}");
        sleep(Duration::from_millis(30)).await;
    }
    let fast = async {
        let all = (0..64).map(async |n| {
            let question = format!("number {n}");
            let stream = others.streaming().oneshot(ask(&question)).await.unwrap();
            assert_eq!(
                read(stream).await.answer(),
                &format!("You said: {question}")
            );
        });
        join_all(all).await;
    };
    let slowly = async {
        loop {
            sleep(Duration::from_millis(30)).await;
            assert!(
                reading.next(&mut slow).await && reading.end.is_none(),
                "it ended first"
            );
        }
    };
    tokio::select! {
        fast = timeout(LIMIT, fast) => fast.expect("an end in time"),
        () = slowly => unreachable!(),
    }
    let read = reading.rest(slow).await;
    assert!(*read.answer() == long);
    let last = read.texts.iter().rfind(|((_, field), _)| field == "answer");
    assert!(last.is_some_and(|(_, text)| *text == long));
    assert_eq!(read.tools.len(), 2);
}

/// The resident memory of this process.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = status.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Waits until the LM can send no more; returns how many tokens it could.
async fn blocked(model: &str) -> usize {
    let server = lm_server().await;
    let tokens = || server.requests(model).iter().map(|r| r.tokens).sum();
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500)).await;
        let sent = tokens();
        if sent > 0 && sent == before {
            return sent;
        }
        before = sent;
    }
}

async fn stops_reading(host: &TestHost, target: &str, model: &str) {
    let server = lm_server().await;
    // Far more than the buffers of the kernel and of the host hold.
    let text = long(12 * MIB);
    let events = text.len() / PIECE;
    server.script(model, Reply::answer(&text).split_every(PIECE));
    let program = load(host, target, model).await;
    let stalls = host.stats().reader_stalls;
    let mut stream = program.streaming().oneshot(ask("?")).await.unwrap();
    let before = memory();
    let sent = blocked(model).await;
    assert!(sent < events / 4 * 3, "{sent}");
    assert!(memory() < before + 64 * MIB, "{before} {}", memory());
    let mut reading = Reading::default();
    while reading.texts.is_empty() {
        assert!(reading.next(&mut stream).await);
    }
    let first: usize = reading.texts.values().map(String::len).sum();
    assert!(first <= 64 * 1024, "{first} bytes are unread");
    let read = reading.rest(stream).await;
    assert_eq!(read.text(1, "answer").len(), text.len());
    assert!(read.text(1, "answer") == text && *read.answer() == text);
    assert!(read.replaced.is_empty());
    assert!(host.stats().reader_stalls > stalls);
    is_well_after(&program, model, 0, ask("?")).await;
}

#[tokio::test]
async fn an_answer_that_is_not_read_blocks_the_lm_and_is_whole_once_it_is_read() {
    let host = host_alone().await;
    for (target, model) in [
        ("question -> answer", "slow-stops"),
        ("shapes:SyncOnly", "slow-stops-sync"),
    ] {
        stops_reading(&host, target, model).await;
    }
    assert!(host.stats().reader_stalled > Duration::ZERO);
}

#[tokio::test]
async fn a_program_whose_statuses_are_not_read_does_not_go_on_calling_its_lm() {
    let (host, server) = (host().await, lm_server().await);
    join_all(["Talks", "TalksOnThread"].map(async |name| {
        let model = format!("slow-{name}");
        server.script(&model, Reply::answer("four"));
        let program = load(&host, &format!("streams:{name}"), &model).await;
        let stream = program.streaming().oneshot(ask("?")).await.unwrap();
        blocked(&model).await;
        let lm_calls = server.requests(&model).len();
        assert!(lm_calls <= 3, "{lm_calls} LM calls");
        let read = read(stream).await;
        assert_eq!(read.answer(), "four");
        assert_eq!(read.statuses.len(), 20);
    }))
    .await;
}

#[tokio::test]
async fn a_program_that_waits_for_its_reader_ends_with_its_stream() {
    let (host, server) = (host().await, lm_server().await);
    // More than a program sends to a reader that stops after its first event.
    let sent = 16;
    let programs = [
        ("question -> answer", 1),
        ("shapes:SyncOnly", 1),
        ("streams:Parallel", 3),
        ("streams:OwnLoop", 1),
    ];
    join_all(programs.map(async |(target, lm_calls)| {
        let model = format!("slow-ends-{}", target.replace([' ', ':', '>'], "-"));
        // A full stream holds up the next LM call of its program too: all begin, and send what does not
        // fill it, before any goes on.
        let gate = Gate::new();
        server.script(
            &model,
            Reply::answer(long(MIB))
                .split_every(PIECE)
                .pause_after(1, &gate)
                .stall_after(sent),
        );
        let program = load(&host, target, &model).await;
        let token = CancellationToken::new();
        let streams = [
            program.streaming().oneshot(ask("?")).await.unwrap(),
            program
                .streaming()
                .oneshot(ask("?").with_cancel(token.clone()))
                .await
                .unwrap(),
        ];
        let all_begun = |all: &[RequestRecord]| all.len() == 2 * lm_calls;
        server.wait_for(&model, all_begun).await.unwrap();
        gate.open();
        let all_sent = |all: &[RequestRecord]| all.iter().all(|r| r.tokens == sent);
        server.wait_for(&model, all_sent).await.unwrap();
        let [dropped, mut cancelled] = streams;
        // What the LM has sent is not yet what the program has read.
        let mut reading = Reading::default();
        reading.until_text(&mut cancelled).await;
        // Enough for the programs to begin to wait.
        sleep(Duration::from_millis(500)).await;
        drop(dropped);
        token.cancel();
        lm_ended(&model, 2 * lm_calls).await;
        let read = reading.rest(cancelled).await;
        assert_eq!(read.error().kind(), ErrorKind::Cancelled);
        assert_partial(&read);
        is_well_after(&program, &model, 2 * lm_calls, ask("?")).await;
    }))
    .await;
}

#[tokio::test]
async fn tasks_that_wait_for_one_reader_take_turns() {
    let (host, server) = (host().await, lm_server().await);
    let texts = ["a", "b"].map(|word| word.repeat(MIB / 8));
    let replies = [&texts[0], &texts[1]].map(|text| Reply::answer(text).split_every(1000));
    for (n, target) in ["streams:Twice", "streams:Parallel"]
        .into_iter()
        .enumerate()
    {
        let model = format!("slow-tasks-{n}");
        server.script(&model, replies.clone());
        let program = load(&host, target, &model).await;
        let mut stream = program.streaming().oneshot(ask("?")).await.unwrap();
        let mut reading = Reading::default();
        while reading.end.is_none() && reading.next(&mut stream).await {
            sleep(Duration::from_millis(2)).await;
        }
        reading.prediction();
        for (lm_call, _, before) in &reading.replaced {
            let _ = reading
                .texts
                .insert((*lm_call, "answer".into()), before.clone());
        }
        let texts_read: Vec<_> = reading.texts.values().collect();
        assert_eq!(texts_read.len(), [2, 3][n]);
        assert!(texts_read.iter().all(|text| texts.contains(text)));
        is_well_after(&program, &model, 0, ask("?")).await;
    }
}

#[tokio::test]
async fn thinking_that_is_not_read_is_bounded_too() {
    let (host, server) = (host().await, lm_server().await);
    let thoughts = vec!["0123456789abcdef".to_owned(); THOUGHTS];
    server.script("slow-thinking", Reply::answer("so").thinking(thoughts));
    let load = host
        .load("question -> answer")
        .lm(lm("slow-thinking").await);
    let program = load.await.unwrap();
    let mut stream = program.streaming().oneshot(ask("?")).await.unwrap();
    sleep(Duration::from_secs(1)).await;
    // All that is unread is one event. Once it is taken, the program sends more.
    let first = stream.next().await;
    let Some(Ok(StreamEvent::Thinking { delta, .. })) = first else {
        panic!("{first:?}");
    };
    let unread = delta.len();
    assert!(unread <= 64 * 1024, "{unread}");
    let read = read(stream).await;
    assert_eq!(read.thinking.len() + unread, 16 * THOUGHTS);
    assert_eq!(read.answer(), "so");
}
