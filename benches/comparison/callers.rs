//! The callers: they ask at the same time, each its own question, and give up.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::Instant};

use crate::{CALLERS, Trouble};

/// When each caller gave up, by its number.
pub(crate) type GaveUp = HashMap<usize, Instant>;

/// The question that a way is asked first, and that is answered at once.
pub(crate) const FIRST: &str = "[first] Are you ready?";

/// A question that says which caller asked it.
pub(crate) fn question(n: usize) -> String {
    format!("[{n}] Tell the history of the lighthouse in three thousand words.")
}

/// Which caller asked what is in this prompt; `None` for the first question.
pub(crate) fn caller_in(prompt: &str) -> Option<usize> {
    (0..CALLERS).find(|n| prompt.contains(&format!("[{n}] ")))
}

/// Lets all callers ask at once. `ask` returns whether there was an answer, once its caller has it
/// or has given up.
pub(crate) async fn ask_all<F>(ask: impl Fn(String) -> F) -> Result<GaveUp, Trouble>
where
    F: Future<Output = bool> + Send + 'static,
{
    let mut callers = JoinSet::new();
    for n in 0..CALLERS {
        let asked = ask(question(n));
        callers.spawn(async move { (n, asked.await, Instant::now()) });
    }
    let mut gave_up = GaveUp::new();
    while let Some(caller) = callers.join_next().await {
        let (n, is_answered, at) = caller?;
        if is_answered {
            return Err("a question was answered in time, so nobody gave it up".into());
        }
        gave_up.insert(n, at);
    }
    Ok(gave_up)
}

/// The times as another process of this machine can read them: nanoseconds since 1970.
pub(crate) fn to_json(gave_up: &GaveUp) -> Result<Value, Trouble> {
    let now = (
        Instant::now(),
        SystemTime::now().duration_since(UNIX_EPOCH)?,
    );
    let nanos = gave_up.iter().map(|(n, at)| {
        let at = now.1.saturating_sub(now.0.saturating_duration_since(*at));
        Ok((n.to_string(), u64::try_from(at.as_nanos())?.into()))
    });
    Ok(Value::Object(nanos.collect::<Result<_, Trouble>>()?))
}

/// The times of another process on the clock of this one.
pub(crate) fn from_json(times: &Value) -> Result<GaveUp, Trouble> {
    let now = (
        Instant::now(),
        SystemTime::now().duration_since(UNIX_EPOCH)?,
    );
    let times = times.as_object().ok_or("no times of the callers")?;
    let read = times.iter().map(|(n, nanos)| {
        let nanos = nanos.as_u64().ok_or("a time that is no number")?;
        let ago = now.1.saturating_sub(std::time::Duration::from_nanos(nanos));
        Ok((n.parse()?, now.0 - ago))
    });
    read.collect()
}

/// A line for the process that plays a way: nothing to tell.
pub(crate) fn no_counts() -> Value {
    json!({})
}
