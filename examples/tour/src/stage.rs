//! What the scenes share: Python, the LM, and a few ways to ask.

use std::{
    error::Error as StdError,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::json;
use tokio::time::{Instant, sleep};
use tower::{Service, ServiceExt};
use tower_dspy::{
    Classify, DspyService, Error, ErrorKind, Host, Lm, PredictRequest, Prediction, StartError,
    host::env::PythonEnv,
    testing::scripted_lm::{Reply, RequestRecord, Script, ScriptedLm},
};

use crate::{args::RealLm, report::Report};

/// What keeps a scene from being played to its end.
pub(crate) type Trouble = Box<dyn StdError + Send + Sync>;

/// How long after its caller's outcome a request may still be seen at the LM, and a call in Python:
/// far more than either needs, for machines that are busy with something else. In the scenes, at the usual
/// limit, what is not stopped goes on for longer.
pub(crate) const SETTLE: Duration = Duration::from_secs(2);

/// A question that takes any LM a while.
pub(crate) const LONG: &str = "Tell the history of the lighthouse in three thousand words.";

/// A question with a short answer.
pub(crate) const SHORT: &str = "In one sentence, why is the sky blue?";

/// The least [`Stage::short`] with the scripted LM, unless `--limit` gives another.
const SHORT_LIMIT: Duration = Duration::from_millis(300);
/// [`Stage::short`] with a real LM, unless `--limit` gives another.
const REAL_SHORT_LIMIT: Duration = Duration::from_millis(50);

/// The slowest pace that the limits go along with.
const MOST_PACE: Duration = Duration::from_millis(200);

/// Python and the LM.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) host: Host,
    lm: LmSide,
    short: Duration,
    orphans: AtomicUsize,
    pub(crate) report: Report,
}

#[derive(Debug)]
enum LmSide {
    Scripted(ScriptedLm),
    Real(RealLm),
}

/// The venv of the workspace.
pub(crate) fn venv_path() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .map_or_else(|| here.clone(), PathBuf::from)
        .join(".venv")
}

/// The tour's programs.
pub(crate) const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/programs");

/// Starts Python in `env`, with the tour's programs in reach.
pub(crate) async fn start_host(env: &PythonEnv) -> Result<Host, StartError> {
    Host::embedded()
        .venv(env.prefix())
        .python_path(PROGRAMS)
        .start()
        .await
}

impl Stage {
    /// The stage with the LM `real`, or a scripted one, and with this for its [short](Self::short) limit.
    pub(crate) async fn new(
        host: Host,
        real: Option<RealLm>,
        limit: Option<Duration>,
    ) -> Result<Self, Trouble> {
        let (lm, usual) = match real {
            Some(real) => (LmSide::Real(real), REAL_SHORT_LIMIT),
            None => (LmSide::Scripted(ScriptedLm::start().await?), SHORT_LIMIT),
        };
        let mut stage = Self {
            host,
            lm,
            short: limit.unwrap_or(usual),
            orphans: AtomicUsize::new(0),
            report: Report::default(),
        };
        if stage.scripted().is_some() {
            stage.short = stage.short.max(10 * stage.pace().await?);
        }
        Ok(stage)
    }

    /// How long this machine takes for an answer that comes at once. A call that ends before it
    /// has reached the LM shows nothing, so limits leave a busy machine more time.
    async fn pace(&self) -> Result<Duration, Trouble> {
        let answerer = self.answerer("pace", Reply::answer("yes")).await?;
        let mut slowest = Duration::ZERO;
        for n in 0..4 {
            let asked = ask(answerer.clone(), question(SHORT)).await;
            asked.result?;
            // The first one opens the connection.
            if n > 0 {
                slowest = slowest.max(asked.took);
            }
        }
        Ok(slowest.min(MOST_PACE))
    }

    /// The scripted LM, whose records tell what it saw; `None` with a real one.
    pub(crate) fn scripted(&self) -> Option<&ScriptedLm> {
        match &self.lm {
            LmSide::Scripted(lm) => Some(lm),
            LmSide::Real(_) => None,
        }
    }

    /// What the LM is called in the tour's first lines.
    pub(crate) fn lm_name(&self) -> String {
        match &self.lm {
            LmSide::Scripted(_) => "a scripted LM (real HTTP, on this machine)".into(),
            LmSide::Real(lm) => format!("{} at {}", lm.model, lm.url),
        }
    }

    /// The LM as `model`, which follows `script`. A real LM does what it does.
    pub(crate) fn lm(&self, model: &str, script: impl Into<Script>) -> Lm {
        match &self.lm {
            LmSide::Scripted(lm) => {
                lm.script(model, script);
                Lm::new(format!("openai/{model}"))
                    .base_url(lm.base_url())
                    .key("none")
            }
            LmSide::Real(real) => {
                let lm = Lm::new(format!("openai/{}", real.model)).base_url(&real.url);
                match &real.key_env {
                    Some(variable) => lm.key_env(variable),
                    None => lm.key("none"),
                }
            }
        }
    }

    /// The program that answers one question, asking the LM as `model`.
    pub(crate) async fn answerer(
        &self,
        model: &str,
        script: impl Into<Script>,
    ) -> Result<DspyService, Trouble> {
        let lm = self.lm(model, script);
        Ok(self.host.load("tour.answer:Answer").lm(lm).await?)
    }

    /// A limit that passes before the LM has answered [`LONG`].
    pub(crate) fn short(&self) -> Duration {
        self.short
    }

    /// A limit that an answer to [`SHORT`] keeps with ease.
    pub(crate) fn ample(&self) -> Duration {
        match &self.lm {
            LmSide::Scripted(_) => Duration::from_secs(10),
            LmSide::Real(_) => Duration::from_secs(60),
        }
    }

    /// Waits until the LM is at work on the first request to `model`.
    pub(crate) async fn at_work(&self, model: &str) -> Result<(), Trouble> {
        match &self.lm {
            LmSide::Scripted(lm) => {
                lm.wait_for(model, |requests| !requests.is_empty()).await?;
            }
            // A real LM does not say so.
            LmSide::Real(_) => sleep(self.short()).await,
        }
        Ok(())
    }

    /// Waits until Python runs nothing any more; false if it still does after `limit`.
    pub(crate) async fn python_idle(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let stats = self.host.stats();
            if stats.queued + stats.running + stats.orphans == 0 {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Counts the requests that went on after their callers had their outcomes.
    pub(crate) fn count_orphans(&self, orphans: usize) {
        self.orphans.fetch_add(orphans, Ordering::Relaxed);
    }

    /// All that were counted.
    pub(crate) fn orphans(&self) -> usize {
        self.orphans.load(Ordering::Relaxed)
    }
}

/// A request with a question.
pub(crate) fn question(text: &str) -> PredictRequest {
    PredictRequest::new(json!({ "question": text }))
}

/// A call that is over.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) result: Result<Prediction, Error>,
    pub(crate) took: Duration,
    /// When the caller had the outcome.
    pub(crate) ended: Instant,
}

impl Asked {
    /// The sort of failure; `None` if there was an answer.
    pub(crate) fn failure(&self) -> Option<ErrorKind> {
        self.result.as_ref().err().map(Classify::kind)
    }

    /// The answer, or why there is none.
    pub(crate) fn text(&self) -> String {
        match &self.result {
            Ok(prediction) => match prediction.get("answer").and_then(|answer| answer.as_str()) {
                Some(answer) => format!("\"{}\"", shortened(answer)),
                None => "no answer".into(),
            },
            Err(error) => first_line(error),
        }
    }
}

/// Asks and measures.
pub(crate) async fn ask<S>(service: S, request: PredictRequest) -> Asked
where
    S: Service<PredictRequest, Response = Prediction, Error = Error>,
{
    let began = Instant::now();
    let result = service.oneshot(request).await;
    let ended = Instant::now();
    Asked {
        result,
        took: ended - began,
        ended,
    }
}

/// How long after `since` the LM saw the last of its clients leave; zero if that was earlier.
pub(crate) fn left_after(records: &[RequestRecord], since: Instant) -> Option<Duration> {
    let left = records.iter().filter_map(|record| record.client_gone).max();
    left.map(|left| left.saturating_duration_since(since))
}

/// A duration for readers.
pub(crate) fn time(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        ..0.1 => format!("{:.0} µs", ms * 1e3),
        0.1..10.0 => format!("{ms:.1} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        _ if duration.subsec_millis() == 0 => format!("{} s", duration.as_secs()),
        _ => format!("{:.1} s", ms / 1e3),
    }
}

/// `n` things.
pub(crate) fn count(n: usize, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// What an error says at first. DSPy goes on with advice for callers of its own.
pub(crate) fn first_line(error: &Error) -> String {
    let error = error.to_string();
    error.lines().next().unwrap_or_default().trim().to_owned()
}

fn shortened(text: &str) -> String {
    const MOST: usize = 50;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{}...", start.trim_end())
}
