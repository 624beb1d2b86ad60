//! How long after its deadline a call ends: 1 000 coroutines that wait for ever, with deadlines
//! spread evenly over two seconds, through `DeadlineLayer` and `DspyService`. Then once more while
//! another call holds the GIL, in C, for the two seconds. The two take turns.
//!
//! Run: `cargo bench --bench deadline_accuracy`

mod support;

use std::time::Duration;

use serde_json::json;
use support::{Durations, count, figure, host, until, works_left};
use tokio::{task::JoinSet, time::Instant};
use tower::{ServiceBuilder, ServiceExt};
use tower_dspy::{
    Deadline, DeadlineLayer, DeadlineService, DspyService, Error, Host, PredictRequest, Scope,
    Stage, service::Function,
};

const ROUNDS: usize = 5;
const CALLS: u32 = 1000;
const SPREAD: Duration = Duration::from_secs(2);
/// From the first call to the first deadline: all have to be waiting by then.
const LEAD: Duration = Duration::from_secs(1);
/// The GIL is taken this long before the first deadline.
const HOLD_BEFORE: Duration = Duration::from_millis(20);

const WAIT: &str = "
import asyncio

async def wait():
    await asyncio.Event().wait()
";

/// `PyDLL` calls C without letting the GIL go.
const HOLD: &str = "
import ctypes, time

async def hold(microseconds):
    began = time.monotonic()
    ctypes.PyDLL(None).usleep(microseconds)
    return [began, time.monotonic()]
";

const CLOCK: &str = "
import time

async def clock():
    return time.monotonic()
";

#[tokio::main]
async fn main() {
    let bench = Bench::start().await;
    let (mut free, mut held) = (Run::new(), Run::new());
    for _ in 0..ROUNDS {
        bench.round(false, &mut free).await;
        bench.round(true, &mut held).await;
    }
    let left = works_left(&bench.host).await;

    println!(
        "time from a call's deadline to its outcome; {CALLS} calls in flight, deadlines over \
         {SPREAD:?}, {ROUNDS} rounds each with the GIL free and held"
    );
    count("deadline_early", free.early + held.early);
    figure("deadline_overshoot_p50", free.late.ms(50.0), "ms");
    figure("deadline_overshoot_p99", free.late.ms(99.0), "ms");
    figure("deadline_overshoot_max", free.late.ms(100.0), "ms");
    figure("deadline_overshoot_gil_held_p50", held.late.ms(50.0), "ms");
    figure("deadline_overshoot_gil_held_p99", held.late.ms(99.0), "ms");
    figure("deadline_overshoot_gil_held_max", held.late.ms(100.0), "ms");
    count("deadline_calls", free.late.len() + free.early);
    count("deadline_gil_held_calls", held.late.len());
    count("deadline_works_left", left);
}

struct Bench {
    host: Host,
    wait: DeadlineService<DspyService>,
    hold: Function,
    clock: Function,
}

/// What some rounds came to.
struct Run {
    early: u64,
    late: Durations,
}

impl Run {
    fn new() -> Self {
        Self {
            early: 0,
            late: Durations::new(),
        }
    }
}

impl Bench {
    async fn start() -> Self {
        let host = host().await;
        let function = async |name, source| host.function(name, Some(source)).await;
        let wait = host.load_source(WAIT, "wait").max_in_flight(CALLS as usize);
        Self {
            wait: ServiceBuilder::new()
                .layer(DeadlineLayer::from_context())
                .service(wait.await.expect("wait")),
            hold: function("hold", HOLD).await.expect("hold"),
            clock: function("clock", CLOCK).await.expect("clock"),
            host,
        }
    }

    async fn round(&self, hold_gil: bool, run: &mut Run) {
        let first = Instant::now() + LEAD;
        let mut calls = JoinSet::new();
        for n in 0..CALLS {
            let deadline = first + SPREAD * n / CALLS;
            let request = PredictRequest::new(json!({})).with_deadline(Deadline::at(deadline));
            let call = self.wait.clone().oneshot(request);
            calls.spawn(async move {
                let outcome = call.await;
                let ended = Instant::now();
                match outcome {
                    Err(Error::Elapsed(elapsed))
                        if elapsed.scope() == Scope::Deadline
                            && elapsed.stage() == Stage::Running => {}
                    other => panic!("a call that waits for ever ended with {other:?}"),
                }
                (deadline, ended)
            });
        }
        let all_run = until(|| self.host.stats().running == u64::from(CALLS)).await;
        // Python answers in turn: when it tells the time, all calls have reached their await.
        let clock = self.read_clock().await;
        assert!(
            all_run && Instant::now() + HOLD_BEFORE < first,
            "the calls took longer than {LEAD:?} to start: {:?}",
            self.host.stats()
        );

        let mut window = None;
        if hold_gil {
            tokio::time::sleep_until(first - HOLD_BEFORE).await;
            let arguments = json!({"microseconds": SPREAD.as_micros() as u64});
            let held = self.hold.call(arguments).await.expect("a hold");
            let at = |n: usize| clock.instant(held[n].as_f64().expect("seconds"));
            window = Some(at(0)..at(1));
        }
        while let Some(call) = calls.join_next().await {
            let (deadline, ended) = call.expect("a call");
            if ended < deadline {
                run.early += 1;
            } else if window.as_ref().is_none_or(|held| held.contains(&deadline)) {
                run.late.record(ended - deadline);
            }
        }
        let left = works_left(&self.host).await;
        assert_eq!(left, 0, "works that do not end: {:?}", self.host.stats());
    }

    async fn read_clock(&self) -> Clock {
        let before = Instant::now();
        let python = self.clock.call(json!({})).await.expect("the time");
        Clock {
            rust: before + before.elapsed() / 2,
            python: python.as_f64().expect("seconds"),
        }
    }
}

/// One moment on Rust's clock and on Python's.
struct Clock {
    rust: Instant,
    python: f64,
}

impl Clock {
    /// A later moment of Python's clock, on Rust's.
    fn instant(&self, python: f64) -> Instant {
        self.rust + Duration::from_secs_f64(python - self.python)
    }
}
