//! What becomes of long questions whose callers give up after 400 ms, by what people would pick:
//! plain PyO3, a peer's time limiter around it, a FastAPI sidecar, the LiteLLM proxy, and this crate.
//!
//! All ways ask the same scripted LM, over HTTP on loopback, with the same two programs and the same
//! DSPy. Each way is a process of its own, and they take turns. A first question, which is answered
//! at once, opens connections and is not counted. The LM writes a token every 40 ms, for about 8 s.
//!
//! The peers are installed by their lock, with hashes, into `target/comparison-venv`, which takes a
//! minute or two at the first run. Where that fails there are no figures at all.
//!
//! Run: `cargo bench --bench comparison`, or `cargo bench --bench comparison -- fastapi` for the ways
//! whose names begin so

#[path = "../support/figures.rs"]
#[allow(dead_code, reason = "each benchmark uses a part of it")]
mod figures;

mod callers;
mod found;
mod litellm_proxy;
mod part;
mod peers;
mod plain_python;
mod sidecar;
mod ways;

use std::{env, io, path::Path, process::ExitCode, time::Duration};

use tower_dspy::testing::scripted_lm::{Reply, ScriptedLm};

use self::{
    found::Found,
    ways::{WAYS, Way},
};

pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// How long a caller waits for its answer.
pub(crate) const LIMIT: Duration = Duration::from_millis(400);
/// How many callers ask at the same time.
pub(crate) const CALLERS: usize = 8;
/// How long the LM takes for a token.
const TOKEN: Duration = Duration::from_millis(40);
/// How many words an answer has.
const WORDS: usize = 190;

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match part::from_env() {
        Some(part) => part::run(&part).await,
        None => compare().await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("{trouble}");
            ExitCode::FAILURE
        }
    }
}

async fn compare() -> Result<(), Trouble> {
    let chosen: Vec<String> = env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let is_chosen = |way: &Way| {
        chosen.is_empty()
            || chosen
                .iter()
                .any(|begin| way.name.starts_with(begin.as_str()))
    };
    let ways: Vec<&Way> = WAYS.iter().filter(|way| is_chosen(way)).collect();
    if ways.is_empty() {
        let names: Vec<_> = WAYS.iter().map(|way| way.name).collect();
        return Err(format!("no way begins with {chosen:?}: {}", names.join(", ")).into());
    }
    let venv = peers::install().await?;
    print!("{}", peers::versions(&venv).await?);
    let lm = ScriptedLm::start().await?;
    let mut all = Vec::new();
    for way in ways {
        eprintln!("{} ...", way.title);
        let found = measure(way, &lm, &venv).await;
        let found = found.map_err(|trouble| format!("{}: {trouble}", way.name))?;
        all.push((way, found));
    }
    found::print(&all, &mut io::stdout())?;
    Ok(())
}

/// Plays one way, to the end of the last answer.
async fn measure(way: &Way, lm: &ScriptedLm, venv: &Path) -> Result<Found, Trouble> {
    let slow = Reply::answer(vec!["word"; WORDS].join(" ")).drip(TOKEN);
    lm.script(way.name, [Reply::answer("ready"), slow]);
    let mut running = way.start(lm, venv).await?;
    let gave_up = running.ask().await?;
    let found = Found::watch(lm, way.name, &gave_up, async || running.counts().await).await;
    running.end().await;
    found
}
