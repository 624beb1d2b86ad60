//! One run: the callers, the nodes and the LM of one variant, under paused time.

use std::{sync::Arc, time::Duration};

use http::Request;
use tokio::{
    runtime::Builder,
    time::{Instant, sleep_until, timeout},
};
use tower::ServiceExt;

use crate::{
    hops::{Node, leaf},
    ledger::{Ledger, Summary},
    lm::{Lm, Manner},
    variants::Variant,
};

pub(crate) const CALLERS: usize = 50_000;
/// The mean time between two calls of one caller.
const PAUSE: Duration = Duration::from_secs(50);
pub(crate) const CALLS_PER_SECOND: f64 = CALLERS as f64 / PAUSE.as_secs() as f64;
/// Nodes of the first hop, which callers call, and of the second, which call the LM.
const FRONTS: usize = 100;
const BACKS: usize = 100;
/// What a caller gives an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// In seconds since the start: the LM loses nine tenths of its capacity, has them again, and callers
/// make no more calls.
pub(crate) const BROWN_OUT: usize = 30;
pub(crate) const BROWN_OUT_END: usize = BROWN_OUT + 60;
pub(crate) const END: usize = BROWN_OUT_END + 90;

pub(crate) const DESCRIPTION: &str = "50 000 callers, each a call every 50 s (1 000 a second), through \
     100 nodes and 100 more to an LM for 1 333 calls a second, and for 133 from second 30 to second 90";

/// Runs one variant.
pub(crate) fn run(seed: u64, manner: Manner, variant: &Variant) -> Summary {
    // The jitter of the layers.
    fastrand::seed(seed);
    let runtime = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let summary = runtime.block_on(simulate(seed, manner, variant));
    // What was let go on with nobody waiting is dropped with the runtime.
    runtime.shutdown_background();
    summary
}

async fn simulate(seed: u64, manner: Manner, variant: &Variant) -> Summary {
    let ledger = Arc::new(Ledger::new());
    let mut random = fastrand::Rng::with_seed(seed);
    let lm = Arc::new(Lm::new(manner, random.u64(..), ledger.clone()));
    let backs = (0..BACKS).map(|_| variant.back.serve(leaf(lm.clone())));
    let backs: Arc<[Node]> = backs.collect();
    let mut wire = |nodes: &Arc<[Node]>| variant.wire.to(nodes.clone(), random.fork());
    let fronts = (0..FRONTS).map(|_| variant.front.serve(wire(&backs)));
    let fronts: Arc<[Node]> = fronts.collect();
    let clients = (0..CALLERS).map(|_| variant.client.around(wire(&fronts)));
    let clients: Vec<Node> = clients.collect();
    let start = Instant::now();
    for client in clients {
        tokio::spawn(caller(client, random.fork(), start, ledger.clone()));
    }
    sleep_until(start + Duration::from_secs(BROWN_OUT as u64)).await;
    lm.brown_out();
    sleep_until(start + Duration::from_secs(BROWN_OUT_END as u64)).await;
    lm.end_brown_out();
    // And the answers of the last calls.
    sleep_until(start + Duration::from_secs(END as u64) + PATIENCE).await;
    ledger.summary()
}

/// One caller, who makes a call at random times whether the last one was answered or not.
async fn caller(client: Node, mut random: fastrand::Rng, start: Instant, ledger: Arc<Ledger>) {
    let end = start + Duration::from_secs(END as u64);
    let mut at = start;
    loop {
        at += PAUSE.mul_f64(-(1.0 - random.f64()).ln());
        if at >= end {
            return;
        }
        sleep_until(at).await;
        let made = ledger.wanted();
        let (client, ledger) = (client.clone(), ledger.clone());
        tokio::spawn(async move {
            let answer = timeout(PATIENCE, client.oneshot(Request::new(()))).await;
            if matches!(answer, Ok(Ok(()))) {
                ledger.answered(made);
            }
        });
    }
}
