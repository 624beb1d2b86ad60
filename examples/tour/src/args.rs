//! The command line.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use lexopt::{Arg, Parser, ValueExt};

pub(crate) const USAGE: &str = "\
Usage: cargo run --release [-- [COMMAND] [OPTIONS]]

Commands:
  (none)          play the tour: thirteen scenes and a comparison
  doctor          check Python, the venv, DSPy and the LM, and say what to do about it;
                  with --lm also measure whether its server stops an answer whose
                  connection is closed, which costs some thousand tokens
  picture FOLDER  play one call that is given up, the usual way and ours, and draw
                  it into FOLDER: timeline-light.svg and timeline-dark.svg

Options:
  --lm URL        an LM that speaks OpenAI's chat completions, such as
                  http://127.0.0.1:8000/v1, in place of the scripted one
  --model NAME    its model; goes with --lm
  --key-env VAR   the environment variable that holds its key
  --limit MS      the limit of most calls of the tour or the picture, in milliseconds; by
                  default 300, and 50 with --lm. A busy machine may need more, and the
                  tour then takes longer
  --report PATH   where the tour writes the timelines of its calls; by default
                  target/tour/report.html, or tour/report.html among the
                  temporary files of the system where there is no target
  -h, --help      print this

RUST_LOG=debug shows what happens inside, on stderr.";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) command: Command,
    pub(crate) lm: Option<RealLm>,
    /// `None`: the usual limit.
    pub(crate) limit: Option<Duration>,
    /// `None`: the usual place.
    pub(crate) report: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Tour,
    Doctor,
    /// Draws into this folder.
    Picture(PathBuf),
    Help,
}

/// An LM that the tour did not start.
#[derive(Clone, Debug)]
pub(crate) struct RealLm {
    pub(crate) url: String,
    pub(crate) model: String,
    pub(crate) key_env: Option<String>,
}

impl Args {
    /// Reads the arguments.
    pub(crate) fn parse(mut parser: Parser) -> Result<Self, lexopt::Error> {
        let mut command = Command::Tour;
        let (mut url, mut model, mut key_env) = (None, None, None);
        let (mut limit, mut report) = (None, None);
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Short('h') | Arg::Long("help") => {
                    return Ok(Self {
                        command: Command::Help,
                        lm: None,
                        limit: None,
                        report: None,
                    });
                }
                Arg::Long("lm") => url = Some(parser.value()?.string()?),
                Arg::Long("model") => model = Some(parser.value()?.string()?),
                Arg::Long("key-env") => key_env = Some(parser.value()?.string()?),
                Arg::Long("limit") => {
                    let ms: NonZeroU32 = parser.value()?.parse()?;
                    limit = Some(Duration::from_millis(ms.get().into()));
                }
                Arg::Long("report") => report = Some(parser.value()?.into()),
                Arg::Value(value) if value == "doctor" && command == Command::Tour => {
                    command = Command::Doctor;
                }
                Arg::Value(value) if value == "picture" && command == Command::Tour => {
                    command = Command::Picture(parser.value()?.into());
                }
                _ => return Err(arg.unexpected()),
            }
        }
        let lm = match (url, model) {
            (Some(_), _) if matches!(command, Command::Picture(_)) => {
                return Err("the picture is of the scripted LM: leave --lm out".into());
            }
            (Some(url), Some(model)) => Some(RealLm {
                url,
                model,
                key_env,
            }),
            (None, None) if key_env.is_none() => None,
            (None, _) => return Err("--model and --key-env go with --lm".into()),
            (Some(_), None) => return Err("--lm goes with --model".into()),
        };
        Ok(Self {
            command,
            lm,
            limit,
            report,
        })
    }
}
