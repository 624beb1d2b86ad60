//! [`Doctor`]: what is to be checked.

use std::{fmt, time::Duration};

#[cfg(feature = "python")]
use crate::host::Embedded;
#[cfg(feature = "workers")]
use crate::host::workers::Workers;
use crate::{host::Host, lm::Lm, service::Load};

/// Checks a set-up before it serves: see [the module](super).
#[derive(Debug, Default)]
#[must_use = "nothing is checked before `run`"]
pub struct Doctor {
    pub(super) host: Option<HostUnderTest>,
    pub(super) programs: Vec<ProgramUnderTest>,
    /// The limit of one answer; `None`: no LM is asked.
    pub(super) answer_limit: Option<Duration>,
}

/// The host to be checked.
#[derive(Debug)]
pub(super) enum HostUnderTest {
    #[cfg(feature = "python")]
    Embedded(Embedded),
    #[cfg(feature = "workers")]
    Workers(Box<Workers>),
    Started(Host),
}

/// A program to be checked.
pub(super) enum ProgramUnderTest {
    Named { target: String, lm: Option<Box<Lm>> },
    Load(Box<dyn FnOnce(&Host) -> Load + Send>),
}

impl fmt::Debug for ProgramUnderTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named { target, lm } => f.debug_tuple("Program").field(target).field(lm).finish(),
            Self::Load(_) => f.write_str("Load(..)"),
        }
    }
}

impl Doctor {
    /// A doctor that checks this process alone, until it is given a host and programs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts this host in this process and checks it, in place of one that was given before.
    #[cfg(feature = "python")]
    pub fn embedded(mut self, settings: Embedded) -> Self {
        self.host = Some(HostUnderTest::Embedded(settings));
        self
    }

    /// Starts this host with worker processes and checks it, in place of one that was given
    /// before.
    #[cfg(feature = "workers")]
    pub fn workers(mut self, settings: Workers) -> Self {
        self.host = Some(HostUnderTest::Workers(Box::new(settings)));
        self
    }

    /// Checks this host, which runs already, in place of one that was given before.
    pub fn host(mut self, host: Host) -> Self {
        self.host = Some(HostUnderTest::Started(host));
        self
    }

    /// Loads this program with its LM, as [`Host::load`] does, and checks both; `None` is for a
    /// program that has an LM of its own or asks none. May be called more than once.
    pub fn program(mut self, target: impl Into<String>, lm: impl Into<Option<Lm>>) -> Self {
        self.programs.push(ProgramUnderTest::Named {
            target: target.into(),
            lm: lm.into().map(Box::new),
        });
        self
    }

    /// The same for a program that is loaded with more than an LM, such as several LMs, a state or
    /// tools.
    ///
    /// ```no_run
    /// use tower_dspy::{Host, Lm, doctor::Doctor};
    ///
    /// let doctor = Doctor::new().load(|host: &Host| {
    ///     let lm = Lm::new("openai/gpt-4o-mini").key_env("OPENAI_API_KEY");
    ///     host.load("programs.qa:Program").lm(lm).state("qa.json").max_in_flight(200)
    /// });
    /// # let _ = doctor;
    /// ```
    pub fn load(mut self, load: impl FnOnce(&Host) -> Load + Send + 'static) -> Self {
        self.programs.push(ProgramUnderTest::Load(Box::new(load)));
        self
    }

    /// Also asks each LM one question of a few tokens, which the provider charges: only an answer
    /// shows that the key is accepted and that the model exists. `limit` is the longest time of one
    /// answer. Without this no request is sent to any LM.
    pub fn ask_lms(mut self, limit: Duration) -> Self {
        self.answer_limit = Some(limit);
        self
    }
}
