//! The samples of a run, and what grew.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;
use tower_dspy::{Host, service::Function};

use crate::{
    slope::Slope,
    support::{LmProcess, count, figure, median, read_process},
};

/// The most that a count may grow for each 10 000 predictions. One thing that is left by one in ten
/// of the calls that are given up would be 100.
const MOST_COUNT: f64 = 0.01;
/// The most that memory may grow for each 10 000 predictions, in KiB: about 50 bytes each, which is
/// less than an empty dict. It is not zero, as pages that the allocators of Rust, C and Python share
/// out anew come to a steady size only slowly: over 200 000 predictions a run grew by 245 KiB.
const MOST_RSS: f64 = 500.0;
/// Standard errors above the bound from which on it is no noise. Readings of memory depend on the
/// reading before, so their true errors are larger than those of the fit.
const ERRORS: f64 = 3.0;

/// What the process holds at a moment without calls.
pub(crate) struct Sample {
    /// Predictions so far.
    at: f64,
    /// The worker that was read, if there is one.
    worker: Option<u32>,
    rss_kib: f64,
    descriptors: f64,
    threads: f64,
    python: Objects,
}

/// What Python says of itself.
#[derive(Deserialize)]
struct Objects {
    objects: f64,
    asyncio: f64,
    tasks: f64,
    blocks: f64,
    malloc_used: f64,
    malloc_free: f64,
    /// Kept of two samples only: it would be the largest thing that grows.
    types: BTreeMap<String, i64>,
}

/// Takes samples of a host.
pub(crate) struct Sampler {
    host: Host,
    count: Function,
}

impl Sampler {
    pub(crate) async fn new(host: &Host) -> Self {
        let count = host.function("objects:count", None).await;
        Self {
            host: host.clone(),
            count: count.expect("a function"),
        }
    }

    /// The readings after so many predictions: of this process, or of its one worker; the
    /// descriptors are of both.
    pub(crate) async fn sample(&self, at: usize, lm: &mut LmProcess) -> Sample {
        let python = self.count.call(json!({})).await.expect("an answer");
        let worker = self.host.worker_stats();
        let worker = worker.and_then(|stats| stats.processes.first().map(|process| process.pid));
        let kept = lm.connections().await.expect("the LM");
        let own = read_process("self").expect("this process");
        let of_worker = worker.and_then(|pid| read_process(&pid.to_string()));
        let process = of_worker.unwrap_or(own);
        let descriptors = own.descriptors + of_worker.map_or(0, |read| read.descriptors);
        Sample {
            at: at as f64,
            worker,
            rss_kib: process.rss_kib as f64,
            // Connections to the LM are kept for the next calls, and closed when they have idled.
            descriptors: descriptors.saturating_sub(kept) as f64,
            threads: process.threads as f64,
            python: serde_json::from_value(python).expect("counts"),
        }
    }
}

impl Sample {
    /// Without the counts by type.
    pub(crate) fn without_types(mut self) -> Self {
        self.python.types = BTreeMap::new();
        self
    }
}

/// Prints the slopes from the first quarter on, for each 10 000 predictions, with their standard
/// errors, and what Python has more of. Returns how many slopes are above their bounds.
///
/// A slope is above its bound if it is so by more than [`ERRORS`] standard errors.
pub(crate) fn print(name: &str, samples: &[Sample]) -> u64 {
    let steady = &samples[samples.len() / 4..];
    let mut grown = 0;
    type Reading = fn(&Sample) -> f64;
    let rows: [(&str, &str, Option<f64>, Reading); 8] = [
        ("rss", "KiB", Some(MOST_RSS), |sample| sample.rss_kib),
        ("descriptors", "count", Some(MOST_COUNT), |sample| {
            sample.descriptors
        }),
        ("threads", "count", Some(MOST_COUNT), |sample| {
            sample.threads
        }),
        ("asyncio_objects", "count", Some(MOST_COUNT), |sample| {
            sample.python.asyncio
        }),
        ("asyncio_tasks", "count", Some(MOST_COUNT), |sample| {
            sample.python.tasks
        }),
        ("python_objects", "count", None, |sample| {
            sample.python.objects
        }),
        ("python_blocks", "count", None, |sample| {
            sample.python.blocks
        }),
        ("malloc_used", "KiB", None, |sample| {
            sample.python.malloc_used / 1024.0
        }),
    ];
    println!("{name}: the slopes for each 10 000 predictions, with the standard error behind +-");
    for (row, unit, most, reading) in rows {
        let points = steady
            .iter()
            .map(|sample| (sample.at / 1e4, reading(sample)));
        let Slope { slope, error } = Slope::through(&points.collect::<Vec<_>>());
        println!("  {row:<16} {slope:>10.3} +- {error:.3} {unit}");
        figure(&format!("{name}_{row}_slope"), slope, unit);
        if let Some(most) = most
            && (slope.is_nan() || slope > most + ERRORS * error)
        {
            println!("  {row}: grows by more than {most} {unit}");
            grown += 1;
        }
    }
    if samples
        .iter()
        .any(|sample| sample.worker != samples[0].worker)
    {
        println!("  the worker was replaced, so its readings are of two processes");
        grown += 1;
    }
    let tenth = (steady.len() / 10).max(1);
    let rss = |part: &[Sample]| median(part.iter().map(|sample| sample.rss_kib).collect());
    let (early, late) = (rss(&steady[..tenth]), rss(&steady[steady.len() - tenth..]));
    for (when, sample) in [("quarter", steady.first()), ("end", steady.last())] {
        let Some(sample) = sample else { continue };
        println!(
            "  {when:>8}: RSS {:.1} MB; malloc {:.1} MB used and {:.1} MB kept; {} blocks of Python's",
            sample.rss_kib / 1024.0,
            sample.python.malloc_used / 1048576.0,
            sample.python.malloc_free / 1048576.0,
            sample.python.blocks,
        );
    }
    figure(
        &format!("{name}_rss_growth"),
        100.0 * (late - early) / early,
        "%",
    );
    if let (Some(first), Some(last)) = (steady.first(), steady.last()) {
        print_types(&first.python.types, &last.python.types);
        count(&format!("{name}_predictions"), last.at as u64);
    }
    grown
}

/// The types of which there are more than before.
fn print_types(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) {
    let more = |(name, n): (&String, &i64)| {
        let more = n - before.get(name).copied().unwrap_or_default();
        (more > 0).then(|| (more, name.clone()))
    };
    let mut grown: Vec<_> = after.iter().filter_map(more).collect();
    grown.sort();
    for (more, name) in grown.iter().rev().take(10) {
        println!("  {more:>8} more of {name}");
    }
}
