//! Our side: it answers the lines of the comparison with one number each.

use std::{collections::HashMap, env, fs, io, sync::Mutex, time::Duration};

use futures_util::{StreamExt, future::join_all};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tower::ServiceExt;
use tower_dspy::{
    Host, Lm, PredictRequest, PredictionStream, StreamEvent, StreamingService,
    service::Function,
    testing::scripted_lm::{Reply, ScriptedLm},
};

use super::{corpus, lm::now, support::median, support::until};

/// The CPU time of the process with all its threads, by the clock that the Python sides read.
const CLOCK: &str = "
import time

async def cpu(): return time.process_time()
";

pub(crate) async fn run(host: &Host) {
    let url = env::var("TOWER_DSPY_BENCH_URL").expect("the LM's URL");
    let clock = host.function("cpu", Some(CLOCK)).await.expect("a clock");
    let ours = Ours {
        host,
        url,
        clock,
        programs: Mutex::default(),
    };
    println!("ready");
    for line in io::stdin().lines() {
        let line = line.expect("a line");
        let mut words = line.split(' ');
        let what = words.next().expect("a word");
        let [streams, tokens] =
            [(); 2].map(|()| words.next().and_then(|n| n.parse().ok()).expect("a number"));
        let answer = match what {
            "cpu" => ours.cpu(streams, tokens, 0).await,
            "paced" => ours.cpu(streams, tokens, 2).await,
            "first" => ours.first(streams).await,
            "drop" => ours.dropped(streams).await,
            "fast" => ours.lag(streams, tokens, false).await,
            "slow" => ours.lag(streams, tokens, true).await,
            "memory" => ours.memory(streams).await,
            "replaced" => corpus::run(host).await.replaced as f64,
            "lost" => corpus::run(host).await.lost as f64,
            _ => panic!("no measurement `{what}`"),
        };
        println!("{answer}");
    }
}

struct Ours<'a> {
    host: &'a Host,
    url: String,
    clock: Function,
    programs: Mutex<HashMap<String, StreamingService>>,
}

impl Ours<'_> {
    /// A stream of a program that is loaded once for each model.
    async fn stream(&self, model: &str) -> PredictionStream {
        let loaded = self.programs.lock().expect("a lock").get(model).cloned();
        let program = match loaded {
            Some(program) => program,
            None => self.load(model).await,
        };
        let request = PredictRequest::new(json!({"question": "?"}));
        program.oneshot(request).await.expect("a stream")
    }

    async fn load(&self, model: &str) -> StreamingService {
        let lm = Lm::new(format!("openai/{model}"))
            .base_url(&*self.url)
            .key("unused");
        let load = self
            .host
            .load("question -> answer")
            .lm(lm)
            .max_in_flight(1024);
        let program = load.await.expect("a program").streaming();
        let mut programs = self.programs.lock().expect("a lock");
        programs.insert(model.to_owned(), program.clone());
        program
    }

    async fn now(&self) -> f64 {
        let now = self.clock.call(json!({})).await.expect("a time");
        now.as_f64().expect("a number")
    }

    async fn cpu(&self, streams: usize, tokens: usize, between: usize) -> f64 {
        let began = self.now().await;
        for _ in 0..streams {
            let text = text(self.stream(&format!("{tokens}-0-{between}")).await).await;
            assert_eq!(text.split_whitespace().count(), tokens);
        }
        self.now().await - began
    }

    async fn first(&self, streams: usize) -> f64 {
        let mut times = Vec::new();
        for _ in 0..streams {
            let mut stream = self.stream("3-20-20").await;
            let event = stream.next().await;
            let seen = now();
            let Some(Ok(StreamEvent::Text { delta, .. })) = event else {
                panic!("{event:?}")
            };
            let text = delta + &text(stream).await;
            let sent = text
                .split_whitespace()
                .next()
                .and_then(|sent| sent.parse::<f64>().ok());
            times.push(seen - sent.expect("a time"));
        }
        median(times)
    }

    /// From dropping a stream until the LM's server has seen its client go; the 99th percentile.
    async fn dropped(&self, streams: usize) -> f64 {
        let lm = ScriptedLm::start().await.expect("an LM server");
        let text = format!("[[ ## answer ## ]]\n{}", "token ".repeat(1_000_000));
        lm.script(
            "dropped",
            Reply::content(text).drip(Duration::from_millis(5)),
        );
        let load = self.host.load("question -> answer");
        let load = load.lm(Lm::new("openai/dropped")
            .base_url(lm.base_url())
            .key("unused"));
        let program = load.await.expect("a program").streaming();
        let mut times = Vec::new();
        for n in 0..streams {
            let request = PredictRequest::new(json!({"question": "?"}));
            let mut stream = program.clone().oneshot(request).await.expect("a stream");
            for _ in 0..3 {
                stream.next().await.expect("an event").expect("a text");
            }
            let dropped = Instant::now();
            drop(stream);
            let gone = || lm.requests("dropped")[n].client_gone;
            assert!(until(|| gone().is_some()).await, "a stream that goes on");
            times.push((gone().expect("an instant") - dropped).as_secs_f64());
        }
        percentile_99(times)
    }

    /// How late the tokens of `streams` readers come, of which none waits for anything; the 99th
    /// percentile.
    async fn lag(&self, streams: usize, tokens: usize, beside_a_slow_one: bool) -> f64 {
        let slow = async {
            if !beside_a_slow_one {
                return std::future::pending().await;
            }
            // Far more than all buffers on the way hold.
            let mut stream = self.stream("500000-0-0").await;
            loop {
                sleep(Duration::from_millis(30)).await;
                stream.next().await.expect("an event").expect("a text");
            }
        };
        let model = format!("{tokens}-500-100");
        let fast = join_all((0..streams).map(|_| async {
            let mut stream = self.stream(&model).await;
            let mut lags = Vec::new();
            while let Some(event) = stream.next().await {
                let seen = now();
                if let StreamEvent::Text { delta, .. } = event.expect("an event") {
                    // Those that waited for the reader are one text.
                    for sent in delta.split_whitespace() {
                        lags.push(seen - sent.parse::<f64>().expect("a time"));
                    }
                }
            }
            lags
        }));
        tokio::select! {
            lags = fast => percentile_99(lags.into_iter().flatten().collect()),
            () = slow => 0.0,
        }
    }

    /// The megabytes by which the process has grown when these streams were dropped.
    async fn memory(&self, streams: usize) -> f64 {
        let before = resident();
        for _ in 0..streams / 50 {
            let dropped = (0..50).map(|_| async {
                let mut stream = self.stream("100000-0-1").await;
                stream.next().await.expect("an event").expect("a text");
            });
            join_all(dropped).await;
        }
        let stats = || self.host.stats();
        assert!(
            until(|| stats().running + stats().streams == 0).await,
            "streams that go on"
        );
        resident() - before
    }
}

async fn text(mut stream: PredictionStream) -> String {
    let mut text = String::new();
    while let Some(event) = stream.next().await {
        match event.expect("an event") {
            StreamEvent::Text { delta, .. } => text += &delta,
            StreamEvent::Done(_) => return text,
            other => panic!("{other:?}"),
        }
    }
    panic!("no end")
}

fn percentile_99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() * 99 / 100]
}

/// Megabytes of memory that the process has.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("the status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1));
    kilobytes
        .and_then(|n| n.parse::<f64>().ok())
        .expect("a number")
        / 1024.0
}
