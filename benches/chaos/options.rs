//! The options of the command line.

use std::time::Duration;

use lexopt::{Arg, Parser, ValueExt};

/// What the run is to do.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// How long there are faults.
    pub(crate) length: Duration,
    pub(crate) seed: u64,
    pub(crate) inject: Option<Inject>,
    /// The process is the scripted LM, and this is its seed.
    pub(crate) lm_server: Option<u64>,
}

/// A fault of the servers, which the run has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inject {
    /// Some calls leave a descriptor, a task and memory behind.
    Leak,
    /// Some calls get no answer.
    Lose,
}

impl Options {
    pub(crate) fn parse() -> Result<Self, lexopt::Error> {
        let mut options = Self {
            length: Duration::from_secs(120),
            seed: fastrand::u64(..),
            inject: None,
            lm_server: None,
        };
        let mut arguments = Parser::from_env();
        while let Some(argument) = arguments.next()? {
            match argument {
                Arg::Long("minutes") => {
                    let minutes: f64 = arguments.value()?.parse()?;
                    options.length = Duration::try_from_secs_f64(minutes * 60.0)
                        .map_err(|error| lexopt::Error::Custom(error.into()))?;
                }
                Arg::Long("seed") => options.seed = arguments.value()?.parse()?,
                Arg::Long("inject") => {
                    let what = arguments.value()?.string()?;
                    options.inject = Some(match &*what {
                        "leak" => Inject::Leak,
                        "lose" => Inject::Lose,
                        _ => return Err("--inject takes `leak` or `lose`".into()),
                    });
                }
                Arg::Long("lm-server") => {
                    options.lm_server = Some(arguments.value()?.parse()?);
                }
                // Cargo's own.
                Arg::Long("bench") => {}
                _ => return Err(argument.unexpected()),
            }
        }
        Ok(options)
    }
}
