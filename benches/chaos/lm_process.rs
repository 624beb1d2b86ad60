//! The scripted LM in a process of its own, so that its memory and descriptors are in no reading.
//!
//! It obeys a line on its standard input with a line of JSON: `calm`, `faults`, `read`. It ends
//! with its standard input.

use std::{collections::BTreeMap, env, io, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, Stdin},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::interval,
};
use tower_dspy::testing::scripted_lm::ScriptedLm;

use crate::faults::{Fault, REPLIES, Weather};

/// The models: for agents, and for all other programs.
pub(crate) const MODELS: [&str; 2] = ["plain", "agent"];

/// The LM, seen from the process that measures.
pub(crate) struct LmProcess {
    pub(crate) base_url: String,
    pub(crate) pid: Option<u32>,
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl LmProcess {
    pub(crate) async fn start(seed: u64) -> io::Result<Self> {
        let mut child = Command::new(env::current_exe()?)
            .args(["--lm-server", &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (orders, answers) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        let mut lm = Self {
            base_url: String::new(),
            pid: child.id(),
            _child: child,
            orders,
            answers: BufReader::new(answers).lines(),
        };
        let started = lm.order("read").await?;
        lm.base_url = started["base_url"].as_str().unwrap_or_default().to_owned();
        Ok(lm)
    }

    /// Gives an order; returns the LM's readings after it.
    pub(crate) async fn order(&mut self, order: &str) -> io::Result<Value> {
        self.orders
            .write_all(format!("{order}\n").as_bytes())
            .await?;
        let answer = self.answers.next_line().await?;
        let answer = answer.ok_or_else(|| io::Error::other("the LM's process has ended"))?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// The connections that the LM has open.
    pub(crate) async fn connections(&mut self) -> io::Result<u64> {
        let read = self.order("read").await?;
        Ok(read["connections"].as_u64().unwrap_or(u64::MAX))
    }
}

/// The LM's own process.
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
