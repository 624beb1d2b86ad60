//! Sync code ends alike in each way to run it, whatever it waits for.

use serde_json::json;
use tower::ServiceExt;
use tower_dspy::PredictRequest;

use crate::support::{eventually, eventually_noted, host_alone, load, seen};

/// A thread of the host's pool, `asyncio.to_thread`, `dspy.asyncify`, `dspy.Parallel`, a pool of the
/// program's and a thread of its own; each is run by both hosts.
const WAYS: &[&str] = &["Host", "ToThread", "Asyncify", "Parallel", "Pool", "Thread"];

const WAITS: &[&str] = &["sleep", "event", "queued", "receive", "child"];

#[tokio::test]
async fn what_sync_code_waits_for_ends_with_its_call_in_each_way_to_run_it() {
    let host = host_alone().await;
    for way in WAYS {
        for wait in WAITS {
            let key = format!("matrix-{way}-{wait}");
            let program = load(&host, &format!("sync_matrix:{way}.{wait}"), "unused").await;
            let request = PredictRequest::new(json!({"key": key}));
            let waiting = tokio::spawn(program.clone().oneshot(request));
            // `dspy.Parallel` waits twice, and a child's id is noted as well.
            let begun = 1 + usize::from(*way == "Parallel");
            let noted = begun * (1 + usize::from(*wait == "child"));
            eventually_noted(&host, &key, noted).await;

            waiting.abort();
            eventually(&key, || program.in_flight() == 0).await;
            // Taken back after the permit.
            eventually(&key, || host.stats().orphans == 0).await;
            let seen = seen(&host, &key).await;
            let count = |event: &str| seen.iter().filter(|noted| *noted == event).count();
            assert_eq!(count("ended"), begun, "{key}: {seen:?}");
            assert_eq!(count("went on"), 0, "{key}: {seen:?}");
        }
    }
}
