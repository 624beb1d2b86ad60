//! What a stack of layers costs a call whose service is ready at once, and one whose service is
//! pending once: this crate's, tower's own, and two that are made for the same purpose.
//!
//! Run: `cargo bench --bench layer_overhead`
//!
//! The request has a deadline and no token. All stacks are polled by hand, in one runtime whose
//! wheel has an earlier timer than any of theirs, and call a service that does the same work. The
//! ratios come from a loop of its own, in which the stacks take turns: criterion measures one after
//! the other, and a shared machine may be another one by then.
//!
//! All are built with their metrics and spans. Those of `observed` are observed: a recorder for
//! Prometheus takes the metrics of both, the spans have no subscriber, and ours tracks each call, with
//! its record. The recorder is installed after all others were measured.
//!
//! `LAYER_CALLS="ready tower_dspy 1000" valgrind --tool=callgrind <the binary>` counts the
//! instructions of one stack; the difference between two counts of calls is without the start.

#[path = "../support/counting.rs"]
mod counting;
#[path = "../support/figures.rs"]
mod figures;
mod stacks;

use std::time::Duration;

use counting::allocations;
use criterion::Criterion;
use figures::{figure, median};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use stacks::{Contender, contenders, observed};
use tokio::time::{Instant, sleep};

const ROUNDS: usize = 301;
const CALLS: u64 = 2_000;
/// Fewer where each call takes longer, so that most measurements lie within a turn of the scheduler.
const OBSERVED_CALLS: u64 = 400;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    // The first timer of a wheel also wakes the driver; all that come later do not.
    runtime.spawn(sleep(stacks::EARLIER));
    runtime.block_on(sleep(Duration::from_millis(20)));

    if let Ok(calls) = std::env::var("LAYER_CALLS") {
        return only(&calls);
    }

    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    for (group, pending) in [("ready", false), ("pending_once", true)] {
        let mut group = criterion.benchmark_group(group);
        for Contender { name, mut calls } in contenders(pending) {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|n| timed(|| calls(n)));
            });
        }
        group.finish();
    }
    criterion.final_summary();

    // `cargo test --benches` asks whether it runs at all, not how fast.
    let rounds = if std::env::args().any(|arg| arg == "--test") {
        1
    } else {
        ROUNDS
    };
    for (name, pending) in [("ready", false), ("pending", true)] {
        report(name, contenders(pending), rounds);
    }
    report_observed(&recorder(), rounds);
}

/// Installs the recorder of the process, as an application does.
fn recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().install_recorder();
    tower_dspy::metrics::describe();
    recorder.expect("the first recorder")
}

/// Measures the stacks that are observed. What histograms have recorded is drained between two
/// measurements, as a timer does it beside the calls.
fn report_observed(recorder: &PrometheusHandle, rounds: usize) {
    let mut contenders = observed();
    let mut nanos = contenders.each_ref().map(|_| Vec::with_capacity(rounds));
    for round in 0..=rounds {
        for (contender, nanos) in contenders.iter_mut().zip(&mut nanos) {
            let took = timed(|| (contender.calls)(OBSERVED_CALLS));
            recorder.run_upkeep();
            if round > 0 {
                nanos.push(took.as_nanos() as f64 / OBSERVED_CALLS as f64);
            }
        }
    }
    for (contender, nanos) in contenders.iter().zip(&nanos) {
        let name = format!("observed_{}_ns", contender.name);
        figure(&name, median(nanos.clone()), "ns");
    }
    let [ours, theirs] = &nanos;
    let ratios = theirs.iter().zip(ours).map(|(theirs, ours)| theirs / ours);
    let name = "observed_vs_tower_resilience_observed";
    figure(name, median(ratios.collect()), "x");
}

fn report(name: &str, mut contenders: Vec<Contender>, rounds: usize) {
    let mut nanos = vec![Vec::with_capacity(rounds); contenders.len()];
    // The first round warms up.
    for round in 0..=rounds {
        for (contender, nanos) in contenders.iter_mut().zip(&mut nanos) {
            let took = timed(|| (contender.calls)(CALLS));
            if round > 0 {
                nanos.push(took.as_nanos() as f64 / CALLS as f64);
            }
        }
    }
    let of = |name| {
        contenders
            .iter()
            .position(|contender| contender.name == name)
    };
    let ours = of("tower_dspy").expect("a contender");
    for (contender, nanos) in contenders.iter().zip(&nanos) {
        figure(
            &format!("{name}_{}_ns", contender.name),
            median(nanos.clone()),
            "ns",
        );
    }
    for peer in ["tower", "tower_resilience", "seatbelt", "seatbelt_layered"] {
        let theirs = &nanos[of(peer).expect("a contender")];
        let ratios = theirs
            .iter()
            .zip(&nanos[ours])
            .map(|(theirs, ours)| theirs / ours);
        figure(&format!("{name}_vs_{peer}"), median(ratios.collect()), "x");
    }
    let allocated = allocations(|| (contenders[ours].calls)(CALLS));
    figure(
        &format!("allocs_{name}"),
        allocated as f64 / CALLS as f64,
        "count",
    );
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

/// Calls one stack so often, and does nothing else.
fn only(calls: &str) {
    let [group, name, calls] = calls.split(' ').collect::<Vec<_>>()[..] else {
        panic!("LAYER_CALLS is: group, name and number of calls");
    };
    let stacks = match group {
        "observed" => {
            recorder();
            observed().into()
        }
        group => contenders(group != "ready"),
    };
    for mut contender in stacks {
        if contender.name == name {
            (contender.calls)(calls.parse().expect("a number of calls"));
        }
    }
}
