//! The measurement whether a server stops an answer when its connection is closed.
//!
//! An answer is begun, its connection closed, and the server watched until the work is over: by its own
//! gauge, if it [has one](super::work_gauge), else by the time that the next call waits. That tells
//! something only of a server with one slot; whether it has one is found out before, by a call beside
//! the answer.

use std::{fmt, time::Duration};

use http_body_util::BodyExt;
use tokio::time::{Instant, sleep, timeout};
use tower_dspy::lm::LmBody;

use super::{
    chat::{ChatClient, LONG},
    work_gauge::WorkGauge,
};
use crate::stage::{Trouble, time};

/// How many pieces of an answer are read before it is broken off.
const PIECES: u32 = 8;
/// The time between two readings of a gauge.
const STEP: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Debug)]
pub(super) enum Stopping {
    /// The work was over so long after the connection was closed.
    Stopped {
        after: Duration,
        how: String,
    },
    /// The work went on for so long, or at least for so long.
    WentOn {
        lasted: Duration,
        is_over: bool,
        how: String,
    },
    Unknown(String),
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped { after, how } => write!(
                f,
                "the generation ended {} after its connection was closed ({how})",
                time(*after)
            ),
            Self::WentOn {
                lasted,
                is_over,
                how,
            } => {
                let least = if *is_over { "" } else { "more than " };
                write!(
                    f,
                    "the generation went on for {least}{} after its connection was closed ({how})",
                    time(*lasted)
                )
            }
            Self::Unknown(why) => write!(f, "cannot be told: {why}"),
        }
    }
}

/// The limits of the measurement.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoppingLimits {
    /// What ends within this time has stopped: SGLang looks for closed connections every 2 s.
    pub(super) prompt: Duration,
    /// How long the server is watched.
    pub(super) longest: Duration,
}

impl Default for StoppingLimits {
    fn default() -> Self {
        Self {
            prompt: Duration::from_secs(3),
            longest: Duration::from_secs(30),
        }
    }
}

impl StoppingLimits {
    /// Measures it. It costs up to two answers of [`LONG`] tokens, and a few of one token.
    pub(super) async fn measure(self, server: &ChatClient) -> Stopping {
        let found = match WorkGauge::find(server).await {
            Some(gauge) => self.by_gauge(server, gauge).await,
            None => self.by_waiting(server).await,
        };
        found.unwrap_or_else(|trouble| Stopping::Unknown(trouble.to_string()))
    }

    async fn by_gauge(self, server: &ChatClient, gauge: WorkGauge) -> Result<Stopping, Trouble> {
        let reading = async || gauge.read(server).await.ok_or("its gauge is gone");
        let began = Instant::now();
        while reading().await? > 0 {
            if began.elapsed() > self.prompt {
                return Err("the server works on other requests too".into());
            }
            sleep(STEP).await;
        }
        let mut answer = BegunAnswer::begin(server, true).await?;
        // Some servers set it now and then only.
        let began = Instant::now();
        while reading().await? == 0 {
            answer.read_for(STEP).await?;
            if began.elapsed() > self.prompt {
                return Err(format!("the answer is not seen {gauge}").into());
            }
        }
        let rest = answer.rest();
        drop(answer);
        let closed = Instant::now();
        while reading().await? > 0 {
            let since = closed.elapsed();
            if since > self.longest {
                return Ok(Self::went_on(since, gauge.to_string()));
            }
            // An idle engine may not set its gauge before it has something to do.
            match since < self.prompt / 2 {
                true => sleep(STEP).await,
                false => drop(timeout(self.prompt, server.short()).await),
            }
        }
        self.ended(closed.elapsed(), rest, gauge.to_string())
    }

    async fn by_waiting(self, server: &ChatClient) -> Result<Stopping, Trouble> {
        let mut alone = Duration::MAX;
        for _ in 0..3 {
            let asked = Instant::now();
            server.short().await?;
            alone = alone.min(asked.elapsed());
        }
        let mut answer = BegunAnswer::begin(server, false).await?;
        {
            // Within its body no answer is left unread, which would hold the server up.
            let beside = server.short();
            tokio::pin!(beside);
            let began = Instant::now();
            while began.elapsed() < self.prompt + 2 * alone {
                tokio::select! {
                    answered = &mut beside => {
                        answered?;
                        return Err(
                            "the server has no gauge, and answers several calls at once, so that \
                             none waits for another".into(),
                        );
                    }
                    read = answer.read_for(STEP) => read?,
                }
            }
        }
        let rest = answer.rest();
        drop(answer);
        let closed = Instant::now();
        let answered = timeout(self.longest, server.short()).await;
        let lasted = closed.elapsed().saturating_sub(alone);
        let how = "by the wait of the next call: it answers one at a time";
        match answered {
            Ok(answered) => answered?,
            Err(_) => return Ok(Self::went_on(lasted, how.to_owned())),
        }
        self.ended(lasted, rest, how.to_owned())
    }

    /// The work was over after `lasted`, of an answer that had so much left.
    fn ended(self, lasted: Duration, rest: Duration, how: String) -> Result<Stopping, Trouble> {
        match lasted < self.prompt {
            true if rest < 2 * self.prompt => Err("its answers are over too soon".into()),
            true => Ok(Stopping::Stopped { after: lasted, how }),
            false => Ok(Stopping::WentOn {
                lasted,
                is_over: true,
                how,
            }),
        }
    }

    /// The work was not over after `lasted`.
    const fn went_on(lasted: Duration, how: String) -> Stopping {
        Stopping::WentOn {
            lasted,
            is_over: false,
            how,
        }
    }
}

/// An answer that is under way.
struct BegunAnswer {
    body: LmBody,
    began: Instant,
    /// The events that came: about one for a token.
    pieces: u32,
}

impl BegunAnswer {
    async fn begin(server: &ChatClient, to_the_end: bool) -> Result<Self, Trouble> {
        let body = server.long(to_the_end).await?;
        let mut answer = Self {
            body,
            began: Instant::now(),
            pieces: 0,
        };
        while answer.pieces < PIECES {
            answer.read().await?;
        }
        Ok(answer)
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        let Some(frame) = self.body.frame().await else {
            return Err("its answers are over too soon".into());
        };
        // A frame has all events that came with one read of the connection.
        let data = frame?.into_data().unwrap_or_default();
        let events = data.split(|byte| *byte == b'\n');
        let events = events.filter(|line| line.starts_with(b"data:")).count();
        self.pieces += u32::try_from(events).unwrap_or(u32::MAX);
        Ok(())
    }

    /// Reads on for so long.
    async fn read_for(&mut self, limit: Duration) -> Result<(), Trouble> {
        let read = async {
            loop {
                self.read().await?;
            }
        };
        timeout(limit, read).await.unwrap_or(Ok(()))
    }

    /// The time that the rest of the answer takes at the pace so far.
    fn rest(&self) -> Duration {
        let piece = self.began.elapsed() / self.pieces.max(1);
        piece * LONG.saturating_sub(self.pieces)
    }
}

#[cfg(test)]
mod tests;
