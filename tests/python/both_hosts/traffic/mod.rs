//! Every program over every dialect with every fault: the deadline reaches each LM call, a
//! cancellation reaches the socket, and a failure keeps its kind.

mod many;
mod run;
mod table;
mod tls;

use futures_util::{StreamExt, stream};
use tower_dspy::testing::scripted_lm::ScriptedLm;

use self::{
    run::Room,
    table::{FAULTS, PROGRAMS, PROVIDERS},
};
use crate::support::{eventually, host_alone};

/// Cases at once. The host has few threads, and a case that waits for one runs out of time there.
const ON_THREADS: usize = 4;
const ON_THE_LOOP: usize = 16;

#[tokio::test]
async fn every_program_over_every_dialect_meets_every_fault() {
    let (host, server) = (host_alone().await, ScriptedLm::start().await.unwrap());
    let room = Room::new(&host, &server);
    let cases = PROGRAMS.iter().flat_map(|program| {
        let faults = FAULTS.iter();
        faults.flat_map(move |fault| PROVIDERS.map(|provider| (program, provider, fault)))
    });
    let run = |(program, provider, fault)| room.run(program, provider, fault);
    let (threaded, others): (Vec<_>, Vec<_>) = cases.partition(|(program, ..)| program.threaded);
    let many = threaded.len() + others.len();
    let threaded = stream::iter(threaded).map(run).buffer_unordered(ON_THREADS);
    let others = stream::iter(others).map(run).buffer_unordered(ON_THE_LOOP);
    let wrong: Vec<String> = stream::select(threaded, others)
        .filter_map(async |w| w)
        .collect()
        .await;

    assert!(
        wrong.is_empty(),
        "{} of {many} cases:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    // The client keeps no connection for later, so none is open.
    server.wait_for_connections(|open| open == 0).await.unwrap();
    eventually("the calls", || host.stats().running == 0).await;
    let stats = host.stats();
    assert_eq!((stats.queued, stats.orphans), (0, 0));
}
