//! Predictions a second and the time of one: embedded, with one worker, and with two.

use std::{fs, time::Duration};

use tokio::time::Instant;
use tower::ServiceExt;
use tower_dspy::{DspyService, Host};

use crate::{
    ask, question,
    support::{Durations, figure, median, venv},
    workers,
};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
/// Predictions at once, to see how many are made.
const AT_ONCE: usize = 64;
/// Predictions one after the other in a round, to see how long one takes.
const IN_TURN: usize = 400;

pub(crate) struct Rates {
    embedded: Vec<f64>,
    two: Vec<f64>,
    cpu: Vec<[f64; 3]>,
    alone_embedded: Durations,
    alone_worker: Durations,
}

pub(crate) async fn measure() -> Rates {
    let embedded = Host::embedded().venv(venv().await).start().await;
    let embedded = embedded.expect("a host");
    let one = workers(1).await.start().await.expect("a worker");
    let two = workers(2).await.start().await.expect("two workers");
    let programs = [
        question(&embedded).await,
        question(&one).await,
        question(&two).await,
    ];
    let [in_process, of_one, of_two] = &programs;
    let mut rates = Rates {
        embedded: vec![],
        two: vec![],
        cpu: vec![],
        alone_embedded: Durations::new(),
        alone_worker: Durations::new(),
    };
    for round in 0..=ROUNDS {
        let [before, _] = cpu(&two);
        let embedded = rate(in_process).await;
        let [between, theirs] = cpu(&two);
        let with_two = rate(of_two).await;
        let [after, theirs_after] = cpu(&two);
        let alone = [in_turn(in_process).await, in_turn(of_one).await];
        // The first round warms up.
        if round == 0 {
            continue;
        }
        rates.cpu.push([
            (between - before) / embedded,
            (after - between) / with_two,
            (theirs_after - theirs) / with_two,
        ]);
        rates.embedded.push(embedded);
        rates.two.push(with_two);
        let [embedded, worker] = alone;
        embedded
            .iter()
            .for_each(|one| rates.alone_embedded.record(*one));
        worker
            .iter()
            .for_each(|one| rates.alone_worker.record(*one));
    }
    for host in [&one, &two] {
        host.stop(Duration::from_secs(5)).await;
    }
    rates
}

/// CPU seconds that this process and its workers have taken.
fn cpu(host: &Host) -> [f64; 2] {
    let processes = host.worker_stats().expect("workers").processes;
    let workers = processes
        .iter()
        .map(|process| taken(&process.pid.to_string()));
    [taken("self"), workers.sum()]
}

fn taken(pid: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    // Behind its name, which may hold anything: user and system time, in hundredths of a second.
    let (_, stat) = stat.rsplit_once(')').expect("a name");
    let times = stat.split_whitespace().skip(11).take(2);
    times
        .map(|time| time.parse::<f64>().expect("a number"))
        .sum::<f64>()
        / 100.0
}

/// Predictions a second, by clients that each wait for their answer.
async fn rate(program: &DspyService) -> f64 {
    let began = Instant::now();
    let end = began + ROUND;
    let clients = (0..AT_ONCE).map(|client| {
        let program = program.clone();
        tokio::spawn(async move {
            let mut made = 0;
            while Instant::now() < end {
                let answer = program.clone().oneshot(ask(client)).await;
                assert_eq!(answer.expect("an answer").outputs["answer"], "Paris");
                made += 1;
            }
            made
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut made = 0;
    for client in clients {
        made += client.await.expect("a client");
    }
    f64::from(made) / began.elapsed().as_secs_f64()
}

async fn in_turn(program: &DspyService) -> Vec<Duration> {
    let mut took = Vec::with_capacity(IN_TURN);
    for n in 0..IN_TURN {
        let began = Instant::now();
        let answer = program.clone().oneshot(ask(n)).await;
        took.push(began.elapsed());
        answer.expect("an answer");
    }
    took
}

impl Rates {
    /// Two workers against the embedded host, round by round.
    pub(crate) fn gain(&self) -> f64 {
        let pairs = self.two.iter().zip(&self.embedded);
        median(pairs.map(|(two, embedded)| two / embedded).collect())
    }

    pub(crate) fn overhead_us(&self) -> f64 {
        (self.alone_worker.ms(50.0) - self.alone_embedded.ms(50.0)) * 1e3
    }

    pub(crate) fn print(&self) {
        println!(
            "median of {ROUNDS} rounds of {ROUND:?} with {AT_ONCE} predictions at once, and of as \
             many rounds of {IN_TURN} predictions in turn"
        );
        figure(
            "inprocess_predictions",
            median(self.embedded.clone()),
            "1/s",
        );
        figure("workers2_predictions", median(self.two.clone()), "1/s");
        // CPU time a prediction: what else runs on the machine tells in the rates, and not in these.
        for (n, name) in ["inprocess", "workers2_host", "workers2_workers"]
            .into_iter()
            .enumerate()
        {
            let cpu = self.cpu.iter().map(|cpu| cpu[n] / ROUND.as_secs_f64());
            figure(&format!("cpu_{name}"), 1e3 * median(cpu.collect()), "ms");
        }
        for (name, took) in [
            ("embedded", &self.alone_embedded),
            ("worker", &self.alone_worker),
        ] {
            for (percentile, p) in [("p50", 50.0), ("p99", 99.0)] {
                figure(&format!("{name}_prediction_{percentile}"), took.ms(p), "ms");
            }
        }
    }
}
