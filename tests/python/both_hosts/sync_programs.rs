//! Sync programs: on threads of the host's, and stopped like all others.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::{
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use tower::{Service, ServiceExt};
use tower_dspy::{
    Classify, Deadline, DspyService, Error, ErrorKind, Health, Host, PredictRequest, Prediction,
    testing::scripted_lm::{Outcome, Reply, RequestRecord},
};

use crate::support::{
    HOUR, LIMIT, ask, ask_as, call, eventually, eventually_seen, host, host_alone, lm, lm_server,
    load, own_process, programs, seen, venv,
};

type Running = JoinHandle<Result<Prediction, Error>>;

fn keyed(key: &str) -> PredictRequest {
    PredictRequest::new(json!({"key": key}))
}

async fn open(host: &Host, key: &str) {
    call(host, "sync:open_thread_gate", json!({"key": key})).await;
}

fn all_gone(requests: &[RequestRecord]) -> bool {
    !requests.is_empty() && requests.iter().all(|r| r.outcome == Outcome::ClientGone)
}

async fn begun(host: &Host, program: &mut DspyService, key: &str) -> Running {
    let call = tokio::spawn(program.ready().await.unwrap().call(keyed(key)));
    eventually_seen(host, key, &["running"]).await;
    call
}

#[tokio::test]
async fn modules_without_aforward_run_and_answer() {
    let (host, lm) = (host().await, lm_server().await);
    for program in ["shapes:SyncOnly", "shapes:best_of", "sync:Retries"] {
        let answer = load(&host, program, "sync")
            .await
            .oneshot(ask("hello"))
            .await;
        let answer = answer.unwrap_or_else(|error| panic!("{program}: {error}"));
        assert_eq!(answer.outputs["answer"], "You said: hello", "{program}");
        assert_eq!(
            (answer.lm_calls.len(), answer.usage.total_tokens > 0),
            (1, true)
        );
    }
    let before = lm.requests("sync").len();
    let answer = load(&host, "sync:best_of", "sync")
        .await
        .oneshot(ask("hello"));
    assert_eq!(answer.await.unwrap().lm_calls.len(), 3);
    assert_eq!(lm.requests("sync").len(), before + 3);
    // It overrides `forward` alone: what it inherits as `aforward` is not it.
    let answer = load(&host, "shapes:Overrides", "sync")
        .await
        .oneshot(ask("hello"));
    assert_eq!(
        answer.await.unwrap().outputs["answer"],
        "overridden: You said: hello"
    );
    let answer = load(&host, "sync:Parallel", "sync").await;
    let request = PredictRequest::new(json!({"question": "n", "times": 4}));
    let answer = answer.oneshot(request).await.unwrap();
    let expected: Vec<_> = (0..4).map(|n| format!("You said: n {n}")).collect();
    assert_eq!(answer.outputs["answers"], json!(expected));
    // Those of its threads are its own, too.
    assert_eq!(answer.lm_calls.len(), 4);
}

#[tokio::test]
async fn a_sync_program_runs_on_a_host_thread_with_the_limits_of_its_call() {
    let host = host().await;
    let says = load(&host, "sync:Says", "unused").await;
    let answer = says.clone().oneshot(keyed("says")).await.unwrap();
    assert_eq!(
        Value::Object(answer.outputs),
        json!({"limited": false, "over": false})
    );
    let limited = keyed("says").with_deadline(Deadline::within(HOUR));
    let answer = says.oneshot(limited).await.unwrap();
    assert_eq!(answer.outputs["limited"], true);
    assert_eq!(
        seen(&host, "says").await,
        ["tower-dspy-sync", "tower-dspy-sync"]
    );
}

#[tokio::test]
async fn a_dropped_call_closes_its_lm_connection_and_its_clean_up_is_not_cut_short() {
    let (host, lm) = (host_alone().await, lm_server().await);
    lm.script("sync-dropped", Reply::hang());
    let program = load(&host, "sync:Asks", "sync-dropped").await;
    let call = tokio::spawn(program.clone().oneshot(ask_as("sync-dropped")));
    lm.wait_for("sync-dropped", |all| all.len() == 1)
        .await
        .unwrap();
    call.abort();
    lm.wait_for("sync-dropped", all_gone).await.unwrap();
    eventually_seen(&host, "sync-dropped", &["cleaning"]).await;
    assert_eq!((program.in_flight(), host.stats().orphans), (1, 1));

    open(&host, "sync-dropped").await;
    eventually("its permit", || program.in_flight() == 0).await;
    assert_eq!(seen(&host, "sync-dropped").await, ["cleaning", "cleaned"]);
    assert_eq!(lm.requests("sync-dropped").len(), 1);
    eventually("no orphans", || host.stats().orphans == 0).await;
}

#[tokio::test]
async fn no_lm_call_is_made_after_the_end_by_a_program_that_catches_everything() {
    let (host, server) = (host().await, lm_server().await);
    let times = |n: u32| json!({"question": "?", "times": n});
    let question = json!({"question": "?"});
    for (program, inputs, at_once) in [
        ("sync:Retries", question.clone(), 1),
        ("sync:Swallows", times(4), 1),
        ("sync:best_of", question.clone(), 1),
        ("sync:refined", question, 1),
        ("sync:Parallel", times(3), 3),
    ] {
        let model = format!("after the end of {program}");
        server.script(&model, Reply::hang());
        let service = host.load(program).lm(lm(&model).await).await.unwrap();
        let call = tokio::spawn(service.clone().oneshot(PredictRequest::new(inputs)));
        server
            .wait_for(&model, |all| all.len() == at_once)
            .await
            .unwrap();
        call.abort();
        server.wait_for(&model, all_gone).await.unwrap();
        eventually(program, || service.in_flight() == 0).await;
        assert_eq!(server.requests(&model).len(), at_once, "{program}");
    }
}

#[tokio::test]
async fn a_busy_loop_is_ended_and_cleans_up() {
    let host = host().await;
    let mut busy = load(&host, "sync:Busy", "unused").await;
    let call = begun(&host, &mut busy, "sync-busy").await;
    call.abort();
    eventually("its permit", || busy.in_flight() == 0).await;
    assert_eq!(seen(&host, "sync-busy").await, ["running", "cleaned"]);
}

#[tokio::test]
async fn an_uninterruptible_wait_is_counted_until_it_returns_and_the_program_ends_there() {
    let host = host_alone().await;
    let mut waits = load(&host, "sync:Waits", "unused").await;
    let call = begun(&host, &mut waits, "sync-waits").await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!((waits.in_flight(), host.stats().orphans), (1, 1));

    open(&host, "sync-waits").await;
    eventually("its permit", || waits.in_flight() == 0).await;
    assert_eq!(seen(&host, "sync-waits").await, ["running"]);
    eventually("no orphans", || host.stats().orphans == 0).await;
}

#[tokio::test]
async fn calls_at_once_do_not_wait_for_each_other() {
    let host = host().await;
    let mut waits = load(&host, "sync:Waits", "unused").await;
    let mut calls = Vec::new();
    for n in 0..8 {
        calls.push(begun(&host, &mut waits, &format!("sync-abreast-{n}")).await);
    }
    for (n, call) in calls.into_iter().enumerate().rev() {
        assert!(!call.is_finished());
        open(&host, &format!("sync-abreast-{n}")).await;
        call.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn stuck_threads_are_replaced_up_to_a_bound_and_then_calls_are_refused() {
    let name = "both_hosts::sync_programs::stuck_threads_are_replaced_up_to_a_bound_and_then_calls_are_refused";
    if own_process(name).await.is_some() {
        return;
    }
    let host = Host::embedded()
        .venv(venv().await)
        .python_path(programs())
        .sync_threads(1)
        // Long enough for a thread to catch the first exception before the second is raised in it.
        .thread_grace(Duration::from_secs(3))
        .max_abandoned(2);
    let host = host.start().await.unwrap();
    let mut stubborn = load(&host, "sync:Stubborn", "unused").await;
    let says = load(&host, "sync:Says", "unused").await;
    for (n, key) in ["first", "second"].into_iter().enumerate() {
        // On a single thread: each runs because the one before was replaced.
        begun(&host, &mut stubborn, key).await.abort();
        let abandoned = n as u64 + 1;
        eventually("it to be given up", || host.stats().abandoned == abandoned).await;
        eventually_seen(&host, key, &["running", "swallowed", "swallowed"]).await;
        assert_eq!(
            (host.stats().replaced, stubborn.in_flight()),
            (abandoned, n + 1)
        );
    }
    // A late heartbeat shows as another health for a while.
    let exhausted = Health::Exhausted { abandoned: 2 };
    eventually("the exhaustion", || host.health() == exhausted).await;
    let error = says.clone().oneshot(keyed("refused")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.to_string().contains("max_abandoned"), "{error}");
    // Async programs need no thread.
    let asks = load(&host, "asks:limits", "unused").await;
    asks.oneshot(PredictRequest::new(json!({}))).await.unwrap();

    open(&host, "first").await;
    eventually("its end", || host.stats().abandoned == 1).await;
    eventually("a healthy host", || host.health() == Health::Ready).await;
    says.oneshot(keyed("says")).await.unwrap();
    open(&host, "second").await;
    eventually("all ends", || host.stats().running == 0).await;
    assert_eq!((host.stats().abandoned, stubborn.in_flight()), (0, 0));
}

#[tokio::test]
async fn sys_exit_in_a_sync_program_is_the_failure_of_that_call() {
    let host = host().await;
    let source = "import sys\nimport dspy\nclass Exits(dspy.Module):\n    \
                  def forward(self, key: str):\n        sys.exit(3)";
    let exits = host.load_source(source, "Exits").await.unwrap();
    match exits.clone().oneshot(keyed("x")).await {
        Err(Error::Program(error)) => assert_eq!(error.python_type(), "SystemExit"),
        other => panic!("{other:?}"),
    }
    assert_eq!(exits.in_flight(), 0);
}

#[tokio::test]
async fn calls_dropped_at_random_leave_nothing_behind_and_disturb_no_other() {
    const CALLS: usize = 300;
    let (host, server) = (host_alone().await, lm_server().await);
    let replies = (0..CALLS).map(|n| match n % 3 {
        0 => Reply::hang(),
        1 => Reply::answer("quick"),
        _ => Reply::answer("one two three").drip(Duration::from_millis(2)),
    });
    server.script("sync-storm", replies.collect::<Vec<_>>());
    let program = load(&host, "sync:Retries", "sync-storm").await;
    let wanted = load(&host, "sync:Says", "unused").await;
    let busy = load(&host, "sync:Busy", "unused").await;
    let before = call(&host, "sync:switch_threads_every", json!({"seconds": 1e-6})).await;
    let mut random = fastrand::Rng::with_seed(0x5EED);
    let mut given_up = JoinSet::new();
    for n in 0..CALLS {
        let (call, request) = if n % 4 == 0 {
            (busy.clone(), keyed("sync-storm"))
        } else {
            (program.clone(), ask("?"))
        };
        let after = Duration::from_micros(random.u64(0..20_000));
        given_up.spawn(async move {
            // Errors as well: what is given up may have come to anything.
            let _ = timeout(after, call.oneshot(request)).await;
        });
        // On the same threads as the others, and never hit by what is meant for those.
        let answer = timeout(LIMIT, wanted.clone().oneshot(keyed("sync-wanted"))).await;
        let answer =
            answer.unwrap_or_else(|_| panic!("call {n} is never answered: {:?}", host.stats()));
        answer.unwrap();
        if given_up.len() == 16 {
            given_up.join_next().await.unwrap().unwrap();
        }
    }
    while let Some(ended) = given_up.join_next().await {
        ended.unwrap();
    }
    eventually("all ends", || {
        let stats = host.stats();
        let left = (stats.running, stats.orphans, stats.in_lm_calls);
        left == (0, 0, 0) && program.in_flight() + busy.in_flight() == 0
    })
    .await;
    assert_eq!(host.stats().abandoned, 0);
    call(
        &host,
        "sync:switch_threads_every",
        json!({"seconds": before}),
    )
    .await;
    server.script("sync-storm", Reply::echo());
    program.oneshot(ask("is all well?")).await.unwrap();
}
