//! The LM's own process: its orders are `calm`, `faults` and `read`.

use std::{collections::BTreeMap, io, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, Stdin},
    time::interval,
};
use tower_dspy::testing::scripted_lm::ScriptedLm;

use crate::faults::{Fault, REPLIES, Weather};

/// The models: for agents, and for all other programs.
pub(crate) const MODELS: [&str; 2] = ["plain", "agent"];

/// Obeys until the standard input ends.
pub(crate) async fn run(seed: u64) -> io::Result<()> {
    let mut server = LmServer {
        lm: ScriptedLm::start().await?,
        random: fastrand::Rng::with_seed(seed),
        calm: true,
        scheduled: MODELS.map(|_| vec![]),
        requests: 0,
        faults: BTreeMap::new(),
    };
    let mut orders: Lines<BufReader<Stdin>> = BufReader::new(tokio::io::stdin()).lines();
    let mut seconds = interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            order = orders.next_line() => match order?.as_deref() {
                None => return Ok(()),
                Some(order) => {
                    if order != "read" {
                        server.calm = order == "calm";
                        server.schedule();
                    }
                    println!("{}", server.reading());
                }
            },
            _ = seconds.tick() => server.schedule(),
        }
    }
}

struct LmServer {
    lm: ScriptedLm,
    random: fastrand::Rng,
    calm: bool,
    /// The faults of the replies that are scripted now, for each model.
    scheduled: [Vec<Option<Fault>>; MODELS.len()],
    requests: u64,
    faults: BTreeMap<Fault, u64>,
}

impl LmServer {
    /// Counts the replies that were used, and schedules the next ones.
    fn schedule(&mut self) {
        let weather = match self.calm {
            true => Weather::CALM,
            false => Weather::random(&mut self.random),
        };
        for (model, scheduled) in MODELS.into_iter().zip(&mut self.scheduled) {
            let replies = (0..REPLIES).map(|_| weather.reply(&mut self.random, model == "agent"));
            let (replies, faults): (Vec<_>, Vec<_>) = replies.unzip();
            self.lm.script(model, replies);
            let used = self.lm.requests(model).len();
            self.lm.forget(model);
            self.requests += used as u64;
            for fault in scheduled.iter().take(used).flatten() {
                *self.faults.entry(*fault).or_default() += 1;
            }
            *scheduled = faults;
        }
    }

    fn reading(&self) -> Value {
        let faults = self.faults.iter();
        let faults: BTreeMap<_, _> = faults.map(|(f, n)| (format!("{f:?}"), n)).collect();
        json!({
            "base_url": self.lm.base_url(),
            "connections": self.lm.connections(),
            "requests": self.requests,
            "faults": faults,
        })
    }
}
