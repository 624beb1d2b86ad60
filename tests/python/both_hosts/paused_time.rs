//! Real Python under paused time.

use std::time::Duration;

use tokio::time::{Instant, advance};
use tower::{Layer, ServiceExt};
use tower_dspy::{
    Classify, ErrorKind, TimeoutLayer,
    testing::{
        OutsideWork,
        scripted_lm::{Outcome, Reply},
    },
};

use crate::support::{HOUR, ask, host, lm_server, question};

/// The program's LM call takes real time, in which no virtual time passes.
#[tokio::test(start_paused = true)]
async fn paused_time_does_not_advance_while_python_works_unless_asked_to() {
    let outside = OutsideWork::begin();
    let host = host().await;
    let server = lm_server().await;
    server.script(
        "paused",
        [
            Reply::answer("in time").delay(Duration::from_millis(200)),
            Reply::hang(),
        ],
    );
    let limited = TimeoutLayer::new(HOUR).layer(question(&host, "paused").await);

    let start = Instant::now();
    let answer = limited.clone().oneshot(ask("Why?")).await.expect("in time");
    assert_eq!(answer.outputs["answer"], "in time");
    assert_eq!(start.elapsed(), Duration::ZERO);

    let call = tokio::spawn(limited.oneshot(ask("And why?")));
    let asked = server.wait_for("paused", |requests| requests.len() == 2);
    asked.await.expect("asked");
    advance(HOUR - Duration::from_millis(1)).await;
    assert!(!call.is_finished());
    advance(Duration::from_millis(1)).await;
    let error = call.await.expect("no panic").expect_err("too late");
    assert_eq!(error.kind(), ErrorKind::Elapsed);
    // And the LM's request ended with it.
    let gone = server.wait_for("paused", |requests| {
        requests[1].outcome == Outcome::ClientGone
    });
    gone.await.expect("gone");
    drop(outside);
}
